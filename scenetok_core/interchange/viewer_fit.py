"""How ComfyUI's 3-D viewers lay out the points of a file, so that a camera placed around them can be led back.

- ball: points of a PLY file, in newer front ends: centred, the farthest point at distance 1.
- box: every file, in older front ends (1.32, say): its bounding box has 5 as the longest side and stands on y = 0.

None of this is in LOAD3D_MODEL_INFO, but the file tells it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BOX_SIDE = 5.0
_GLB_MAGIC, _GLB_JSON = b"glTF", b"JSON"
_PLY_TYPES = {
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
}


def viewer_fit(path: Path | str, layout: str) -> dict[str, Any]:
    """Where a viewer puts the points of a file, in the form of an entry of LOAD3D_MODEL_INFO.

    Args:
        path: a PLY file; for `box` also a GLB whose nodes are not moved.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: an unknown layout, another kind of file or a broken one, or points without extent.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; choose one of {list(LAYOUTS)}")
    points = _points(Path(path))
    if not len(points) or not bool(torch.isfinite(points).all()) or not float((points - points[0]).abs().max()) > 0:
        raise ValueError(f"{path} has no points, or all in one place; choose the file that the viewer shows")
    position, scale = LAYOUTS[layout](points)
    return {"position": position.tolist(), "scale": [scale] * 3}


def _ball(points: Tensor) -> tuple[Tensor, float]:
    center = (points.amin(0) + points.amax(0)) / 2
    scale = 1 / float((points - center).norm(dim=-1).max())
    return -center * scale, scale


def _box(points: Tensor) -> tuple[Tensor, float]:
    low, high = points.amin(0), points.amax(0)
    scale = _BOX_SIDE / float((high - low).max())
    center = (low + high) / 2
    return -torch.stack([center[0], low[1], center[2]]) * scale, scale


LAYOUTS: dict[str, Callable[[Tensor], tuple[Tensor, float]]] = {"ball": _ball, "box": _box}


def _points(path: Path) -> Tensor:
    """Points [N, 3] float64 of a PLY file, or the corners of a GLB's bounding boxes."""
    data, suffix = path.read_bytes(), path.suffix.lower()
    try:
        if suffix == ".ply":
            return torch.from_numpy(_ply(data))
        if suffix == ".glb":
            return torch.tensor(_glb_corners(data), dtype=torch.float64).reshape(-1, 3)
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise ValueError(f"cannot read the points of {path} ({error}); export the file again") from error
    raise ValueError(f"{path} is neither a .ply nor a .glb file; expected the points that the viewer shows")


def _ply(data: bytes) -> np.ndarray:
    head, found, body = data.partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii").splitlines()]
    if not found or lines[0] != ["ply"]:
        raise ValueError("no PLY header")
    body = body[body.index(b"\n") + 1 :]
    layout = next(words[1] for words in lines if words[:1] == ["format"])
    starts = [number for number, words in enumerate(lines) if words[:1] == ["element"]]
    if not starts or lines[starts[0]][1] != "vertex":
        raise ValueError("its first element is not vertex")
    count, rest = int(lines[starts[0]][2]), lines[starts[0] + 1 : [*starts, len(lines)][1]]
    names = [(words[2], _PLY_TYPES[words[1]]) for words in rest if words[:1] == ["property"]]
    columns = [[name for name, _ in names].index(axis) for axis in "xyz"]
    if layout == "ascii":
        rows = [line.split() for line in body.splitlines()[:count]]
        return np.array([[float(row[column]) for column in columns] for row in rows])
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[layout]
    table = np.frombuffer(body, [(name, order + kind) for name, kind in names], count)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=-1)


def _glb_corners(data: bytes) -> list[list[float]]:
    magic, _, _, length, kind = struct.unpack_from("<4sII I4s", data)
    if magic != _GLB_MAGIC or kind != _GLB_JSON:
        raise ValueError("no GLB header")
    scene = json.loads(data[20 : 20 + length])
    parts = [part for mesh in scene["meshes"] for part in mesh["primitives"]]
    places = [scene["accessors"][part["attributes"]["POSITION"]] for part in parts]
    return [place[side] for place in places for side in ("min", "max")]
