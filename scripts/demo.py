"""The demo: the shipped workflow on the shipped example, through a real ComfyUI without its page.

`make demo`, or `python scripts/demo.py [--out output/demo]`. Writes `trajectory.mp4` and `contact_sheet.png`, and
prints how the held-out frames score beside two baselines, and the seconds of every stage.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from scenetok_core import open_capture
from scenetok_core.baselines import mean_colour, nearest_view
from scenetok_core.captures import load_image
from scenetok_core.metrics import psnr
from scenetok_core.pictures.sheets import contact_sheet, evenly_spread, save_image, to_image
from scenetok_core.pictures.video import read_video_frames
from tests.engine import (
    ComfyClient,
    ComfyServer,
    EngineMissingError,
    Event,
    PromptRejectedError,
    Run,
    find_comfy,
    run_prompt,
)
from tests.engine.workflows import WORKFLOWS, Json

ROOT = Path(__file__).resolve().parents[1]
_EXAMPLE = WORKFLOWS / "example_capture"
_HELD_OUT = "example: room, held-out path"
_SHOWN = 8  # pictures in a row of the contact sheet
_THUMBNAIL_PX, _GAP_PX, _BAND_PX = 640, 4, 40
_INPUTS_SHOWN, _FRAMES_SHOWN = 4, 3
_GROUND, _INK = (24, 24, 24), (235, 235, 235)
_LONGEST_RUN_S = 600.0
_MEAN, _SAMPLE = "rendering, posterior mean (1 step)", "rendering, sample"


@dataclass
class Stopwatch:
    """Seconds per node of a running prompt, with a progress bar for the one at work."""

    titles: dict[str, str]  # node id -> name
    seconds: dict[str, float] = field(default_factory=dict)
    _node: str = ""
    _began: float = field(default_factory=time.monotonic)
    _bar: tqdm | None = None

    async def __call__(self, client: ComfyClient, event: Event) -> None:
        """Take notice of one message of the server."""
        if event.type == "executing":
            self._enter(event.data.get("node") or "")
        elif event.type == "execution_success":
            self._enter("")
        elif event.type == "progress":
            if self._bar is None:
                self._bar = tqdm(desc=f"{self.titles[self._node]:>24}", unit="step")
            self._bar.total = event.data["max"]
            self._bar.update(event.data["value"] - self._bar.n)

    def _enter(self, node: str) -> None:
        now = time.monotonic()
        if self._node:
            title = self.titles[self._node]
            self.seconds[title] = self.seconds.get(title, 0.0) + now - self._began
        if self._bar is not None:
            self._bar.close()
        self._node, self._began, self._bar = node, now, None


def demo_prompt() -> dict[str, Json]:
    """The shipped workflow, and beside it both kinds of rendering of the held-out path, for the comparison."""
    prompt: dict[str, Json] = json.loads((WORKFLOWS / "api" / "encode_render.json").read_text(encoding="utf-8"))
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    render = prompt[ids["SceneTok_RenderTrajectory"]]
    views = prompt[ids["SceneTok_LoadViews"]]
    prompt["held_out"] = {**views, "inputs": {**views["inputs"], "capture": _HELD_OUT, "max_views": 0}}
    for name, steps in (("mean", 1), ("sample", render["inputs"]["steps"])):
        inputs = {**render["inputs"], "cameras": ["held_out", 1], "steps": steps}
        prompt[name] = {**render, "inputs": inputs}
        save = {"images": [name, 0], "filename_prefix": f"held_out_{name}"}
        prompt[f"save_{name}"] = {"class_type": "SaveImage", "inputs": save}
    return prompt


def titles_of(prompt: dict[str, Json]) -> dict[str, str]:
    """Names of the nodes for people; the added ones are told apart from the workflow's."""
    added = {
        "held_out": "Load held-out frames",
        "mean": "Render held-out (mean)",
        "sample": "Render held-out (sample)",
        "save_mean": "Save held-out (mean)",
        "save_sample": "Save held-out (sample)",
    }
    return {
        node_id: added.get(node_id) or node.get("_meta", {}).get("title", node["class_type"])
        for node_id, node in prompt.items()
    }


def saved_pictures(server: ComfyServer, done: Run, node: str) -> Tensor:
    """Pictures [T, 3, H, W] in [0, 1] that a SaveImage node wrote."""
    files = [server.base / item["type"] / item["subfolder"] / item["filename"] for item in done.outputs[node]["images"]]
    return torch.stack([load_image(path) for path in files])


