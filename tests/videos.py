"""Small posed videos in the layouts of public data sets, for the tests of training data."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenetok_core.camera import fit_views
from scenetok_core.captures import write_transforms
from scenetok_core.types import Cameras, Views

FRAMES = 12
HEIGHT, WIDTH = 24, 32
CROP = 16
JPEG_ERROR = 0.03


def walk(frames: int = FRAMES) -> Cameras:
    """A turning walk; the principal point is off the centre so that mirroring and cropping show."""
    angle = torch.linspace(-0.4, 0.5, frames, dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    c2w[:, 0, 0] = c2w[:, 2, 2] = angle.cos()
    c2w[:, 0, 2], c2w[:, 2, 0] = angle.sin(), -angle.sin()
    c2w[:, :3, 3] = torch.stack([torch.linspace(0, 2, frames), 0.1 * angle, angle.square()], -1)
    K = torch.tensor([[0.9, 0, 0.53], [0, 1.2, 0.48], [0, 0, 1]])
    return Cameras(c2w, K.repeat(frames, 1, 1), size=(HEIGHT, WIDTH))


def pictures(frames: int = FRAMES, scene: int = 0) -> torch.Tensor:
    """[F, 3, H, W] of 8 bits in [0, 1]: red grows to the right, green downwards, blue tells frame and scene."""
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    blue = ((torch.arange(frames) + 3 * scene) % 16 / 15)[:, None, None].expand(-1, HEIGHT, WIDTH)
    rgb = torch.stack([x.expand_as(blue), y.expand_as(blue), blue], 1)
    return (rgb * 255).round() / 255


def expected(indices: Sequence[int] = range(FRAMES), scene: int = 0, size: int = CROP) -> Views:
    """Square pictures as every reader should give them."""
    return fit_views(Views(pictures(scene=scene), walk())[list(indices)], (size, size))


def save(rgb: torch.Tensor, file: Path | io.BytesIO, kind: str = "PNG") -> None:
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
    array = (rgb * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))


def realestate_scene(key: str, scene: int = 0) -> dict:
    images = []
    for rgb in pictures(scene=scene):
        data = io.BytesIO()
        save(rgb, data, "JPEG")
        images.append(torch.frombuffer(bytearray(data.getvalue()), dtype=torch.uint8))
    cameras = walk()
    w2c = torch.linalg.inv(cameras.c2w.double())[:, :3].reshape(FRAMES, 12)
    K = cameras.K.double()
    intrinsics = torch.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], *torch.zeros(2, FRAMES)], -1)
    return {
        "key": key,
        "url": "https://example.org/video",
        "timestamps": torch.arange(FRAMES) * 1000,
        "cameras": torch.cat([intrinsics, w2c], -1).float(),
        "images": images,
    }


def write_realestate(root: Path, chunks: dict[str, Sequence[str]] | None = None, *, index: bool = True) -> Path:
    """Chunks with scenes of these keys; the n-th key overall is scene n."""
    chunks = chunks or {"000000.torch": ("a", "b"), "000001.torch": ("c",)}
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for name, keys in chunks.items():
        torch.save([realestate_scene(key, number + i) for i, key in enumerate(keys)], root / name)
        number += len(keys)
    if index:
        (root / "index.json").write_text(json.dumps({key: name for name, keys in chunks.items() for key in keys}))
    return root


def write_capture(folder: Path, scene: int = 0, *, images: str = "images", scale: int = 1) -> Path:
    """A nerfstudio capture whose JSON names `images/...` of `scale` times the size of the pictures in `images`."""
    names = [f"frame_{i:05}.png" for i in range(1, FRAMES + 1)]
    for name, rgb in zip(names, pictures(scene=scene), strict=True):
        save(rgb, folder / images / name)
    size = (HEIGHT * scale, WIDTH * scale)
    write_transforms(folder / "transforms.json", walk(), [f"images/{name}" for name in names], size)
    return folder


def write_captures(root: Path, count: int = 3) -> Path:
    for scene in range(count):
        write_capture(root / f"scene{scene}", scene)
    return root


def write_dl3dv(root: Path, hashes: Sequence[str] = ("aa", "bb")) -> Path:
    for scene, name in enumerate(hashes):
        write_capture(root / "1K" / name / ("nerfstudio" * (scene % 2)), scene, images="images_4", scale=4)
    return root


def write_npz(folder: Path, name: str, latent: torch.Tensor, frames: int = FRAMES, **changes: object) -> Path:
    """Latents as the published code stores them, with the entry that its call of `savez` adds by mistake."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = fit_views(Views(pictures(), walk()), (CROP, CROP)).cameras
    arrays = {
        "latent": latent.half().numpy(),
        "extrinsics": cameras.c2w[:frames].half().numpy(),
        "intrinsics": cameras.K[:frames].half().numpy(),
        "allow_pickle": np.array(False),
        **changes,
    }
    path = folder / f"{name}.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})  # type: ignore[arg-type]
    return path
