"""Make the pictures of the help pages by running the nodes: `python -m scripts.help_pictures [NODE ...]`.

`scripts/help_pictures.toml` holds one graph, whose parts several pictures share, and the rows of every picture. The
models and captures are those that come with the pack; estimating cameras needs pycolmap. The picture of the editor on
the page is made by `python -m scripts.editor_pictures`.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import textwrap
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from scenetok_core.files import replacing
from scenetok_core.pictures.canvas import Canvas
from scenetok_core.pictures.path_glyphs import BACKGROUND, TEXT
from scripts.make_workflow import ROOT, definitions_of, tomllib
from scripts.workflow_pictures import pictures_of, rows
from tests.engine import ComfyServer, find_comfy, run_prompt
from tests.engine.workflows import WORKFLOWS, Json, is_widget

ASSETS = ROOT / "web" / "docs" / "assets"
LARGEST_BYTES = 60_000
_GRAPH = ROOT / "scripts" / "help_pictures.toml"
_QUALITIES = (74, 66, 58, 50)  # of JPEG, the first that is small enough
# The page shows them at half their size.
_MOST_COLUMNS = 4
_WIDTH, _LETTERS, _LINES, _PIXELS, _MARGIN = 640, 47, 14, 26, 12
_SHOWS = {"IMAGE": ("PreviewImage", "images")}
_TELLS = ("PreviewAny", "source")
_FILES = "files"
_TIMEOUT_S = 1800


def read_graph() -> tuple[dict[str, Json], dict[str, list[str]]]:
    """Nodes of the graph by name, and rows of the pictures by node id."""
    told = tomllib.loads(_GRAPH.read_text(encoding="utf-8"))
    return told["graph"], told["pictures"]


def filled(node: Json, infos: Mapping[str, Json]) -> Json:
    """A node of the graph as the API takes it: what it does not name has its default."""
    class_type = node["node"] if node["node"] in infos else f"SceneTok_{node['node']}"
    named = {name: value for name, value in node.items() if name != "node"}
    inputs = {}
    for name, definition in definitions_of(infos[class_type]).items():
        if is_widget(definition):
            options = definition[1] if len(definition) > 1 else {}
            choices = definition[0] if isinstance(definition[0], list) else options.get("options", [])
            inputs[name] = options.get("default", next(iter(choices), None))
    return {"class_type": class_type, "inputs": {**inputs, **named}}


def needed(prompt: Mapping[str, Json], names: Iterable[str]) -> set[str]:
    """`names`, and all nodes that they are made from."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [value[0] for value in prompt[name]["inputs"].values() if isinstance(value, list)]
    return found


def parts_of(row: str) -> list[tuple[str, str]]:
    """The outputs side by side in a row: `"frames sheet.1 saved.files"` -> frames 0, sheet 1, files of saved."""
    named = (part.partition(".") for part in row.split())
    return [(name, output or "0") for name, _, output in named]


def with_previews(graph: Mapping[str, Json], chosen: Iterable[list[str]], infos: Mapping[str, Json]) -> dict[str, Json]:
    """The nodes that the rows of the chosen pictures need, and one node for every output to show it."""
    nodes = {name: filled(node, infos) for name, node in graph.items()}
    parts = {part for lines in chosen for row in lines for part in parts_of(row)}
    prompt = {name: nodes[name] for name in needed(nodes, (name for name, _ in parts))}
    for name, output in parts:
        if output != _FILES:
            kind = infos[nodes[name]["class_type"]]["output"][int(output)]
            class_type, key = _SHOWS.get(kind, _TELLS)
            prompt[f"{name}.{output}"] = {"class_type": class_type, "inputs": {key: [name, int(output)]}}
    return prompt


def tidy(text: str) -> str:
    """Text as it is; JSON with one line for each item."""
    if text[:1] not in "[{":
        return text
    value = json.loads(text, parse_float=lambda number: round(float(number), 4))
    return "\n".join(
        map(json.dumps, value) if isinstance(value, list) else map(_line, *zip(*value.items(), strict=True))
    )


def _line(name: str, value: object) -> str:
    return f"{name}: {json.dumps(value)}"


def text_picture(text: str) -> Image.Image:
    """What a text output says, as a picture."""
    wrapped = [part for line in text.splitlines() for part in textwrap.wrap(line, _LETTERS) or [""]]
    lines = wrapped if len(wrapped) <= _LINES else [*wrapped[: _LINES - 1], "..."]
    step = round(_PIXELS * 1.35)
    canvas = Canvas((_WIDTH, len(lines) * step + 2 * _MARGIN), BACKGROUND)
    for number, line in enumerate(lines):
        canvas.text((_MARGIN, _MARGIN + number * step), line, TEXT, _PIXELS)
    return canvas.image()


def row_of(
    row: str, prompt: Mapping[str, Json], infos: Mapping[str, Json], done: Json, base: Path
) -> list[Image.Image]:
    """The pictures of a row; texts side by side become one, a line for each."""
    pictures, texts = [], []
    for name, output in parts_of(row):
        if output == _FILES:
            listed = [item for items in done[name].values() for item in items if item.get("type") == "output"]
            texts.append("\n".join(f"output/{item['subfolder']}/{item['filename']}" for item in listed))
        elif "images" in done[f"{name}.{output}"]:
            pictures += pictures_of(base, done[f"{name}.{output}"], _MOST_COLUMNS)
        else:
            label = infos[prompt[name]["class_type"]]["output_name"][int(output)]
            text = tidy(done[f"{name}.{output}"]["text"][0])
            texts.append(f"{label}: {text}" if " " in row else text)
    return [*pictures, text_picture("\n".join(texts))] if texts else pictures


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG that is small enough for a help page.

    Raises:
        ValueError: it cannot be made small enough.
    """
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST_BYTES:
            break
    else:
        raise ValueError(f"{path.name} takes {file.tell()} bytes; show fewer or smaller pictures")
    with replacing(path) as partial:
        partial.write_bytes(file.getvalue())


def main() -> int:
    """Run the command line; returns the exit status."""
    graph, pictures = read_graph()
    parser = argparse.ArgumentParser(description="Make the pictures of the help pages by running the nodes.")
    parser.add_argument("nodes", nargs="*", default=sorted(pictures), metavar="NODE", help="ids (default: all)")
    chosen = {name: pictures[name] for name in parser.parse_args().nodes}
    ASSETS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scenetok_help_") as folder:
        engine = find_comfy(Path(folder))
        with ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, ("--cpu",)) as server:
            shutil.copy(WORKFLOWS / "example_capture" / "walk.mp4", server.folder("input"))
            with urllib.request.urlopen(f"{server.url}/object_info") as answer:
                infos = json.load(answer)
            prompt = with_previews(graph, chosen.values(), infos)
            done = run_prompt(server.url, prompt, timeout_s=_TIMEOUT_S)
            if done.error:
                raise RuntimeError(done.error)
            for name, lines in chosen.items():
                groups = [row_of(row, prompt, infos, done.outputs, server.base) for row in lines]
                save(rows(groups), ASSETS / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
