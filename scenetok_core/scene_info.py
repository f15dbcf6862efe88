"""What a scene says of itself: a title, notes and a small picture that travel with its tokens, and a report of them.

None of it changes what is rendered, and no date is kept, so that equal scenes give equal files.
"""

from __future__ import annotations

import base64
import binascii
import io
import math

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .camera import camera_extent
from .pictures.sheets import to_image, to_tensor
from .types import Cameras, SceneTokens

THUMBNAIL_PX = 256
_TITLE, _NOTES, _THUMBNAIL = "title", "notes", "thumbnail"  # keys of `SceneTokens.meta`
_LARGEST_STORED_PX = 4096
_JPEG_QUALITY = 85
_STORED_BYTES = 2  # per number, as `checkpoints.save_scene` writes tokens
_NUMBERS_SHOWN = 12


def annotate(
    scene: SceneTokens,
    *,
    title: str = "",
    notes: str = "",
    picture: Tensor | None = None,  # [3, H, W] in [0, 1]
) -> SceneTokens:
    """The scene with a title, notes and a thumbnail; what is empty or None stays as the scene has it.

    The thumbnail is a JPEG picture of at most 256 pixels a side, about 10 KiB.
    """
    given: dict[str, str] = {_TITLE: title.strip(), _NOTES: notes.strip()}
    if picture is not None:
        given[_THUMBNAIL] = _encoded(picture)
    return scene.replace(meta={**scene.meta, **{key: value for key, value in given.items() if value}})


def read_thumbnail(scene: SceneTokens) -> Tensor | None:
    """The picture that `annotate` stored, [3, h, w] in [0, 1]; None where there is none that can be shown."""
    try:
        stored = base64.b64decode(scene.meta[_THUMBNAIL], validate=True)
        with Image.open(io.BytesIO(stored), formats=("JPEG",)) as picture:
            return to_tensor(picture) if max(picture.size) <= _LARGEST_STORED_PX else None
    except (KeyError, TypeError, binascii.Error, UnidentifiedImageError, OSError, ValueError):
        return None  # a scene from elsewhere is no worse for a broken picture


def describe(scene: SceneTokens) -> dict[str, object]:
    """Everything known of a scene besides the numbers, as JSON-able values.

    `kib` is the size of the tokens as saved, `extent` the largest distance between two cameras in the capture's unit,
    `scene_scale` in model units per unit of the capture, `fov_degrees` the smallest and largest field of view,
    `thumbnail` its (height, width).
    """
    cameras, picture = scene.cameras, read_thumbnail(scene)
    hidden = (_TITLE, _NOTES, _THUMBNAIL)
    return {
        "title": str(scene.meta.get(_TITLE, "")),
        "notes": str(scene.meta.get(_NOTES, "")),
        "family": scene.family,
        "preset": scene.preset,
        "model_hash": scene.model_hash,
        "tokens": list(scene.tokens.shape),
        "active": len(scene.active),
        "kib": scene.tokens.numel() * _STORED_BYTES / 1024,
        "scene_scale": scene.scene_scale,
        "views": len(cameras),
        "picture_size": cameras.size,
        "unit": cameras.unit,
        "extent": camera_extent(cameras),
        "fov_degrees": {"horizontal": _fov_range(cameras, 0), "vertical": _fov_range(cameras, 1)},
        "source": _source(scene),
        "thumbnail": None if picture is None else list(picture.shape[-2:]),
        "meta": {key: value for key, value in scene.meta.items() if key not in hidden},
    }


def report(scene: SceneTokens) -> str:
    """`describe` for people, a few lines of text."""
    count, numbers = scene.tokens.shape
    cameras = scene.cameras
    size = "" if cameras.size is None else f" of {cameras.size[1]} x {cameras.size[0]} pixels"
    unit = "metres" if cameras.unit == "metric" else "units of the capture"
    fov = " x ".join(_interval(_fov_range(cameras, axis)) for axis in (0, 1))
    title, notes = (str(scene.meta.get(key, "")) for key in (_TITLE, _NOTES))
    lines = [
        title,
        f"model: {scene.preset} ({scene.family}, weights {scene.model_hash})",
        f"tokens: {count} x {numbers} numbers, {scene.tokens.numel() * _STORED_BYTES / 1024:.4g} KiB; "
        + ("all in use" if len(scene.active) == count else f"{len(scene.active)} in use"),
        f"cameras: {len(cameras)}{size}, up to {camera_extent(cameras):.4g} {unit} apart",
        f"field of view: {fov} degrees, horizontal x vertical",
        f"scale: {scene.scene_scale:.4g} model units per unit of the capture",
        f"source: {_source(scene)}",
        f"notes: {notes}" if notes else "",
    ]
    return "\n".join(filter(None, lines))


def _encoded(picture: Tensor) -> str:
    image, file = to_image(picture), io.BytesIO()
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _fov_range(cameras: Cameras, axis: int) -> tuple[float, float]:
    degrees = torch.rad2deg(2 * torch.atan(0.5 / cameras.K[..., axis, axis].double()))
    return round(float(degrees.min()), 2), round(float(degrees.max()), 2)


def _interval(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"{low:.1f}" if math.isclose(low, high, abs_tol=0.1) else f"{low:.1f} to {high:.1f}"


def _source(scene: SceneTokens) -> str:
    meta, views = scene.meta, len(scene.cameras)
    if "generator" in meta:
        given = meta.get("views_given", views)
        source = f"{given} view(s)" if given else "cameras alone"
        return f"drawn by {meta['generator']} ({meta.get('generator_hash', '?')}) from {source}"
    used = meta.get("views_used")
    if not isinstance(used, list):
        return f"{views} view(s)"
    listed = ", ".join(str(number) for number in used[:_NUMBERS_SHOWN])
    more = ", ..." if len(used) > _NUMBERS_SHOWN else ""
    return f"encoded from {len(used)} of {meta.get('views_given', '?')} views (numbers {listed}{more})"