def compare(mean: Tensor, sample: Tensor, out: Path) -> dict[str, float]:
    """PSNR in dB by method over the held-out frames [T, 3, H, W]; writes the contact sheet."""
    size = (mean.shape[-2], mean.shape[-1])
    inputs = open_capture(_EXAMPLE / "transforms.json").load(size=size)
    truth = open_capture(_EXAMPLE / "heldout.json").load(size=size)
    nearest = nearest_view(inputs, truth.cameras)
    rows = [
        ("inputs", inputs.rgb),
        ("truth (held out)", truth.rgb),
        (_MEAN, mean),
        (_SAMPLE, sample),
        ("nearest input view", nearest),
    ]
    sheet = contact_sheet(
        [(label.replace(", ", ",\n").replace(" (", "\n("), evenly_spread(pictures, _SHOWN)) for label, pictures in rows]
    )
    save_image(out / "contact_sheet.png", sheet)
    methods = {
        _MEAN: mean,
        _SAMPLE: sample,
        "baseline: nearest input view": nearest,
        "baseline: mean colour of the inputs": mean_colour(inputs, len(truth)),
    }
    return {name: float(psnr(pictures, truth.rgb).mean()) for name, pictures in methods.items()}


def thumbnail(inputs: Tensor, frames: Tensor) -> Image.Image:
    """The workflow in one picture: inputs [V, 3, H, W] above, an arrow, frames [T, 3, h, w] of the new path below."""
    above, below = _row(evenly_spread(inputs, _INPUTS_SHOWN)), _row(evenly_spread(frames, _FRAMES_SHOWN))
    sheet = Image.new("RGB", (_THUMBNAIL_PX, above.height + _BAND_PX + below.height), _GROUND)
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, above.height + _BAND_PX))
    draw, middle = ImageDraw.Draw(sheet), above.height + _BAND_PX // 2
    label = "posed pictures, scene tokens, a new camera path"
    draw.text((_THUMBNAIL_PX // 2, middle), label, fill=_INK, font=ImageFont.load_default(22), anchor="mm")
    for x in (_BAND_PX, _THUMBNAIL_PX - _BAND_PX):
        draw.polygon([(x - 12, middle - 8), (x + 12, middle - 8), (x, middle + 11)], fill=_INK)
    return sheet


def _row(pictures: Tensor) -> Image.Image:
    """Pictures side by side over the width of the thumbnail."""
    side = (_THUMBNAIL_PX + _GAP_PX) // len(pictures) - _GAP_PX
    row = Image.new("RGB", (_THUMBNAIL_PX, side), _GROUND)
    left = (_THUMBNAIL_PX - len(pictures) * (side + _GAP_PX) + _GAP_PX) // 2
    for i, picture in enumerate(pictures):
        row.paste(to_image(picture).resize((side, side), Image.Resampling.LANCZOS), (left + i * (side + _GAP_PX), 0))
    return row


def run_demo(out: Path, picture: Path | None = None) -> None:
    """Run everything and print the figures; `picture` is where the workflow's thumbnail goes.

    Raises:
        EngineMissingError: there is no ComfyUI.
        RuntimeError: a node failed.
        TimeoutError: the server did not start, or the workflow did not end in time.
    """
    out.mkdir(parents=True, exist_ok=True)
    prompt, device = demo_prompt(), () if torch.cuda.is_available() else ("--cpu",)
    stopwatch = Stopwatch(titles_of(prompt))
    with tempfile.TemporaryDirectory(prefix="scenetok_demo_") as folder:
        began = time.monotonic()
        engine = find_comfy(Path(folder))
        with ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, device) as server:
            started = time.monotonic()
            done = run_prompt(server.url, prompt, stopwatch, _LONGEST_RUN_S)
            finished = time.monotonic()
            if done.status != "execution_success":
                raise RuntimeError(f"the workflow failed: {done.error or done.status}")
            video = next(item for node in done.outputs.values() for item in node.get("images", []) if _is_video(item))
            shutil.copy(server.base / video["type"] / video["subfolder"] / video["filename"], out / "trajectory.mp4")
            scores = compare(
                saved_pictures(server, done, "save_mean"), saved_pictures(server, done, "save_sample"), out
            )
    if picture is not None:
        frames, _ = read_video_frames(out / "trajectory.mp4")
        save_image(picture, thumbnail(open_capture(_EXAMPLE / "transforms.json").load().rgb, frames))
    _report({"PSNR on held-out frames, dB": scores}, digits=2)
    stages = {"start ComfyUI": started - began, **stopwatch.seconds, "all nodes": finished - started}
    _report({"seconds per stage": stages}, digits=1)
    print(f"\nwrote {out / 'trajectory.mp4'} and {out / 'contact_sheet.png'}")


def _is_video(item: Json) -> bool:
    return item["filename"].endswith(".mp4")


def _report(tables: dict[str, dict[str, float]], digits: int) -> None:
    for title, rows in tables.items():
        print(f"\n{title}")
        for name, value in rows.items():
            print(f"  {name:<38} {value:>8.{digits}f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run the shipped workflow in a headless ComfyUI.")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "demo", help="folder for the results")
    parser.add_argument("--thumbnail", type=Path, metavar="PATH", help="also draw the workflow's picture for ComfyUI")
    options = parser.parse_args(arguments)
    try:
        run_demo(options.out, options.thumbnail)
    except (EngineMissingError, PromptRejectedError, TimeoutError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
