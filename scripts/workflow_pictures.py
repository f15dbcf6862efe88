"""Run shipped workflows and make their thumbnails of what they gave: `python -m scripts.workflow_pictures NAME...`.

`scripts/workflows.toml` names, as `picture`, the nodes whose pictures or videos become its rows, and as `picture_with`
other inputs for that run, where a workflow needs models that do not come with the pack.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from scenetok_core.files import replacing
from scenetok_core.pictures.sheets import to_image
from scenetok_core.pictures.video import read_video_frames
from scripts.make_workflow import ROOT, read_layouts
from tests.engine import ComfyServer, find_comfy, run_prompt
from tests.engine.workflows import WORKFLOWS, Json

_WIDTH, _TALLEST, _GAP, _BACKGROUND, _QUALITY = 640, 500, 6, (24, 24, 24), 85
_VIDEO_FRAMES, _MOST_COLUMNS = 5, 6
_VIDEOS = (".mp4", ".webm")
_TIMEOUT_S = 1800


def pictures_of(base: Path, output: Json, most: int = _MOST_COLUMNS) -> list[Image.Image]:
    """What a node showed or saved: `most` of its pictures, or evenly spread frames of its video."""
    listed = output["images"][:: max(1, len(output["images"]) // most)][:most]
    found = []
    for item in listed:
        path = base / item["type"] / item["subfolder"] / item["filename"]
        if path.suffix in _VIDEOS:
            frames, _ = read_video_frames(path)
            found += [to_image(frames[i * (len(frames) - 1) // (_VIDEO_FRAMES - 1)]) for i in range(_VIDEO_FRAMES)]
        else:
            found.append(Image.open(path).convert("RGB"))
    return found


def rows(groups: list[list[Image.Image]]) -> Image.Image:
    """Rows of pictures, each as wide as the whole or as tall as a row may be."""
    lines = []
    for pictures in groups:
        room = _WIDTH - _GAP * (len(pictures) - 1)
        height = min(_TALLEST, round(room / sum(picture.width / picture.height for picture in pictures)))
        lines.append([picture.resize((round(height * picture.width / picture.height), height)) for picture in pictures])
    tall = sum(line[0].height for line in lines) + _GAP * (len(lines) - 1)
    sheet, top = Image.new("RGB", (_WIDTH, tall), _BACKGROUND), 0
    for line in lines:
        left = 0
        for picture in line:
            sheet.paste(picture, (left, top))
            left += picture.width + _GAP
        top += line[0].height + _GAP
    return sheet


def main() -> int:
    """Run the command line; returns the exit status."""
    layouts = {name: layout for name, layout in read_layouts().items() if layout.get("picture")}
    parser = argparse.ArgumentParser(description="Make the thumbnails of workflows by running them.")
    parser.add_argument("names", nargs="*", default=sorted(layouts), help=f"of {', '.join(sorted(layouts))}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scenetok_pictures_") as folder:
        engine = find_comfy(Path(folder))
        with ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, ("--cpu",)) as server:
            shutil.copy(WORKFLOWS / "example_capture" / "walk.mp4", server.folder("input"))
            for name in options.names:
                prompt = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
                for node_id, inputs in layouts[name].get("picture_with", {}).items():
                    prompt[node_id]["inputs"] |= inputs
                done = run_prompt(server.url, prompt, timeout_s=_TIMEOUT_S)
                if done.error:
                    raise RuntimeError(f"{name}: {done.error}")
                groups = [pictures_of(server.base, done.outputs[node_id]) for node_id in layouts[name]["picture"]]
                with replacing(WORKFLOWS / f"{name}.jpg") as partial:
                    rows(groups).save(partial, format="JPEG", quality=_QUALITY, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
