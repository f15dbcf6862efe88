"""Write the UI form of an API workflow: `python -m scripts.make_workflow workflows/api/NAME.json`.

Inputs that a node got since the API workflow was written are added to it with their defaults.

Where nodes stand, their groups and the note beside them are read from `scripts/workflows.toml`; without an entry there
nodes stand in columns, each to the right of everything it needs. Definitions come from a running ComfyUI with the pack.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from scenetok_core.files import write_text
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import NOTE, WORKFLOWS, Json, is_widget

ROOT = Path(__file__).resolve().parents[1]
_WIDTH, _GAP_X, _GAP_Y, _TOP = 340, 60, 60, 60
_SLOT, _WIDGET, _TEXT, _FRAME, _PREVIEW = 22, 29, 60, 70, 330
_SHOWS_RESULTS = {
    "LoadVideo",
    "PreviewAny",
    "PreviewImage",
    "SaveImage",
    "SaveVideo",
    "SceneTok_LoadPhotograph",
    "SceneTok_LoadTokens",
    "SceneTok_PathPreview",
    "SceneTok_RenderTrajectory",
    "SceneTok_SaveTokens",
    "SceneTok_SceneInfo",
}
_SIZES = {"SceneTok_PathEditor": (660, 760)}  # of nodes that the page makes larger
_WITH_BUTTON = {
    "SceneTok_LoadPhotograph",
    "SceneTok_LoadTokens",
    "SceneTok_LoadViews",
}  # which the page adds, for uploads
_OPTIONAL_SHAPE = 7
_LAYOUTS = ROOT / "scripts" / "workflows.toml"
_PADDING, _TITLE, _FONT = 20, 80, 24  # of groups; the title of their first node takes part of theirs
_NOTE_WIDTH, _NOTE_LETTERS, _NOTE_LINE = 420, 56, 18
_NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}


@dataclass(frozen=True)
class Group:
    """A frame around columns of nodes."""

    title: str
    colour: str
    columns: list[list[str]]  # node ids from left to right, from top to bottom
    below: bool = False  # stands below the group before, instead of to its right


@dataclass(frozen=True)
class Layout:
    """How a workflow is laid out."""

    note: str  # Markdown, to the left of all groups
    groups: list[Group]


def read_layouts() -> dict[str, Json]:
    """All entries of `scripts/workflows.toml`."""
    return tomllib.loads(_LAYOUTS.read_text(encoding="utf-8"))


def read_layout(name: str, prompt: Mapping[str, Json]) -> Layout | None:
    """The layout of a workflow; None where it has none.

    Raises:
        ValueError: its groups do not hold every node once.
    """
    entry = read_layouts().get(name)
    if entry is None:
        return None
    groups = [Group(**group) for group in entry["groups"]]
    held = sorted(node_id for group in groups for column in group.columns for node_id in column)
    if held != sorted(prompt):
        raise ValueError(f"the groups of {name} hold the nodes {held}, but there are {sorted(prompt)}")
    return Layout(entry["note"].strip(), groups)


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


def stack(nodes: Mapping[str, Json], ids: list[str], left: int, top: int) -> int:
    """Place nodes in a column; returns where the next one would begin."""
    for node_id in ids:
        nodes[node_id]["pos"] = [left, top]
        top += nodes[node_id]["size"][1] + _GAP_Y
    return top


def side_by_side(nodes: Mapping[str, Json], ids: list[list[str]], left: int, top: int) -> tuple[int, int]:
    """Place columns of nodes next to each other; returns where they end on the right and below."""
    bottom = top
    for column in ids:
        bottom = max(bottom, stack(nodes, column, left, top) - _GAP_Y)
        left += max(nodes[node_id]["size"][0] for node_id in column) + _GAP_X
    return left - _GAP_X, bottom


def in_columns(nodes: Mapping[str, Json], column: Mapping[str, int]) -> None:
    """Place every node in its column."""
    side_by_side(
        nodes, [[each for each in nodes if column[each] == i] for i in range(max(column.values()) + 1)], 40, _TOP
    )


def in_groups(nodes: Mapping[str, Json], layout: Layout) -> list[Json]:
    """Place every node in its group; returns the groups as the page saves them."""
    frames: list[Json] = []
    left = right = 40 + _NOTE_WIDTH + _GAP_X
    bottom = _TOP
    for group in layout.groups:
        if group.below:
            top = bottom + _GAP_Y
        else:
            left, top = right, _TOP - _TITLE
        end, bottom = side_by_side(nodes, group.columns, left + _PADDING, top + _TITLE)
        width, bottom = end + _PADDING - left, bottom + _PADDING
        right = max(right, left + width + _GAP_X)
        frames.append(
            {
                "id": len(frames) + 1,
                "title": group.title,
                "bounding": [left, top, width, bottom - top],
                "color": group.colour,
                "font_size": _FONT,
                "flags": {},
            }
        )
    return frames


def note_node(text: str, node_id: int, order: int) -> Json:
    """A note in Markdown, which only the page knows."""
    lines = sum(max(1, -(-len(line) // _NOTE_LETTERS)) for line in text.splitlines())
    return {
        "id": node_id,
        "type": NOTE,
        "pos": [40, _TOP],
        "size": [_NOTE_WIDTH, _FRAME + _TEXT + _NOTE_LINE * lines],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [text],
        **_NOTE_COLOURS,
    }


def height_of(kind: str, info: Json, slots: int, widgets: int) -> int:
    """Pixels that a node needs in either kind of page."""
    texts = sum(bool(len(d) > 1 and d[1].get("multiline")) for d in definitions_of(info).values())
    extra = _PREVIEW * (kind in _SHOWS_RESULTS) + _WIDGET * (kind in _WITH_BUTTON)
    return _FRAME + _SLOT * slots + _WIDGET * widgets + _TEXT * texts + extra


def completed(prompt: Mapping[str, Json], object_info: Mapping[str, Json]) -> dict[str, Json]:
    """The prompt with the defaults of widgets that it does not name, which are newer than it is."""
    result = {}
    for node_id, node in prompt.items():
        inputs = dict(node["inputs"])
        for name, definition in definitions_of(object_info[node["class_type"]]).items():
            if is_widget(definition) and name not in inputs:
                options = definition[1] if len(definition) > 1 else {}
                inputs[name] = options.get("default", definition[0][0] if isinstance(definition[0], list) else None)
        result[node_id] = {**node, "inputs": inputs}
    return result


def ui_form(prompt: Mapping[str, Json], object_info: Mapping[str, Json], version: str, layout: Layout | None) -> Json:
    """The UI workflow of an API prompt; nodes without a title of their own show their type's."""
    column = columns(prompt)
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
        slots = max(sum("widget" not in entry for entry in entries), len(outputs))
        ours = kind.startswith("SceneTok_")
        nodes[node_id] = {
            "id": int(node_id),
            "type": kind,
            "pos": [0, 0],
            "size": list(_SIZES.get(kind, (_WIDTH, height_of(kind, info, slots, len(values))))),
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
    groups: list[Json] = []
    placed = list(nodes.values())
    if layout is None:
        in_columns(nodes, column)
    else:
        groups = in_groups(nodes, layout)
        placed.append(note_node(layout.note, max(map(int, prompt)) + 1, len(nodes)))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(prompt, sort_keys=True))),
        "revision": 0,
        "last_node_id": max(node["id"] for node in placed),
        "last_link_id": len(links),
        "nodes": placed,
        "links": links,
        "groups": groups,
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
        prompt = completed(json.loads(file.read_text(encoding="utf-8")), object_info)
        write_text(file, json.dumps(prompt, indent=2) + "\n")
        layout = read_layout(file.stem, prompt)
        text = json.dumps(ui_form(prompt, object_info, "0.1.0", layout), indent=2)
        write_text(WORKFLOWS / file.name, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
