"""Point clouds as files that 3D programs open: PLY, and GLB through trimesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..files import replacing
from ..pictures.sheets import to_bytes
from .axes import AXES, check_axes
from .fusion import PointCloud


def file_points(cloud: PointCloud, axes: str) -> Tensor:
    """The coordinates [N, 3] that a file holds, float32, in units of the cameras.

    Args:
        cloud: the points.
        axes: "upright": as glTF has it, y is up (estimated from the cameras), and the first camera looks along -z.
            "flipped": y and z of the cameras' world change their sign, as the core nodes do; right where the world
            has the axes of a camera, x right, y down, z forward. "input": the world of the cameras as it is.

    Raises:
        ValueError: unknown axes.
    """
    check_axes(axes)
    return (cloud.xyz.double() @ AXES[axes](cloud.cameras.to("cpu")).T).float()


def save_ply(path: Path | str, cloud: PointCloud, axes: str = "upright") -> None:
    """Write a binary PLY with float coordinates and colours of 8 bits; it appears whole or not at all.

    Raises:
        ValueError: unknown axes.
    """
    fields = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(cloud), dtype=fields)
    for columns, values in (("xyz", file_points(cloud, axes)), (("red", "green", "blue"), _colours(cloud))):
        for name, column in zip(columns, values.unbind(1), strict=True):
            vertices[name] = column.numpy()
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment axes {axes}",
        f"element vertex {len(cloud)}",
        *(f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields),
        "end_header\n",
    ]
    with replacing(path) as partial, partial.open("wb") as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(vertices.tobytes())


def save_glb(path: Path | str, cloud: PointCloud, axes: str = "upright") -> None:
    """Write a GLB with the points; needs trimesh. It appears whole or not at all.

    Raises:
        ValueError: unknown axes, or trimesh is not installed.
    """
    trimesh = load_trimesh()
    points = trimesh.PointCloud(file_points(cloud, axes).numpy(), colors=_colours(cloud).numpy())
    with replacing(path) as partial:
        partial.write_bytes(trimesh.Scene(points).export(file_type="glb"))


def load_trimesh() -> Any:
    """The package trimesh, which only a GLB needs. Raises `ValueError` when it is not installed."""
    try:
        import trimesh
    except ImportError as error:
        raise ValueError(
            "a GLB file needs trimesh: `pip install trimesh`, or write a PLY, which needs nothing"
        ) from error
    return trimesh


def _colours(cloud: PointCloud) -> Tensor:
    return to_bytes(cloud.rgb.T[:, None])[0]  # as a picture of one row
