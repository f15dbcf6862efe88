"""Photographs of a procedural room, with enough texture for structure from motion."""

from functools import cache

import torch

from scenetok_core.types import Cameras, Views
from training.data.rooms import Rooms, RoomsConfig
from training.data.walks import WalkStyle

HEIGHT, WIDTH, FOV = 192, 256, 60.0


@cache
def photographs(count=8, seed=5):
    """Views [count] of a short walk, 192 x 256 pixels, 60 degrees across."""
    style = WalkStyle(length_m=(0.8, 1.2), turn_degrees=15, fov_degrees=(FOV, FOV))
    rooms = Rooms(RoomsConfig(image_size=WIDTH, views=count, walk=style))
    scene = rooms.scenes(seed, 1)
    cameras = rooms.walk(scene, seed, count)
    rgb, _ = rooms.render(scene, cameras)
    top = (WIDTH - HEIGHT) // 2
    K = cameras.K[0].clone()
    K[:, 1, 1] *= WIDTH / HEIGHT
    return Views(rgb[0, :, :, top : top + HEIGHT].contiguous(), Cameras(cameras.c2w[0], K, unit="metric"))


def blank(count=4):
    return torch.full((count, 3, HEIGHT, WIDTH), 0.5)
