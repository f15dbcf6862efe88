"""Labelled contact sheets and image files, with Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..files import replacing
from ..types import check_shape

_READABLE_PIXELS = 96
_GAP = 4
_LABEL_MARGIN = 8
_BACKGROUND = (24, 24, 24)
_TEXT = (235, 235, 235)


def to_bytes(
    rgb: Tensor,  # [..., 3, H, W] in [0, 1]; values outside are clipped
) -> Tensor:
    """Pictures as uint8 [..., H, W, 3] on the CPU, rounded to the nearest level."""
    return (rgb.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu()


def enlarge(
    rgb: Tensor,  # [..., H, W]
    factor: int,
) -> Tensor:
    """Every pixel repeated `factor` times along both sides: [..., H * factor, W * factor]."""
    return rgb.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def to_image(
    rgb: Tensor,  # [3, H, W] in [0, 1]
) -> Image.Image:
    """One picture as a Pillow image."""
    check_shape("rgb", rgb, (3, None, None))
    return Image.fromarray(to_bytes(rgb).contiguous().numpy())


def to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as RGB [3, H, W] float32 in [0, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() / 255


def evenly_spread(
    pictures: Tensor,  # [n, ...]
    most: int,
) -> Tensor:
    """At most `most` of the pictures, the first and the last among them: [min(n, most), ...]."""
    count = min(len(pictures), most)
    return pictures[torch.linspace(0, len(pictures) - 1, count, dtype=torch.float64).round().long()]


def side_by_side(
    batches: Sequence[Tensor],  # [n, 3, h, w] each
    columns: int,
) -> list[Tensor]:
    """Rows of `columns` batches each, in their order: [columns * n, 3, h, w] each.

    Raises:
        ValueError: the batches fill no whole number of rows, or those of a row differ in number or size of pictures.
    """
    if len(batches) % columns:
        raise ValueError(
            f"{len(batches)} image batches do not fill rows of {columns}; give as many headings as columns"
        )
    rows = [batches[i : i + columns] for i in range(0, len(batches), columns)]
    for row in rows:
        shapes = {tuple(batch.shape) for batch in row}
        if len(shapes) > 1:
            raise ValueError(f"image batches side by side must have one shape [n, 3, h, w], got {sorted(shapes)}")
    return [torch.cat(list(row)) for row in rows]


def contact_sheet(
    rows: Sequence[tuple[str, Tensor]],  # label and pictures [n, 3, h, w] in [0, 1] of every row
    scale: int | None = None,
    headings: Sequence[str] = (),
) -> Image.Image:
    """Rows of pictures on a dark ground with their labels in a column on the left.

    Rows may differ in the number and the size of their pictures; a label may have several lines.

    Args:
        rows: the rows from top to bottom.
        scale: every pixel is drawn as a square of this many pixels; None brings the tallest row to about 100 pixels.
        headings: texts above the rows; each stands above an equal share of the width.

    Returns:
        An RGB image.

    Raises:
        ValueError: no rows, a row without pictures, or a scale below 1.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row, got none")
    for label, pictures in rows:
        check_shape(f"row {label!r}", pictures, (None, 3, None, None))
        if 0 in pictures.shape:
            raise ValueError(f"row {label!r} of the contact sheet holds no pictures: {list(pictures.shape)}")
    tallest = max(pictures.shape[-2] for _, pictures in rows)
    scale = max(1, -(-_READABLE_PIXELS // tallest)) if scale is None else scale
    if scale < 1:
        raise ValueError(f"scale must be a whole number of at least 1, got {scale}")
    font = ImageFont.load_default()
    label_boxes = [_text_size(label, font) for label, _ in rows]
    heading = max((_text_size(text, font)[1] + _GAP for text in headings), default=0)
    label_width = max(width for width, _ in label_boxes) + 2 * _LABEL_MARGIN
    strips = [_strip(enlarge(pictures, scale)) for _, pictures in rows]
    heights = [max(strip.height, box[1]) for strip, box in zip(strips, label_boxes, strict=True)]
    width = max(strip.width for strip in strips) + _GAP
    sheet = Image.new("RGB", (label_width + width, heading + sum(heights) + _GAP * (len(rows) + 1)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(headings):
        draw.multiline_text((label_width + i * width // len(headings), _GAP), text, fill=_TEXT, font=font)
    top = _GAP + heading
    for (label, _), strip, box, height in zip(rows, strips, label_boxes, heights, strict=True):
        draw.multiline_text((_LABEL_MARGIN, top + (height - box[1]) // 2), label, fill=_TEXT, font=font)
        sheet.paste(strip, (label_width, top))
        top += height + _GAP
    return sheet


def _text_size(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int]:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return int(right + 1), int(bottom + 1)


def _strip(pictures: Tensor) -> Image.Image:
    """Pictures [n, 3, h, w] side by side."""
    count, _, height, width = pictures.shape
    strip = Image.new("RGB", (count * width + (count - 1) * _GAP, height), _BACKGROUND)
    for index, picture in enumerate(pictures):
        strip.paste(to_image(picture), (index * (width + _GAP), 0))
    return strip


def save_image(path: Path | str, image: Image.Image | Tensor) -> None:
    """Write a Pillow image or a picture [3, H, W] in [0, 1]; the file is complete or absent.

    Args:
        path: file to write; its suffix (.png, .jpg, .webp, ...) sets the format. Missing folders are made.
        image: the picture.

    Raises:
        ValueError: a suffix that is no image format.
    """
    suffix = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        raise ValueError(f"cannot write an image to {path}: unknown suffix {suffix!r}; use .png, .jpg or .webp")
    picture = to_image(image) if isinstance(image, Tensor) else image
    with replacing(path) as partial:
        picture.save(partial, format=kind)
