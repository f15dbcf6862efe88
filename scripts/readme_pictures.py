"""Draw the pictures at the top of the README: `python -m scripts.readme_pictures` (needs a browser, as its tests do).

`workflow.webp`: the main workflow after a run, without its note, on ComfyUI's page. `move.webp`: what the shipped
model renders along a path through the example room, beside the photographs; the nearest one is marked.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import FloatRect

from scenetok_core import SceneTok, make_trajectory, open_capture
from scenetok_core.files import replacing
from scenetok_core.pictures.sheets import to_image
from scripts.pack_pictures import BACKGROUND, CAPTURE, CHECKPOINT, IMAGES, QUIET, ROOT, rounded
from tests.browser.page import ComfyPage, chromium
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import NOTE, WORKFLOWS

_VIEWPORT = {"width": 2100, "height": 1500}
_SETTINGS = {
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
_SCALE, _PLACE, _EDGE = 0.8, (300, 200), 16  # of the graph on the page: size, upper left corner, pixels around it
_BOUNDS = """([scale, x, y, note]) => {
    const { groups } = app.graph, nodes = app.graph.nodes.filter(node => node.type !== note);
    const boxes = [...nodes.map(node => node.getBounding()), ...groups.map(group => group._bounding)];
    const lowest = side => Math.min(...boxes.map(box => box[side]));
    const highest = side => Math.max(...boxes.map(box => box[side] + box[side + 2]));
    const left = lowest(0), top = lowest(1), right = highest(0), bottom = highest(1);
    app.canvas.deselectAll();
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [x / scale - left, y / scale - top];
    app.canvas.setDirty(true, true);
    return [(right - left) * scale, (bottom - top) * scale];
}"""
_LARGEST_BYTES = 300_000
_FRAMES, _PAUSE_MS = 32, 75  # of the path, which is walked there and back
_RENDERED, _PHOTOGRAPH, _COLUMNS, _BETWEEN, _MARGIN = 208, 100, 4, 8, 16
_MARK, _LABEL = (76, 201, 240), 16


def workflow() -> Image.Image:
    """The main workflow on the page, run."""
    with tempfile.TemporaryDirectory(prefix="scenetok_pictures_") as folder:
        server = ComfyServer(find_comfy(Path(folder)), Path(folder) / "base", {"scenetok": ROOT})
        with server, chromium() as browser:
            comfy = ComfyPage.open(browser.new_page(viewport=_VIEWPORT), server.url, "readme", _SETTINGS)
            comfy.drop("encode_render", json.loads((WORKFLOWS / "encode_render.json").read_text("utf-8")))
            ended, detail = comfy.queue()
            if ended != "execution_success":
                raise RuntimeError(detail)
            width, height = comfy.page.evaluate(_BOUNDS, [_SCALE, *_PLACE, NOTE])
            comfy.page.wait_for_timeout(4000)
            x, y = _PLACE
            clip: FloatRect = {"x": x - _EDGE, "y": y - _EDGE, "width": width + 2 * _EDGE, "height": height + 2 * _EDGE}
            return Image.open(io.BytesIO(comfy.page.screenshot(clip=clip))).convert("RGB")


def move() -> list[Image.Image]:
    """The photographs, and beside them the picture that the camera renders as it moves."""
    model = SceneTok.load(CHECKPOINT)
    capture = open_capture(CAPTURE / "transforms.json")
    views = capture.load(size=model.config.image_size)
    path = make_trajectory("follow", views.cameras, frames=_FRAMES, easing="ease-in-out")
    frames = model.render(model.encode(views), path, steps=1)
    nearest = torch.cdist(path.centers, views.cameras.centers).argmin(-1).tolist()
    photographs = [to_image(x) for x in capture.load(size=_PHOTOGRAPH).rgb]
    drawn = [_frame(photographs, near, to_image(frame)) for near, frame in zip(nearest, frames, strict=True)]
    return drawn + drawn[-2:0:-1]


def _frame(photographs: list[Image.Image], near: int, rendered: Image.Image) -> Image.Image:
    step, label = _PHOTOGRAPH + _BETWEEN, _LABEL + 2 * _BETWEEN
    rows = -(-len(photographs) // _COLUMNS)
    right = 2 * _MARGIN + _COLUMNS * step
    picture = Image.new("RGB", (right + _RENDERED + _MARGIN, _RENDERED + 2 * _MARGIN + label), BACKGROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_LABEL)
    top = _MARGIN + (_RENDERED - rows * step + _BETWEEN) // 2
    for i, photograph in enumerate(photographs):
        tile = rounded(photograph, _PHOTOGRAPH, 8)
        place = (_MARGIN + i % _COLUMNS * step, top + i // _COLUMNS * step)
        picture.paste(tile, place, tile)
        if i == near:
            x, y = place
            draw.rounded_rectangle((x - 3, y - 3, x + _PHOTOGRAPH + 2, y + _PHOTOGRAPH + 2), 10, outline=_MARK, width=3)
    large = rounded(rendered.resize((_RENDERED, _RENDERED), Image.Resampling.BICUBIC), _RENDERED, 12)
    picture.paste(large, (right, _MARGIN), large)
    below = _MARGIN + _RENDERED + _BETWEEN
    draw.text((_MARGIN, below), f"{len(photographs)} photographs", QUIET, font)
    draw.text((right, below), "rendered from 64 tokens", QUIET, font)
    return picture


def main() -> int:
    """Run the command line; returns the exit status."""
    frames = move()
    still = workflow()
    with replacing(IMAGES / "move.webp") as partial:
        frames[0].save(
            partial,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=_PAUSE_MS,
            loop=0,
            quality=82,
            method=6,
        )
    with replacing(IMAGES / "workflow.webp") as partial:
        still.save(partial, format="WEBP", quality=85, method=6)
    for name in ("move.webp", "workflow.webp"):
        size = (IMAGES / name).stat().st_size
        if size > _LARGEST_BYTES:
            raise RuntimeError(f"{name} has {size} bytes, more than {_LARGEST_BYTES}; lower its quality or size")
        print(f"{name}: {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
