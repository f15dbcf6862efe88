import pytest
import torch

from scenetok_core.camera import fit_image
from scenetok_core.trajectories.splines import rotation_about
from scenetok_core.types import Cameras
from scenetok_core.views.selection import middle_view, select_views, sharpness

VIEWS = 21
SIDE = 32


def make_cameras(centers, turns=None) -> Cameras:
    centers = torch.as_tensor(centers, dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(centers), 1, 1)
    c2w[:, :3, 3] = centers
    if turns is not None:
        c2w[:, :3, :3] = rotation_about(torch.tensor([0.0, 1.0, 0.0]), torch.as_tensor(turns, dtype=torch.float64))
    return Cameras(c2w, torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(len(centers), 1, 1))


def line(count=VIEWS) -> Cameras:
    return make_cameras([[i, 0, 0] for i in range(count)])


def turning(count=VIEWS) -> Cameras:
    return make_cameras([[4.0, 0, 1]] * count, torch.linspace(0, 2, count))


def in_unit(cameras: Cameras, unit: float) -> Cameras:
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= unit
    return cameras.replace(c2w=c2w)


def scattered(count=30) -> Cameras:
    generator = torch.Generator().manual_seed(3)
    return make_cameras(torch.randn(count, 3, generator=generator), 2 * torch.rand(count, generator=generator))


def textured(count=3) -> torch.Tensor:
    return 0.1 + 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cameras", [line(), turning()], ids=["moving", "turning"])
@pytest.mark.parametrize(("count", "expected"), [(1, [10]), (3, [0, 10, 20]), (5, [0, 5, 10, 15, 20])])
def test_views_are_spread_evenly(cameras, count, expected):
    assert select_views(cameras, count) == expected


@pytest.mark.parametrize("unit", [0.01, 100.0])
@pytest.mark.parametrize("cameras", [line(20), scattered()], ids=["ties", "scattered"])
def test_the_unit_of_the_capture_does_not_matter(cameras, unit):
    assert select_views(in_unit(cameras, unit), 7) == select_views(cameras, 7)
    assert middle_view(in_unit(cameras, unit)) == middle_view(cameras)


def test_views_far_from_the_origin_are_told_apart():
    c2w = line().c2w.clone()
    c2w[:, :3, 3] += torch.tensor([1e4, -2e4, 500.0])
    assert select_views(line().replace(c2w=c2w), 3) == [0, 10, 20]


@pytest.mark.parametrize("count", [VIEWS, VIEWS + 5])
def test_all_views_are_taken_when_there_are_no_more(count):
    assert select_views(line(), count) == list(range(VIEWS))


def test_the_seed_view_is_taken():
    assert select_views(line(), 2, seed_view=3) == [3, 20]


def test_views_in_one_place_are_chosen_by_sharpness():
    cameras = make_cameras([[1.0, 2, 3]] * 6)
    assert select_views(cameras, 3) == [0, 1, 2]
    assert select_views(cameras, 2, torch.tensor([1.0, 2, 1, 9, 1, 8])) == [3, 5]


def test_blurred_views_give_way_to_sharp_neighbours():
    blurred = [0, 5, 10, 11, 20]
    values = torch.ones(VIEWS)
    values[blurred] = 0.1
    chosen = select_views(line(), 5, values)
    assert not set(chosen) & set(blurred)
    gaps = torch.tensor([-1, *chosen, VIEWS]).diff()
    assert int(gaps.max()) <= 7


def test_a_plain_part_of_the_scene_is_not_taken_for_blur():
    plain_wall = torch.cat([torch.full((11,), 1.0), torch.full((10,), 0.01)])
    assert max(select_views(line(), 5, plain_wall)) >= 18


def test_the_choice_repeats_and_leaves_its_inputs_alone():
    cameras, values = scattered(), torch.rand(30, generator=torch.Generator().manual_seed(0))
    before = cameras.c2w.clone(), values.clone()
    first = select_views(cameras, 9, values)
    assert first == select_views(cameras, 9, values) == sorted(set(first))
    assert len(first) == 9
    assert torch.equal(cameras.c2w, before[0]) and torch.equal(values, before[1])


@pytest.mark.parametrize(
    ("cameras", "expected"),
    [(line(), 10), (turning(), 10), (line(1), 0), (line(2), 0), (make_cameras([[0, 0, 0], [9, 0, 0], [1, 0, 0]]), 2)],
)
def test_middle_view_is_the_most_central_one(cameras, expected):
    assert middle_view(cameras) == expected


def test_blur_lowers_sharpness_and_exposure_does_not():
    picture = textured()
    blurred = fit_image(fit_image(picture, (SIDE // 2, SIDE // 2)), (SIDE, SIDE))
    assert bool((sharpness(blurred) < 0.3 * sharpness(picture)).all())
    torch.testing.assert_close(sharpness(picture * 0.4), sharpness(picture), rtol=1e-3, atol=0)
    torch.testing.assert_close(sharpness(picture * 2.0), sharpness(picture), rtol=1e-3, atol=0)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_an_even_picture_has_no_sharpness(level):
    assert float(sharpness(torch.full((1, 3, 8, 8), level))) < 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select_views(line(), 0), "at least 1 view, got 0"),
        (lambda: select_views(line(), 3, torch.ones(4)), r"one value per view \(21\)"),
        (lambda: select_views(line(), 3, seed_view=21), "between 0 and 20, got 21"),
        (lambda: middle_view(Cameras(line().c2w[None], line().K[None])), "one scene"),
        (lambda: sharpness(torch.zeros(2, 1, 8, 8)), "rgb must have shape"),
        (lambda: sharpness(torch.zeros(2, 3, 2, 8)), "at least|>= 3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
