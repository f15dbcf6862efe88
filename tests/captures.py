"""One small capture in every format, for the tests of reading captures."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core.captures import write_cameras_json, write_transforms
from scenetok_core.types import Cameras

HEIGHT, WIDTH = 24, 32
VIEWS = 3
FX, FY, CX, CY = 30.0, 28.0, 17.0, 11.0  # pixels
NAMES = tuple(f"view_{i}.png" for i in (1, 2, 10))
COLMAP_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "FULL_OPENCV": 6}
EXIF_ORIENTATION = 0x0112
needs_links = pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")


def quaternions() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(VIEWS, 4, generator=generator, dtype=torch.float64)
    return q / q.norm(dim=-1, keepdim=True)


def rotate(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """v turned by the quaternion (w, x, y, z): v + 2 u x (u x v + w v)."""
    u = q[1:].expand_as(v)
    return v + 2 * torch.linalg.cross(u, torch.linalg.cross(u, v) + q[0] * v)


def w2c() -> torch.Tensor:
    """World-to-camera matrices [V, 4, 4] of the reference cameras."""
    pose = torch.eye(4, dtype=torch.float64).repeat(VIEWS, 1, 1)
    for i, q in enumerate(quaternions()):
        pose[i, :3, :3] = rotate(q, torch.eye(3, dtype=torch.float64)).T
        pose[i, :3, 3] = torch.tensor([0.1 * i, -0.2, 1.0 + i])
    return pose


def reference(size: tuple[int, int] | None = (HEIGHT, WIDTH), names: tuple[str, ...] = NAMES) -> Cameras:
    K = torch.tensor([[FX / WIDTH, 0, CX / WIDTH], [0, FY / HEIGHT, CY / HEIGHT], [0, 0, 1]])
    return Cameras(torch.linalg.inv(w2c()), K.repeat(VIEWS, 1, 1), size, names)


def paint(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A picture whose red grows to the right and green downwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gradient(size)).save(path)


def gradient(size: tuple[int, int]) -> np.ndarray:
    y, x = np.meshgrid((np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1], indexing="ij")
    return np.rint(np.stack([x, y, 0.5 * np.ones_like(x)], axis=-1) * 255).astype(np.uint8)


def paint_all(folder: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for name in NAMES:
        paint(folder / name, size)


def write_nerfstudio(root: Path) -> Path:
    paint_all(root / "images")
    names = [f"images/{name}" for name in NAMES]
    write_transforms(root / "transforms.json", reference(), names, (HEIGHT, WIDTH))
    return root


def write_camera_folder(root: Path) -> Path:
    paint_all(root)
    write_cameras_json(root / "cameras.json", reference(), NAMES)
    return root


def write_realestate(root: Path) -> Path:
    lines = ["https://example.org/video"]
    for i, pose in enumerate(w2c()[:, :3].reshape(VIEWS, 12).tolist()):
        paint(root / "clip" / f"{1000 + i}.jpg")
        numbers = [FX / WIDTH, FY / HEIGHT, CX / WIDTH, CY / HEIGHT, 0, 0, *pose]
        lines.append(" ".join([str(1000 + i), *(f"{n:.12f}" for n in numbers)]))
    (root / "clip.txt").write_text("\n".join(lines))
    return root


def write_colmap_text(
    root: Path, model: str = "PINHOLE", values: tuple[float, ...] = (FX, FY, CX, CY), folder: str = "sparse/0"
) -> Path:
    paint_all(root / "images")
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    numbers = " ".join(str(value) for value in values)
    (place / "cameras.txt").write_text(f"# a comment\n7 {model} {WIDTH} {HEIGHT} {numbers}\n")
    records = []
    for i in reversed(range(VIEWS)):
        pose = [*quaternions()[i].tolist(), *w2c()[i, :3, 3].tolist()]
        points = "1.5 2.5 -1" if i == 0 else ""
        records.append(f"{i + 1} {' '.join(str(n) for n in pose)} 7 {NAMES[i]}\n{points}\n")
    (place / "images.txt").write_text("# a comment\n" + "".join(records))
    return root


def write_colmap_binary(
    root: Path, model: str = "PINHOLE", values: tuple[float, ...] = (FX, FY, CX, CY), folder: str = "sparse/0"
) -> Path:
    paint_all(root / "images")
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    camera = struct.pack("<QiiQQ", 1, 7, COLMAP_IDS[model], WIDTH, HEIGHT) + struct.pack(f"<{len(values)}d", *values)
    (place / "cameras.bin").write_bytes(camera)
    data = struct.pack("<Q", VIEWS)
    for i in reversed(range(VIEWS)):
        data += struct.pack("<i7di", i + 1, *quaternions()[i].tolist(), *w2c()[i, :3, 3].tolist(), 7)
        data += NAMES[i].encode() + b"\0" + struct.pack("<Q2dq", 1, 1.5, 2.5, -1)
    (place / "images.bin").write_bytes(data)
    return root


FORMATS = {
    "transforms.json": write_nerfstudio,
    "cameras.json": write_camera_folder,
    "RealEstate10K": write_realestate,
    "COLMAP": write_colmap_text,
    "COLMAP binary": write_colmap_binary,
}
COLMAP_WRITERS = {"text": write_colmap_text, "binary": write_colmap_binary}


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data))


def assert_same_cameras(got: Cameras, expected: Cameras) -> None:
    torch.testing.assert_close(got.c2w, expected.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.K, expected.K, atol=1e-6, rtol=0)


def set_in_frame(key: str, value: object) -> Callable[[dict], None]:
    return lambda data: data["frames"][1].update({key: value})


def set_in_pose(row: int, column: int, value: float, key: str = "transform_matrix") -> Callable[[dict], None]:
    def change(data: dict) -> None:
        data["frames"][1][key][row][column] = value

    return change
