"""Write the UI form of an API workflow: `python -m scripts.make_workflow workflows/api/NAME.json`.

Nodes stand in columns, each to the right of everything it needs; their definitions come from a running ComfyUI with
this pack.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenetok_core.files import write_text
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import WORKFLOWS, Json, is_widget

ROOT = Path(__file__).resolve().parents[1]
_WIDTH, _GAP_X, _GAP_Y, _TOP = 340, 60, 60, 60
_SLOT, _WIDGET, _TEXT, _FRAME, _PREVIEW = 22, 26, 60, 30, 330
_SHOWS_RESULTS = {
    "PreviewAny",
    "PreviewImage",
    "SaveImage",
    "SaveVideo",
    "SceneTok_LoadPhotograph",
    "SceneTok_RenderTrajectory",
}
_OPTIONAL_SHAPE = 7


def definitions_of(info: Json) -> dict[str, list[Any]]:
    """A node's inputs by name, as `/object_info` describes them."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def columns(prompt: Mapping[str, Json]) -> dict[str, int]:
    """The column of every node: one more than the largest of what it needs."""
    column: dict[str, int] = {}

    def place(node_id: str) -> int:
        if node_id not in column:
            links = [value for value in prompt[node_id]["inputs"].values() if isinstance(value, list)]
            column[node_id] = max((place(source) + 1 for source, _ in links), default=0)
        return column[node_id]

    for node_id in prompt:
        place(node_id)
    return column


def ui_form(prompt: Mapping[str, Json], object_info: Mapping[str, Json], version: str) -> Json:
    """The UI workflow of an API prompt; nodes without a title of their own show their type's."""
    column, below = columns(prompt), {}
    nodes: dict[str, Json] = {}
    links: list[list[Any]] = []
    for order, (node_id, node) in enumerate(sorted(prompt.items(), key=lambda item: column[item[0]])):
        kind = node["class_type"]
        info, given = object_info[kind], node["inputs"]
        entries: list[Json] = []
        values: list[Any] = []
        for name, definition in definitions_of(info).items():
            widget = is_widget(definition)
            entry: Json = {"name": name, "type": "COMBO" if isinstance(definition[0], list) else definition[0]}
            entry |= {"widget": {"name": name}} if widget else {}
            entry |= {"shape": _OPTIONAL_SHAPE} if not widget and name in info["input"].get("optional", {}) else {}
            linked = isinstance(given.get(name), list)
            if linked:
                source, slot = given[name]
                kind_of_link = object_info[prompt[source]["class_type"]]["output"][slot]
                links.append([len(links) + 1, int(source), slot, int(node_id), len(entries), kind_of_link])
                nodes[source]["outputs"][slot]["links"].append(len(links))
            entries.append({**entry, "link": len(links) if linked else None})
            if widget:
                options = definition[1] if len(definition) > 1 else {}
                values.append(options.get("default") if linked else given[name])
                values += ["fixed"] if options.get("control_after_generate") else []
        outputs = [
            {"name": name, "type": socket, "links": []}
            for name, socket in zip(info["output_name"], info["output"], strict=True)
        ]
        texts = sum(bool(len(d) > 1 and d[1].get("multiline")) for d in definitions_of(info).values())
        slots = max(sum("widget" not in entry for entry in entries), len(outputs))
        height = _FRAME + _SLOT * slots + _WIDGET * len(values) + _TEXT * texts
        height += _PREVIEW if kind in _SHOWS_RESULTS else 0
        top = below.get(column[node_id], _TOP)
        below[column[node_id]] = top + height + _GAP_Y
        ours = kind.startswith("SceneTok_")
        nodes[node_id] = {
            "id": int(node_id),
            "type": kind,
            "pos": [40 + column[node_id] * (_WIDTH + _GAP_X), top],
            "size": [_WIDTH, height],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": entries,
            "outputs": outputs,
            "properties": {
                "Node name for S&R": kind,
                "cnr_id": "scenetok" if ours else "comfy-core",
                "ver": version if ours else "0.3.64",
            },
            "widgets_values": values,
        }
        title = node.get("_meta", {}).get("title")
        if title and title != info["display_name"]:
            nodes[node_id]["title"] = title
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(prompt, sort_keys=True))),
        "revision": 0,
        "last_node_id": max(map(int, prompt)),
        "last_link_id": len(links),
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.8, "offset": [40, 40]}},
        "version": 0.4,
    }


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the UI form of API workflows into workflows/.")
    parser.add_argument("files", nargs="+", type=Path, help="workflows/api/NAME.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scenetok_workflow_") as folder:
        engine = find_comfy(Path(folder))
        server = ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, ("--cpu",))
        with server, urllib.request.urlopen(f"{server.url}/object_info") as answer:
            object_info = json.load(answer)
    for file in options.files:
        prompt = json.loads(file.read_text(encoding="utf-8"))
        write_text(WORKFLOWS / file.name, json.dumps(ui_form(prompt, object_info, "0.1.0"), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
