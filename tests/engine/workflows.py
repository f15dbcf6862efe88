"""The two forms of a workflow: UI (what the page saves) and API (what `POST /prompt` takes)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTE = "MarkdownNote"  # a node of the page only
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def edited(prompt: Mapping[str, Json], **changes: Mapping[str, Any]) -> dict[str, Json]:
    """A copy of an API prompt with other inputs: `edited(prompt, SceneTok_LoadViews={"capture": "room"})`.

    Nodes are named by their class, which must occur once. An input set to None is removed.
    """
    result = {node_id: copy.deepcopy(node) for node_id, node in prompt.items()}
    for name, inputs in changes.items():
        (node,) = (node for node in result.values() if node["class_type"] == name)
        node["inputs"].update(inputs)
        node["inputs"] = {key: value for key, value in node["inputs"].items() if value is not None}
    return result


def is_widget(definition: list[Any]) -> bool:
    """Whether an input, as `/object_info` describes it, is a widget rather than a socket."""
    return isinstance(definition[0], list) or definition[0] in _WIDGET_TYPES


def _widget_values(node: Json, required: Mapping[str, list[Any]], optional: Mapping[str, list[Any]]) -> Json:
    """Stored values by name; a workflow from before an optional widget was added has none for it."""
    stored, inputs = node.get("widgets_values") or [], {}
    values = iter(stored)
    for name, definition in {**required, **optional}.items():
        if not is_widget(definition):
            continue
        try:
            inputs[name] = next(values)
        except StopIteration:
            if name in optional:
                break
            raise ValueError(f"node {node['id']} ({node['type']}) stores no value for {name}: {stored}") from None
        if len(definition) > 1 and definition[1].get("control_after_generate"):
            next(values)
    left = list(values)
    if left:
        raise ValueError(
            f"node {node['id']} ({node['type']}) stores {len(left)} more values than it has widgets: {left}"
        )
    return inputs


def to_api(workflow: Json, object_info: Mapping[str, Json]) -> dict[str, Json]:
    """The API prompt of a UI workflow, as the page would send it.

    Args:
        workflow: the saved UI workflow.
        object_info: answer of the server's `/object_info`.

    Raises:
        ValueError: stored widget values do not fit the nodes' definitions.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == NOTE:
            continue
        groups = object_info[node["type"]]["input"]
        inputs = _widget_values(node, groups.get("required", {}), groups.get("optional", {}))
        for socket in node["inputs"]:
            if socket.get("link") is not None:
                inputs[socket["name"]] = sources[socket["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
