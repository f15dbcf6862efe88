"""Draw the pictures of the pack in registries: `python -m scripts.pack_pictures`.

The icon is the example photograph in parts, some of them as flat as a token. The banner shows photographs, their
tokens and frames, as the shipped model makes them.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from scenetok_core import SceneTok, SceneTokens, make_trajectory, open_capture
from scenetok_core.files import replacing
from scenetok_core.pictures.sheets import evenly_spread, to_image
from tests.engine.workflows import WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
CHECKPOINT = ROOT / "checkpoints" / "scenetok-tiny.safetensors"
CAPTURE = WORKFLOWS / "example_capture"
BACKGROUND, TEXT, QUIET = (24, 25, 29), (240, 240, 240), (158, 164, 172)
_SHARPER = 4  # times larger than saved: the edges of rounded shapes
_ICON, _CELLS, _GAP = 400, 3, 14
_COLOUR, _LIGHT = 1.7, 1.35  # of the icon: what reads well at 48 pixels
_BANNER, _MARGIN = (1260, 540), 38
_TILE, _BETWEEN, _COLUMNS = 116, 8, 4  # a picture of the banner, between two of them, in a row
_FRAMES, _STEPS = 24, 1  # of the path, and the steps that give the mean of what is likely
_TITLE, _CLAIM, _LABEL = 92, 30, 22  # sizes of letters


def rounded(picture: Image.Image, size: int, radius: int) -> Image.Image:
    """A square picture with round corners, on nothing."""
    large = size * _SHARPER
    mask = Image.new("L", (large, large))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, large - 1, large - 1), radius * _SHARPER, fill=255)
    result = picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    result.putalpha(mask.resize((size, size), Image.Resampling.LANCZOS))
    return result


def icon() -> Image.Image:
    """Tokens above, the scene below the diagonal."""
    with Image.open(CAPTURE / "photograph.jpg") as photograph:
        side = min(photograph.size)
        left = (photograph.width - side) // 2
        scene = photograph.convert("RGB").crop((left, 0, left + side, side))
    scene = ImageEnhance.Brightness(ImageEnhance.Color(scene).enhance(_COLOUR)).enhance(_LIGHT)
    margin = round(1.6 * _GAP)
    cell = (_ICON - 2 * margin - _GAP * (_CELLS - 1)) // _CELLS
    result = rounded(Image.new("RGB", (1, 1), BACKGROUND), _ICON, _ICON // 7)
    part = side // _CELLS
    for row in range(_CELLS):
        for column in range(_CELLS):
            box = (column * part, row * part, (column + 1) * part, (row + 1) * part)
            piece = scene.crop(box)
            if row + column < _CELLS - 1:
                piece = piece.resize((1, 1), Image.Resampling.BOX)
            tile = rounded(piece, cell, cell // 5)
            result.alpha_composite(tile, (margin + column * (cell + _GAP), margin + row * (cell + _GAP)))
    return result


def scene() -> tuple[list[Image.Image], Image.Image, list[Image.Image]]:
    """Photographs of the example, the tokens that they become, frames that are rendered from these."""
    model = SceneTok.load(CHECKPOINT)
    capture = open_capture(CAPTURE / "transforms.json")
    views = capture.load(size=model.config.image_size)
    tokens = model.encode(views)
    path = make_trajectory("follow", views.cameras, frames=_FRAMES)
    frames = model.render(tokens, path, steps=_STEPS)
    photographs = evenly_spread(capture.load(size=_TILE).rgb, _COLUMNS)
    return (
        [to_image(x) for x in photographs],
        token_picture(tokens),
        [to_image(x) for x in evenly_spread(frames, _COLUMNS)],
    )


def token_picture(scene: SceneTokens) -> Image.Image:
    """A pixel for each token: its three strongest components as a colour."""
    spread = scene.tokens - scene.tokens.mean(0)
    strongest = spread @ torch.linalg.svd(spread, full_matrices=False).Vh[:3].T  # [N, 3]
    rows = strongest.argsort(0).argsort(0) / (len(strongest) - 1)  # ranks: all colours alike often
    side = math.isqrt(len(rows))
    return to_image((0.2 + 0.75 * rows[: side * side]).T.reshape(3, side, side))


def banner() -> Image.Image:
    """The name, and photographs -> tokens -> frames."""
    photographs, tokens, frames = scene()
    picture = Image.new("RGB", _BANNER, BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, 62), "SceneTok", TEXT, ImageFont.load_default(_TITLE))
    draw.text((_MARGIN + 4, 182), "A few posed photographs become scene tokens;", QUIET, ImageFont.load_default(_CLAIM))
    draw.text((_MARGIN + 4, 224), "any camera path is rendered from them.", QUIET, ImageFont.load_default(_CLAIM))
    row = _COLUMNS * (_TILE + _BETWEEN) - _BETWEEN
    arrow = (_BANNER[0] - 2 * _MARGIN - 2 * row - _TILE) // 2
    top, starts = 330, (_MARGIN, _MARGIN + row + arrow, _MARGIN + row + 2 * arrow + _TILE)
    for start, label, pictures in zip(
        starts, ("photographs", "tokens", "frames along a path"), (photographs, [tokens], frames), strict=True
    ):
        draw.text((start, top + _TILE + 16), label, QUIET, ImageFont.load_default(_LABEL))
        for i, tile in enumerate(pictures):
            small = tile.resize(
                (_TILE, _TILE), Image.Resampling.NEAREST if tile is tokens else Image.Resampling.BICUBIC
            )
            shown = rounded(small, _TILE, 10)
            picture.paste(shown, (start + i * (_TILE + _BETWEEN), top), shown)
    for start in starts[1:]:
        point_right(draw, start - arrow // 2, top + _TILE // 2)
    return picture


def point_right(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """An arrow head around a place."""
    draw.line([(x - 5, y - 11), (x + 6, y), (x - 5, y + 11)], QUIET, 4, joint="curve")


def main() -> int:
    """Run the command line; returns the exit status."""
    for name, picture in {"icon": icon(), "banner": banner()}.items():
        with replacing(IMAGES / f"{name}.png") as partial:
            picture.save(partial, format="PNG", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
