"""The drawing of a camera path: colours at places that are computed here."""

import math

import numpy as np
import pytest
import torch

from scenetok_core.pictures.canvas import Canvas
from scenetok_core.pictures.path_glyphs import INPUTS, KEYS, OUTSIDE, PANEL, PIVOT, time_colour
from scenetok_core.pictures.path_layout import frustums, preview_layout
from scenetok_core.pictures.path_preview import draw_path, draw_view
from scenetok_core.trajectories import make_trajectory
from scenetok_core.trajectories.framing import focus_point
from tests.paths import EYE, UP, looking_at, make_cameras, ring, walk
from tests.paths import PIVOT as MEETING

FRAMES = 33
WIDTH = 960
PATH_PRESETS = ("orbit", "dolly", "pan", "loop")


def pixels(image):
    return np.asarray(image).astype(int)


def nearest(image, place, colour, radius=1):
    """The smallest largest difference of a channel to `colour` among the pixels around a place."""
    x, y = (round(float(value) - 0.5) for value in place)
    around = pixels(image)[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
    return int(np.abs(around - np.array(colour)).max(-1).min())


def diagonal():
    """A path that no plane shows in itself: up, to the side and ahead, in front of the ring's inputs."""
    start = MEETING + torch.tensor([1.2, -1.6, -0.4])
    positions = torch.lerp(
        start[None], (start + torch.tensor([-2.0, 0.5, 1.9]))[None], torch.linspace(0, 1, FRAMES).double()[:, None]
    )
    return looking_at(positions)


def test_the_path_is_drawn_where_it_is_in_the_colours_of_time():
    path, inputs = diagonal(), ring()
    image, layout = draw_path(path, inputs, width=WIDTH), preview_layout(path, inputs, width=WIDTH)
    assert image.size == layout.size
    for plane in layout.planes:
        places = plane.project(path.centers)
        for frame in (3, 4, 10, 16, 22, 29):
            assert nearest(image, places[frame], time_colour(frame / (FRAMES - 1))) < 12, (plane.name, frame)


def test_the_planes_look_from_above_behind_and_the_right_at_one_scale():
    inputs = ring()
    layout = preview_layout(diagonal(), inputs, width=WIDTH)
    middle = inputs.c2w[4].double()
    level = torch.nn.functional.normalize(middle[:3, 2] - middle[:3, 2] @ UP * UP, dim=0)
    shifts = {"right": middle[:3, 0], "ahead": level, "up": UP}
    expected = {
        "Top": {"right": (1, 0), "ahead": (0, -1), "up": (0, 0)},
        "Front": {"right": (1, 0), "ahead": (0, 0), "up": (0, -1)},
        "Side": {"right": (0, 0), "ahead": (1, 0), "up": (0, -1)},
    }
    scale = layout.planes[0].scale
    for plane in layout.planes:
        for way, direction in shifts.items():
            moved = plane.project(MEETING + direction) - plane.project(MEETING)
            wanted = torch.tensor(expected[plane.name][way], dtype=torch.float64) * scale
            torch.testing.assert_close(moved, wanted, atol=1e-3 * scale, rtol=0)


@pytest.mark.parametrize("preset", PATH_PRESETS)
@pytest.mark.parametrize("inputs", [ring(), walk(), ring(1)], ids=["ring", "walk", "one"])
def test_everything_lies_inside_its_panel(preset, inputs):
    path = make_trajectory(preset, inputs, FRAMES)
    layout = preview_layout(path, inputs, width=WIDTH)
    for plane in layout.planes:
        points = torch.cat(
            [path.centers.double(), inputs.centers.double(), frustums(path, layout.frustum).flatten(0, 1)]
        )
        places = plane.project(points if layout.pivot is None else torch.cat([points, layout.pivot[None]]))
        left, top, right, bottom = plane.box
        assert bool((places[:, 0] >= left).all() and (places[:, 0] <= right).all())
        assert bool((places[:, 1] >= top).all() and (places[:, 1] <= bottom).all())


def test_input_cameras_are_frustums_of_their_field_of_view():
    inputs = ring()
    path = diagonal()
    image, layout = draw_path(path, inputs, width=WIDTH), preview_layout(path, inputs, width=WIDTH)
    corners = frustums(inputs, layout.frustum)
    across = (corners[:, 2] - corners[:, 1]).norm(dim=-1) / layout.frustum
    torch.testing.assert_close(across, (1 / inputs.K[:, 0, 0]).double())
    torch.testing.assert_close(corners[:, 0], inputs.centers.double())
    for view in range(len(inputs)):
        for edge in ((0, 1), (1, 2), (2, 3)):
            halfway = layout.planes[0].project(corners[view, edge, :].mean(0))
            assert nearest(image, halfway, INPUTS) < 35, (view, edge)
        behind = layout.planes[0].project(2 * corners[view, 0] - corners[view, 1:].mean(0))
        assert nearest(image, behind, INPUTS) > 35


def test_pivot_and_keys_are_marked():
    path, inputs = diagonal(), ring()
    image = draw_path(path, inputs, width=WIDTH, keys=ring(3, radius=2.4))
    layout = preview_layout(path, inputs, ring(3, radius=2.4), WIDTH)
    for plane in layout.planes[:2]:
        assert nearest(image, plane.project(focus_point(inputs)), PIVOT) < 30
    diamond = layout.planes[0].project(ring(3, radius=2.4).centers[0]) + torch.tensor([4.5, 4.5]) * WIDTH / 1280
    assert nearest(image, diamond, KEYS) < 60
    plain = draw_path(path, inputs, width=WIDTH)
    assert nearest(plain, diamond, KEYS, radius=4) > 100


def test_a_path_that_leaves_what_was_seen_has_red_edges():
    inputs = ring(degrees=40)
    path = make_trajectory("orbit", inputs, FRAMES)
    image, layout = draw_path(path, inputs, width=WIDTH), preview_layout(path, inputs, width=WIDTH)
    centre = layout.planes[0].project(MEETING)
    for frame, outside in ((16, True), (1, False)):
        place = layout.planes[0].project(path.centers[frame])
        edge = place + (place - centre) / (place - centre).norm() * 4.2 * WIDTH / 1280
        assert (nearest(image, edge, OUTSIDE) < 30) is outside


def towards(depths, aside=0.0):
    """Inputs at the origin along z, and a path on the first one's axis."""
    inputs = make_cameras([[0.0, 0, 0], [1.0, 0, 0]], EYE)
    return inputs, make_cameras([[aside * depth, 0.0, depth] for depth in depths], EYE)


def test_in_the_picture_the_path_is_where_the_first_camera_sees_it():
    inputs, _ = towards([1.0])
    across, depths = torch.linspace(-0.6, 0.5, 11).double(), torch.linspace(2.0, 3.0, 11).double()
    path = make_cameras(torch.stack([across, torch.full_like(across, 0.3), depths], -1), EYE)
    image = draw_path(path, inputs, torch.full((3, 48, 64), 0.9), width=WIDTH)
    layout = preview_layout(path, inputs, width=WIDTH)
    left, top, right, bottom = layout.picture.box
    assert (right - left) / (bottom - top) == pytest.approx(64 / 48, rel=0.01)
    focal = inputs.K[0].double()
    for frame in (2, 3, 5, 8):
        x = left + (right - left) * (0.5 + focal[0, 0] * across[frame] / depths[frame])
        y = top + (bottom - top) * (0.5 + focal[1, 1] * 0.3 / depths[frame])
        assert nearest(image, (x, y), time_colour(frame / 10)) < 25
    ground = pixels(image)[round(top) + 20, round(left) + 20]
    assert 140 < ground.min() <= ground.max() < 185


def crossing(nearer_first):
    """Two strokes across the middle of the picture, one behind the other."""
    inputs, _ = towards([1.0])
    near = [[x, 0.0, 2.0] for x in torch.linspace(-0.4, 0.4, 9).tolist()]
    far = [[0.0, y, 4.0] for y in torch.linspace(-0.8, 0.8, 9).tolist()]
    return inputs, make_cameras([*near, *far] if nearer_first else [*far, *near], EYE)


@pytest.mark.parametrize("nearer_first", [True, False])
def test_nearer_parts_of_the_path_cover_farther_ones(nearer_first):
    inputs, path = crossing(nearer_first)
    image, layout = draw_path(path, inputs, width=WIDTH), preview_layout(path, inputs, width=WIDTH)
    left, top, right, bottom = layout.picture.box
    middle = ((left + right) / 2, (top + bottom) / 2)
    near, far = (time_colour((4 if first else 13) / 17) for first in (nearer_first, not nearer_first))
    assert nearest(image, middle, near) < 25
    assert nearest(image, middle, far) > 40


def test_what_is_behind_the_camera_is_not_in_its_picture():
    inputs, path = towards([-3.0, -2.0, -1.0], aside=0.1)
    layout = preview_layout(path, inputs, width=WIDTH)
    _, depth = layout.picture.project(path.centers)
    assert float(depth.max()) < 0
    left, top, right, bottom = map(round, layout.picture.box)
    inside = pixels(draw_path(path, inputs, width=WIDTH))[top:bottom, left:right]
    assert int((inside.max(-1) - inside.min(-1)).max()) < 25  # greys alone


def test_a_path_through_the_camera_is_cut_off_before_it():
    inputs, path = towards([-1.0, 2.0], aside=0.2)
    image, layout = draw_path(path, inputs, width=WIDTH), preview_layout(path, inputs, width=WIDTH)
    place, _ = layout.picture.project(path.centers[1])
    assert nearest(image, place, time_colour(1.0), radius=3) < 40


@pytest.mark.parametrize("frames", [1, 2, 400])
@pytest.mark.parametrize("inputs", [ring(1), ring(2, degrees=40), make_cameras([[0.0, 0, 0]] * 3, EYE)])
def test_short_still_and_long_paths_are_drawn(frames, inputs):
    path = make_trajectory("pan", inputs, frames)
    before = path.c2w.clone()
    image = draw_path(path, inputs, width=480)
    assert image.size == (480, 355)
    assert torch.equal(path.c2w, before)


def test_the_scale_bar_is_a_round_length_that_fits():
    for unit in (0.003, 1.0, 70.0):
        c2w = ring().c2w.clone()
        c2w[:, :3, 3] *= unit
        inputs = ring().replace(c2w=c2w)
        layout = preview_layout(inputs, inputs, width=WIDTH)
        power = layout.bar / 10 ** math.floor(math.log10(layout.bar) + 1e-9)
        assert min(abs(power - nice) for nice in (1, 2, 5)) < 1e-6
        assert 40 < layout.bar * layout.planes[0].scale < 150


def test_one_view_alone_and_pictures_that_are_too_small():
    assert draw_view(diagonal(), ring(), "Side", width=300).width == pytest.approx(300, abs=2)
    with pytest.raises(ValueError, match="at least 320 pixels of width, got 100"):
        draw_path(diagonal(), ring(), width=100)


def test_labels_keep_clear_of_each_other_and_of_the_edge():
    canvas = Canvas((200, 100), PANEL)
    places = [(100.0, 50.0), (102.0, 52.0), (195.0, 50.0), (100.0, 96.0)]
    for number, place in enumerate(places):
        canvas.label(place, f"label {number}", (255, 255, 255), 12)
    boxes = canvas.taken
    for i, a in enumerate(boxes):
        assert a[0] >= 0 and a[2] <= 200 and a[1] >= 0 and a[3] <= 100
        assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[:i])
