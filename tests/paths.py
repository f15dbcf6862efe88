"""Camera sets that tests of paths share, around one pivot in a world with z up."""

import math

import torch

from scenetok_core.trajectories.framing import look_at
from scenetok_core.trajectories.splines import rotation_about
from scenetok_core.types import Cameras

FOCAL = 0.9
SIZE = (48, 64)
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
PIVOT = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)


def make_cameras(position, rotation, focal=FOCAL) -> Cameras:
    position = torch.as_tensor(position, dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(position), 1, 1)
    c2w[:, :3, :3], c2w[:, :3, 3] = rotation, position
    K = torch.tensor([[focal * SIZE[0] / SIZE[1], 0, 0.5], [0, focal, 0.5], [0, 0, 1.0]]).repeat(len(position), 1, 1)
    return Cameras(c2w, K, size=SIZE)


def looking_at(position, target=PIVOT) -> Cameras:
    position = torch.as_tensor(position, dtype=torch.float64)
    return make_cameras(position, look_at(position, target, UP, EYE))


def ring(count=9, radius=2.0, height=0.7, degrees=120.0) -> Cameras:
    """Cameras on an arc around the pivot, z up, looking at the pivot."""
    angle = torch.linspace(0, math.radians(degrees), count, dtype=torch.float64)
    offset = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.full_like(angle, height)], -1)
    return looking_at(PIVOT + offset)


def walk(count=12) -> Cameras:
    """A shaky walk along x with slow turns, level on average."""
    generator = torch.Generator().manual_seed(0)
    position = torch.linspace(0, 5, count, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.2, 0.0])
    position = position + 0.03 * torch.randn(count, 3, generator=generator)
    target = position + torch.stack([torch.ones(count), torch.linspace(-0.7, 0.7, count), torch.zeros(count)], -1)
    return make_cameras(
        position, look_at(position, target + 0.03 * torch.randn(count, 3, generator=generator), UP, EYE)
    )


def turned(cameras: Cameras, view: int, degrees: float, axis: int) -> Cameras:
    """The cameras with one of them turned about its own axis (0 = x, 1 = y, 2 = its view)."""
    c2w = cameras.c2w.double().clone()
    c2w[view, :3, :3] @= rotation_about(EYE[axis], torch.tensor([math.radians(degrees)]))[0]
    return cameras.replace(c2w=c2w)
