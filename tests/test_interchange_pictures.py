"""What a camera of each convention sees: built by hand, read, and looked through.

Coloured points hang in the world; a camera that turns or moves to the right must show what is ahead further left, one
that turns or moves upwards further down.
"""

import json

import pytest
import torch

from scenetok_core.camera import invert_poses
from scenetok_core.captures import open_capture
from scenetok_core.interchange import (
    from_cameractrl,
    from_depth_anything,
    from_load3d,
    from_matrices,
    from_realestate_text,
    to_load3d,
)
from tests import outside
from tests.captures import paint
from tests.outside import HEIGHT, WIDTH

SIZE = (HEIGHT, WIDTH)
RED, GREEN, BLUE = torch.eye(3)
# Ahead, to the right of it and above it, as a fraction of the world's depth of 5; OpenCV axes.
POINTS = {"ahead": ((0.0, 0.0, 5.0), BLUE), "right": ((1.0, 0.0, 5.0), RED), "above": ((0.0, -1.0, 5.0), GREEN)}
DEGREES, STEP = 8.0, 0.5


def viewer(info, **options):
    return from_load3d(info, SIZE, **options)


def read_transforms(folder, **moves):
    paint(folder / "images" / "0.png", SIZE)
    (folder / "transforms.json").write_text(json.dumps(outside.opengl_transforms(**moves)))
    return open_capture(folder).cameras


def read_colmap(folder, **moves):
    paint(folder / "images" / "0.png", SIZE)
    (folder / "sparse" / "0").mkdir(parents=True)
    intrinsics = f"{outside.FOCAL} {outside.FOCAL} {WIDTH / 2} {HEIGHT / 2}"
    (folder / "sparse" / "0" / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {intrinsics}\n")
    (folder / "sparse" / "0" / "images.txt").write_text(outside.colmap_image(**moves))
    return open_capture(folder).cameras


def read_matrices(folder, **moves):
    w2c = torch.tensor([outside.opencv_w2c(**moves)])
    return from_matrices(w2c, torch.tensor([outside.pixel_intrinsics()]), SIZE)


def read_text(folder, **moves):
    row = " ".join(str(number) for number in outside.cameractrl_row(**moves))
    return from_realestate_text(f"https://example.org/video\n{row}\n", SIZE)


# How a camera is read, and whether its world has y up and -z ahead (True) or OpenCV's axes.
CONVENTIONS = {
    "EXTRINSICS": (read_matrices, False),
    "CAMERACTRL_POSES": (lambda _, **moves: from_cameractrl([outside.cameractrl_row(**moves)], SIZE), False),
    "RealEstate10K": (read_text, False),
    "DA3_GEOMETRY": (lambda _, **moves: from_depth_anything(outside.depth_anything(**moves)).cameras, False),
    "COLMAP": (read_colmap, False),
    "transforms.json": (read_transforms, True),
    "LOAD3D_CAMERA": (lambda _, **moves: viewer(outside.viewer_new(**moves)), False),
    "LOAD3D_CAMERA before 0.23": (
        lambda _, **moves: viewer(outside.viewer_old(**moves), fov_degrees=outside.viewer_fov()),
        False,
    ),
}


def draw(cameras, y_up=False):
    """A picture [3, H, W] of the coloured points, each a square of 3 x 3 pixels."""
    picture = torch.zeros(3, *SIZE)
    w2c, K = invert_poses(cameras.c2w[0]), cameras.K[0].double()
    for place, colour in POINTS.values():
        point = torch.tensor([*place, 1.0], dtype=torch.float64)
        if y_up:  # the world of this convention is not turned when it is read, so neither are its points
            point[1:3] *= -1
        x, y, depth = (K @ (w2c @ point)[:3]).tolist()
        assert depth > 0, "behind the camera"
        column, row = int(x / depth * WIDTH), int(y / depth * HEIGHT)
        picture[:, row - 1 : row + 2, column - 1 : column + 2] = colour[:, None, None]
    return picture


def places(picture):
    """Where the points are in the picture: (column, row) of their squares' centres."""
    found = {}
    for name, (_, colour) in POINTS.items():
        mask = (picture == colour[:, None, None]).all(0)
        assert mask.any(), f"{name} is not in the picture"
        rows, columns = mask.nonzero().float().mean(0).tolist()
        found[name] = (columns, rows)
    return found


@pytest.fixture(params=CONVENTIONS)
def look(request, tmp_path):
    """What a camera of one convention sees after some moves."""
    read, y_up = CONVENTIONS[request.param]

    def go(**moves):
        name = "-".join(f"{move}{amount}" for move, amount in moves.items()) or "still"
        (tmp_path / name).mkdir()
        return places(draw(read(tmp_path / name, **moves), y_up))

    return go


def test_right_is_right_and_up_is_up(look):
    seen = look()
    assert seen["ahead"] == (WIDTH / 2, HEIGHT / 2)
    assert seen["right"] == (WIDTH / 2 + outside.FOCAL / 5, HEIGHT / 2)
    assert seen["above"] == (WIDTH / 2, HEIGHT / 2 - outside.FOCAL / 5)


def test_a_camera_that_turns_or_moves_right_sees_what_is_ahead_further_left(look):
    for moves in ({"yaw": DEGREES}, {"right": STEP}):
        column, row = look(**moves)["ahead"]
        assert column < WIDTH / 2 - 3 and row == HEIGHT / 2, moves


def test_a_camera_that_turns_or_moves_up_sees_what_is_ahead_further_down(look):
    for moves in ({"pitch": DEGREES}, {"up": STEP}):
        column, row = look(**moves)["ahead"]
        assert column == WIDTH / 2 and row > HEIGHT / 2 + 3, moves


def test_all_moves_together_look_the_same_in_every_convention(look):
    moves = {"right": STEP, "up": -STEP, "yaw": -DEGREES, "pitch": DEGREES}
    assert look(**moves) == places(draw(read_matrices(None, **moves)))


def test_cameras_that_are_given_to_a_viewer_see_there_what_they_see_here():
    """Projected as three.js does it: by the quaternion, y up, along -z, vertical field of view and aspect."""
    cameras = read_matrices(None, right=STEP, up=STEP, yaw=DEGREES, pitch=-DEGREES)
    info, seen = to_load3d(cameras, 0), places(draw(cameras))
    x, y, z, w = (info["quaternion"][axis] for axis in "xyzw")
    for name, (place, _) in POINTS.items():
        shown = torch.tensor([place[0], -place[1], -place[2]]) - torch.tensor([info["position"][a] for a in "xyz"])
        u = torch.tensor([-x, -y, -z])  # the inverse quaternion turns the world into the camera's axes
        turned = shown + 2 * torch.linalg.cross(u, torch.linalg.cross(u, shown) + w * shown)
        half = torch.deg2rad(torch.tensor(info["fov"] / 2)).tan() * -turned[2]
        column = (turned[0] / half / info["aspect"] + 1) / 2 * WIDTH
        row = (1 - turned[1] / half) / 2 * HEIGHT
        assert (int(column), int(row)) == seen[name]
