"""Cameras built by hand from the definition of each convention, for the tests of reading and writing them.

Each function gives one camera of the convention: it stands `right` and `up` units from the origin, turned `yaw` degrees
to the right and `pitch` degrees upwards. None of them uses the package.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch

HEIGHT, WIDTH = 60, 80
FOCAL = 50.0  # pixels
PAYLOADS = Path(__file__).parent / "payloads"


def payload(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def depth_anything_payload() -> dict[str, Any]:
    data = payload("da3_geometry")
    return {key: value if isinstance(value, str) else torch.tensor(value) for key, value in data.items()}


def opencv_w2c(right=0.0, up=0.0, yaw=0.0, pitch=0.0):
    """x right, y down, z ahead: the rows of the rotation are the camera's axes in the world."""
    turn, tilt = math.radians(yaw), math.radians(pitch)
    x = [math.cos(turn), 0.0, -math.sin(turn)]
    z = [math.sin(turn) * math.cos(tilt), -math.sin(tilt), math.cos(turn) * math.cos(tilt)]
    y = [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]]
    center = (right, -up, 0.0)
    return [[*axis, -sum(a * c for a, c in zip(axis, center, strict=True))] for axis in (x, y, z)]


def pixel_intrinsics():
    return [[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]]


def cameractrl_row(**moves):
    intrinsics = [FOCAL / WIDTH, FOCAL / HEIGHT, 0.5, 0.5]
    return [0, *intrinsics, 0, 0, *(number for row in opencv_w2c(**moves) for number in row)]


def depth_anything(**moves):
    """As the network saw a picture of 4 x 3: 112 x 84 pixels, not those of the picture."""
    intrinsics = [[FOCAL * 112 / WIDTH, 0.0, 56.0], [0.0, FOCAL * 84 / HEIGHT, 42.0], [0.0, 0.0, 1.0]]
    return {
        "mode": "multiview",
        "image": torch.zeros(1, HEIGHT, WIDTH, 3),
        "depth": torch.ones(1, HEIGHT, WIDTH),
        "extrinsics": torch.tensor([[opencv_w2c(**moves)]]),
        "intrinsics": torch.tensor([[intrinsics]]),
    }


def viewer_axes(right=0.0, up=0.0, yaw=0.0, pitch=0.0):
    """Position, and the axes right, up and ahead of a camera in a world of x right, y up, -z ahead."""
    turn, tilt = math.radians(yaw), math.radians(pitch)
    x = [math.cos(turn), 0.0, math.sin(turn)]
    ahead = [math.sin(turn) * math.cos(tilt), math.sin(tilt), -math.cos(turn) * math.cos(tilt)]
    top = [-math.sin(turn) * math.sin(tilt), math.cos(tilt), math.cos(turn) * math.sin(tilt)]
    return [right, up, 0.0], x, top, ahead


def viewer_old(**moves):
    """position and target; the viewer's slider tells the field of view."""
    position, _, _, ahead = viewer_axes(**moves)
    target = [p + 3 * a for p, a in zip(position, ahead, strict=True)]
    named = [dict(zip("xyz", vector, strict=True)) for vector in (position, target)]
    return {"position": named[0], "target": named[1], "zoom": 1, "cameraType": "perspective"}


def viewer_new(right=0.0, up=0.0, yaw=0.0, pitch=0.0):
    """A turn to the right is negative about +y, one upwards positive about the camera's +x; y first."""
    turn, tilt = -math.radians(yaw) / 2, math.radians(pitch) / 2
    quaternion = {
        "x": math.cos(turn) * math.sin(tilt),
        "y": math.sin(turn) * math.cos(tilt),
        "z": -math.sin(turn) * math.sin(tilt),
        "w": math.cos(turn) * math.cos(tilt),
    }
    return {**viewer_old(right=right, up=up), "quaternion": quaternion, "fov": viewer_fov(), "aspect": WIDTH / HEIGHT}


def viewer_fov():
    return math.degrees(2 * math.atan(HEIGHT / 2 / FOCAL))


def opengl_transforms(**moves):
    """nerfstudio's JSON: the columns of the matrix are the camera's right, up and back."""
    position, x, top, ahead = viewer_axes(**moves)
    rows = [[x[i], top[i], -ahead[i], position[i]] for i in range(3)]
    frame = {"file_path": "images/0.png", "transform_matrix": [*rows, [0, 0, 0, 1]]}
    return {"fl_x": FOCAL, "fl_y": FOCAL, "w": WIDTH, "h": HEIGHT, "frames": [frame]}


def colmap_image(right=0.0, up=0.0, yaw=0.0, pitch=0.0):
    """A line of images.txt: the quaternion (w, x, y, z) turns the world, so against the camera; about x, then y."""
    turn, tilt = -math.radians(yaw) / 2, -math.radians(pitch) / 2
    quaternion = [
        math.cos(turn) * math.cos(tilt),
        math.cos(turn) * math.sin(tilt),
        math.sin(turn) * math.cos(tilt),
        math.sin(turn) * math.sin(tilt),
    ]
    translation = [row[3] for row in opencv_w2c(right, up, yaw, pitch)]
    return " ".join(str(number) for number in [1, *quaternion, *translation, 1]) + " 0.png\n\n"
