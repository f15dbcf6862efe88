"""Record what workflows rely on: `python -m scripts.snapshot_nodes [--workflows VERSION]`.

Ids, inputs in order and outputs of all nodes go to `tests/object_info.json`; texts are left out. With `--workflows`,
the shipped workflows go to `tests/payloads/earlier/workflows_VERSION.json` instead: once for each release.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scenetok_core.files import write_text
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import NOTE, WORKFLOWS, Json

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT = ROOT / "tests" / "object_info.json"
EARLIER = ROOT / "tests" / "payloads" / "earlier"
PREFIX = "SceneTok_"
# Inputs whose choices are files of the machine.
FILE_LISTS = {
    ("SceneTok_LoadModel", "model"),
    ("SceneTok_LoadGenerator", "generator"),
    ("SceneTok_LoadDepthHead", "depth_head"),
    ("SceneTok_LoadViews", "capture"),
    ("SceneTok_LoadPhotograph", "image"),
    ("SceneTok_LoadPictures", "folder"),
    ("SceneTok_LoadTokens", "scene"),
}
_KEPT = (
    "default",
    "min",
    "max",
    "step",
    "round",
    "multiline",
    "control_after_generate",
    "image_upload",
    "image_folder",
)
_LONGEST_LINE = 200


def snapshot(object_info: Mapping[str, Json]) -> dict[str, Json]:
    """What workflows rely on in the answer of `/object_info`: this pack's nodes by id, without their texts."""
    return {
        node_id: {
            "inputs": list(_inputs(node_id, info["input"])),
            "outputs": [
                {"name": name, "type": kind, "list": is_list}
                for name, kind, is_list in zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
            ],
            "output_node": info["output_node"],
        }
        for node_id, info in sorted(object_info.items())
        if node_id.startswith(PREFIX)
    }


def _inputs(node_id: str, groups: Mapping[str, Mapping[str, list[Any]]]) -> Iterator[Json]:
    for group in ("required", "optional"):
        for name, (kind, *more) in groups.get(group, {}).items():
            options = more[0] if more else {}
            choices = kind if isinstance(kind, list) else options.get("options")
            entry: Json = {"name": name, "type": "COMBO" if choices is not None else kind}
            if group == "optional":
                entry["optional"] = True
            listed = (node_id, name) in FILE_LISTS
            if choices is not None and not listed:
                entry["options"] = choices
            kept = [key for key in _KEPT if options.get(key) is not None and not (listed and key == "default")]
            yield entry | {key: options[key] for key in kept}


def differences(recorded: Mapping[str, Json], current: Mapping[str, Json]) -> list[str]:
    """One line for every id, input or output that is not as recorded."""
    lines = [f"{node_id}: gone" for node_id in recorded if node_id not in current]
    lines += [f"{node_id}: new" for node_id in current if node_id not in recorded]
    for node_id in sorted(recorded.keys() & current.keys()):
        before, after = recorded[node_id], current[node_id]
        lines += [f"{node_id}, {line}" for line in _input_differences(before["inputs"], after["inputs"])]
        if before["outputs"] != after["outputs"]:
            lines.append(f"{node_id}, outputs: {_titles(before['outputs'])} -> {_titles(after['outputs'])}")
        if before["output_node"] != after["output_node"]:
            lines.append(f"{node_id}, output_node: {before['output_node']} -> {after['output_node']}")
    return lines


def _input_differences(before: list[Json], after: list[Json]) -> Iterator[str]:
    was, now = ({entry["name"]: entry for entry in entries} for entries in (before, after))
    yield from (f"input {name!r}: gone" for name in was if name not in now)
    for place, name in enumerate(now):
        if name in was:
            continue
        last = place >= len(was)
        yield f"input {name!r}: new, {'last' if last else f'in place {place}: values in old workflows shift'}"
    common = [[name for name in entries if name in was and name in now] for entries in (was, now)]
    if common[0] != common[1]:
        yield f"order of inputs: {', '.join(common[0])} -> {', '.join(common[1])}"
    for name in common[0]:
        for key in sorted(was[name].keys() | now[name].keys()):
            if was[name].get(key) != now[name].get(key):
                yield f"input {name!r}: {key} {was[name].get(key)!r} -> {now[name].get(key)!r}"


def _titles(outputs: list[Json]) -> str:
    return ", ".join(f"{entry['name']} ({entry['type']}{', list' if entry['list'] else ''})" for entry in outputs)


def stored_workflows() -> dict[str, Json]:
    """The shipped workflows by name: what their files store that decides their meaning, and the prompt they mean."""
    return {path.stem: _stored(path) for path in sorted(WORKFLOWS.glob("*.json"))}


def _stored(path: Path) -> Json:
    ui, api = (json.loads(file.read_text("utf-8")) for file in (path, path.parent / "api" / path.name))
    nodes = [node for node in ui["nodes"] if node["type"] != NOTE]
    kept = [{key: node[key] for key in ("id", "type", "inputs", "widgets_values") if key in node} for node in nodes]
    for node in kept:
        node["inputs"] = [{"name": socket["name"], "link": socket.get("link")} for socket in node["inputs"]]
    prompt = {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in api.items()}
    return {"nodes": kept, "links": ui["links"], "prompt": prompt}


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON whose short parts stand on one line, so that a change shows as a line."""
    short = json.dumps(value)
    if not isinstance(value, (dict, list)) or len(indent) + len(short) <= _LONGEST_LINE:
        return short
    inner = indent + " "
    names = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    entries = value.values() if isinstance(value, dict) else value
    lines = [inner + name + _laid_out(entry, inner) for name, entry in zip(names, entries, strict=True)]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return first + "\n" + ",\n".join(lines) + "\n" + indent + last


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Record what workflows rely on.")
    parser.add_argument("--workflows", metavar="VERSION", help="record the shipped workflows of a release, instead")
    options = parser.parse_args()
    if options.workflows:
        write_text(EARLIER / f"workflows_{options.workflows}.json", _laid_out(stored_workflows()) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="scenetok_snapshot_") as folder:
        server = ComfyServer(find_comfy(Path(folder)), Path(folder) / "base", {"scenetok": ROOT})
        with server, urllib.request.urlopen(f"{server.url}/object_info") as answer:
            current = snapshot(json.load(answer))
    for line in differences(json.loads(SNAPSHOT.read_text("utf-8")) if SNAPSHOT.exists() else {}, current):
        print(line)
    write_text(SNAPSHOT, _laid_out(current) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
