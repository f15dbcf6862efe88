"""Which frames are drawn, and mirrored scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scenetok_core.autoencoders import latent_spec
from scenetok_core.camera import ray_map
from scenetok_core.types import Cameras, Views
from tests import videos
from training.data.views import ViewChoice, ViewsConfig, draw_views, mirror_cameras, mirror_views

FRAMES = 80
SEEDS = 60
SPECS = {"patch": latent_spec("patch-8"), "video": latent_spec("videodcae"), "wan": latent_spec("wan2.2")}
BOUNDED = ViewsConfig(
    context_views=6, target_groups=2, gap=(40, 60), first_gap=(38, 44), margin=6, first_margin=0, warm_up=0.5
)
SAME = 1e-6


def draw(config=BOUNDED, seed=0, spec="wan", progress=1.0, frames=FRAMES) -> ViewChoice:
    groups = frames // SPECS[spec].group_frames
    generator = torch.Generator().manual_seed(seed)
    return draw_views(videos.walk(frames), groups, SPECS[spec], config, progress, generator)


def draws(config=BOUNDED, spec="wan", progress=1.0) -> list[ViewChoice]:
    return [draw(config, seed, spec, progress) for seed in range(SEEDS)]


def random_cameras(count=5) -> Cameras:
    generator = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    c2w = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    c2w[:, :3, :3] = q * torch.linalg.det(q)[:, None, None]
    c2w[:, :3, 3] = torch.randn(count, 3, generator=generator)
    K = torch.tensor([[0.8, 0.1, 0.37], [0, 1.1, 0.55], [0, 0, 1]])
    return Cameras(c2w, K.repeat(count, 1, 1))


def test_mirrored_rays_are_those_of_the_mirrored_world():
    cameras, size = random_cameras(), (6, 8)
    flip = torch.tensor([-1.0, 1, 1])[:, None, None]
    mirrored = mirror_cameras(cameras)
    assert torch.allclose(torch.linalg.det(mirrored.c2w[:, :3, :3]), torch.ones(5))
    for ours, plain in zip(ray_map(mirrored.c2w, mirrored.K, size), ray_map(cameras.c2w, cameras.K, size), strict=True):
        torch.testing.assert_close(ours, flip * plain.flip(-1), atol=SAME, rtol=0)
    again = mirror_cameras(mirrored)
    torch.testing.assert_close((again.c2w, again.K), (cameras.c2w, cameras.K), atol=SAME, rtol=0)


def test_mirrored_cameras_see_mirrored_pictures():
    """A world coloured by direction and place, and its mirror image, drawn through the rays of both."""
    cameras, size = random_cameras(), (6, 8)

    def drawn(cameras: Cameras, sign: float) -> torch.Tensor:
        origins, directions = ray_map(cameras.c2w, cameras.K, size)
        side = torch.tensor([sign, 1, 1])[:, None, None]
        return torch.sin(3 * side * directions + side * origins) / 2 + 0.5

    views = mirror_views(Views(drawn(cameras, 1), cameras.replace(size=size)))
    torch.testing.assert_close(views.rgb, drawn(views.cameras, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_gap_and_margin_bound_the_choice(spec, progress):
    low, high = {0.0: (38, 44), 0.25: (39, 52), 1.0: (40, 60)}[progress]
    margin = {0.0: 0, 0.25: 3, 1.0: 6}[progress]
    chosen = draws(spec=spec, progress=progress)
    gaps = [choice.context[-1] - choice.context[0] for choice in chosen]
    assert low <= min(gaps) <= low + 3 and high - 3 <= max(gaps) <= high
    for choice in chosen:
        assert len(choice.context) == 6 and list(choice.context) == sorted(set(choice.context))
        assert choice.context[0] >= 0 and choice.context[-1] < FRAMES
        assert choice.context[0] - margin <= choice.target[0]
        assert choice.target[-1] <= choice.context[-1] + margin
    assert {choice.reference for choice in chosen} == set(range(6))


@pytest.mark.parametrize("spec", SPECS)
def test_targets_are_whole_groups(spec):
    layout = SPECS[spec]
    for choice in draws(spec=spec):
        assert len(choice.target) == 2 * layout.group_frames and len(choice.latents) == 2 * layout.group_latents
        assert choice.target[0] % layout.group_frames == 0
        assert list(choice.target) == list(range(choice.target[0], choice.target[0] + len(choice.target)))
        first = choice.target[0] // layout.group_frames * layout.group_latents
        assert list(choice.latents) == list(range(first, first + len(choice.latents)))


def test_targets_stay_among_the_groups_that_there_are():
    config, cameras = ViewsConfig(context_views=4, target_groups=3), videos.walk(FRAMES)
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        choice = draw_views(cameras, 5, SPECS["video"], config, 1.0, generator)
        assert choice.latents[-1] < 5
    with pytest.raises(ValueError, match=r"80 frames \(2 groups of 4 with targets\) hold no 3 groups"):
        draw_views(cameras, 2, SPECS["video"], config, 1.0, torch.Generator())


def test_without_a_gap_everything_is_in_reach():
    config = ViewsConfig(context_views=5, target_groups=2, target_stride=3, choice="uniform")
    chosen = draws(config, "video")
    assert {choice.context for choice in chosen} == {(0, 20, 40, 59, 79)}
    assert {choice.target[0] for choice in chosen} == {0, 12, 24, 36, 48, 60, 72}


def test_targets_may_come_in_pieces():
    config = replace(BOUNDED, gap=None, first_gap=None, target_groups=4, target_windows=2, windows_share=0.5)
    together, apart = 0, 0
    for choice in draws(config, "video"):
        groups = [frame // 4 for frame in choice.target[::4]]
        pieces = [groups[:2], groups[2:]]
        assert all(piece == [piece[0], piece[0] + 1] for piece in pieces) and pieces[0] != pieces[1]
        assert list(choice.latents) == groups
        together += groups == list(range(groups[0], groups[0] + 4))
        apart += groups[2] != groups[1] + 1
    assert together > SEEDS / 4 and apart > SEEDS / 4


def test_farthest_views_are_far_apart():
    """A camera that stands for most of the time: evenly in time, most views would be the same."""
    cameras = videos.walk(FRAMES)
    c2w = torch.cat([cameras.c2w[:1].expand(FRAMES - 8, -1, -1), cameras.c2w[-8:]])
    config = ViewsConfig(context_views=6, target_groups=1)
    counts = {}
    for choice in ("farthest", "uniform"):
        picked = draw_views(
            cameras.replace(c2w=c2w), FRAMES, SPECS["patch"], replace(config, choice=choice), 1.0, torch.Generator()
        )
        counts[choice] = sum(frame >= FRAMES - 8 for frame in picked.context)
    assert counts["farthest"] >= 5 > 2 > counts["uniform"] - 1


def test_the_choice_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = draw(seed=3), draw(seed=3), [draw(seed=seed) for seed in range(4, 12)]
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    assert first == again and all(choice != first for choice in other)


def test_short_videos_are_refused():
    with pytest.raises(
        ValueError, match=r"30 frames are too few, 41 are needed .* 6 .* at least 40 frames apart; lower .*gap$"
    ):
        draw(frames=30)
    with pytest.raises(ValueError, match=r"4 frames are too few, 6 are needed .*; lower .*context_views$"):
        draw(ViewsConfig(context_views=6), spec="patch", frames=4)
    with pytest.raises(ValueError, match="hold no 3 groups of targets within 6 frames of a context"):
        draw(replace(BOUNDED, target_groups=3, gap=(40, 40), first_gap=None, context_views=3), frames=45)


@pytest.mark.parametrize(
    ("changes", "widens"),
    [
        ({}, True),
        ({"first_gap": None, "first_margin": 6}, False),
        ({"first_gap": (40, 60), "first_margin": 6}, False),
        ({"first_gap": None, "first_margin": 0}, True),
        ({"warm_up": 0.0}, False),
    ],
)
def test_it_is_known_whether_views_change_in_the_course_of_a_run(changes, widens):
    config = replace(BOUNDED, **changes)
    assert config.widens is widens
    assert ((config.gap_at(0), config.margin_at(0)) != (config.gap_at(1), config.margin_at(1))) is widens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gap": (3, 60)}, "at least context_views - 1 = 5"),
        ({"gap": (60, 40)}, "must rise"),
        ({"gap": None}, "first_gap needs data.videos.views.gap"),
        ({"warm_up": 1.5}, "warm_up must lie"),
        ({"target_windows": 3}, "must divide by target_windows"),
        ({"margin": -1}, "margin and first_margin"),
        ({"target_stride": 0}, ">= 1"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BOUNDED, **changes)
