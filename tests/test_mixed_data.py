"""Batches of mixed sizes within a token budget, and scenes from several data sets by weight."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from scenetok_core.camera import fit_views
from scenetok_core.configs import from_dict
from scenetok_core.types import Views
from tests import rae_runs, videos
from tests.fitting import fresh
from tests.rae_runs import PATCH, TOKENS, generator
from tests.test_depth_data import write_arrays
from tests.test_source import tensors
from training.config import at_default, fingerprint, may_change
from training.data.loader import batches, step_seed
from training.data.mixed import MixedSource
from training.data.source import VideoDataConfig
from training.state import list_states
from training.tasks import RaeTask, build_task
from training.trainer import Trainer

SEEDS = [step_seed(0, index) for index in range(40)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return videos.write_captures(tmp_path_factory.mktemp("mixed") / "data")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two sets: `near` with depth, and `plain`, in chunks, without."""
    root = tmp_path_factory.mktemp("sets")
    videos.write_captures(root / "near")
    write_arrays(root / "depth", depths=np.full((videos.FRAMES, videos.HEIGHT, videos.WIDTH), 0.5, np.float32))
    videos.write_realestate(root / "plain")
    return root


def sets(root, near=None, plain=None):
    depth = {"root": str(root / "depth"), "values": "depth"}
    return {
        "kind": "sets",
        "root": "",
        "sets": [
            {"kind": "captures", "root": str(root / "near"), "weight": 3.0, "depth": depth, **(near or {})},
            {"kind": "re10k", "root": str(root / "plain"), "weight": 1.0, "gap": [6, 9], **(plain or {})},
        ],
    }


def source_of(config):
    return RaeTask(config).dataset(torch.device("cpu"))


def test_batches_vary_in_size_and_views_and_keep_the_budget(data):
    source, shapes, tokens = source_of(rae_runs.mixed(data)), set(), []
    for seed in SEEDS:
        batch = source.batch(seed, 6)
        (scenes, context, _, height, width), target = batch.context.rgb.shape, batch.target.rgb.shape[1]
        assert height % PATCH == width % PATCH == 0 and 64 <= height * width <= 400
        assert 2 <= context <= 4 and 1 <= target <= 3 and batch.target.rgb.shape[-2:] == (height, width)
        each = TOKENS + (context + target) * height * width // PATCH**2
        tokens.append(scenes * each)
        assert tokens[-1] <= 150 or scenes == 1
        assert scenes == max(1, min(6, 150 // each))
        shapes.add((context, target, height, width))
    assert len(shapes) > 15 and np.mean(tokens) > 100


def test_pictures_keep_the_proportions_that_were_drawn(data):
    source = source_of(rae_runs.mixed(data, data={"mirror": 0.0}))
    seen = set()
    for seed in SEEDS[:12]:
        batch = source.batch(seed, 2)
        size = tuple(batch.target.rgb.shape[-2:])
        seen.add(size[0] / size[1] > 1)
        truth = fit_views(Views(videos.pictures(scene=int(batch.names[0][-1])), videos.walk()), size)
        frame = int((truth.cameras.c2w - batch.target.cameras.c2w[0, 0]).abs().amax((1, 2)).argmin())
        torch.testing.assert_close(batch.target.rgb[0, 0], truth.rgb[frame], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.target.cameras.K[0, 0], truth.cameras.K[frame], atol=1e-5, rtol=0)
    assert seen == {True, False}, "both tall and wide pictures"


def test_a_batch_depends_on_its_seed_alone_and_processes_share_the_run(data):
    config = rae_runs.mixed(data)
    one, other = source_of(config), source_of(rae_runs.mixed(data, data={"workers": 3}))
    assert all(
        torch.equal(a, b)
        for a, b in zip(tensors(one.batch(SEEDS[3], 6)), tensors(other.batch(SEEDS[3], 6)), strict=True)
    )
    whole = batches(one, 6, seed=0, length=4)
    dealt = [batches(one, 6, seed=0, rank=rank, length=4, processes=2) for rank in (0, 1)]
    for index in range(4):
        a, b = next(whole), next(dealt[index % 2])
        assert torch.equal(a.context.content, b.context.content)
    held_out = one.batch(0, 5)
    assert len(held_out.names) == 5, "sheets show what they ask for"


def test_targets_are_frames_by_themselves(data):
    source = source_of(rae_runs.mixed(data, data={"mirror": 0.0}))
    apart = []
    for seed in SEEDS[:12]:
        centers = source.batch(seed, 2).target.cameras.centers[0, :, 0]
        apart += (centers.diff() / (2 / (videos.FRAMES - 1))).round().tolist()
    assert max(apart) > 1 and min(apart) >= 1


@pytest.mark.parametrize("several", [False, True])
def test_a_run_of_mixed_batches_goes_on_exactly(data, two, several, tmp_path):
    change = sets(two) if several else {}
    config = rae_runs.mixed(data, data=change, output=tmp_path, save_every=2, sheet_every=4)
    trainer = Trainer(config, build_task(config))
    trainer.train()
    whole = trainer.trained.tensors()
    assert list((config.run.folder / "sheets").iterdir())
    list_states(config.run.folder / "states")[-1].unlink()
    resumed = Trainer(config, build_task(config))
    resumed.resume()
    assert resumed.trained.step == 2
    resumed.train()
    again = resumed.trained.tensors()
    assert [name for name, value in whole.items() if not torch.equal(value, again[name])] == []


def test_sets_are_drawn_by_weight_and_scenes_within_them(two):
    source = source_of(rae_runs.mixed(two, data=sets(two), budget=10**6))
    assert isinstance(source, MixedSource)
    names = Counter(name for seed in SEEDS[:20] for name in source.batch(seed, 6).names)
    near = sum(count for name, count in names.items() if name.startswith("near/"))
    assert near / names.total() == pytest.approx(3 / 4, abs=0.08)
    assert len(names) == 6, "three scenes of each set"


def test_gaps_belong_to_sets(two):
    source = source_of(
        rae_runs.mixed(two, data={**sets(two, near={"gap": [4, 4]}, plain={"gap": [9, 9]}), "mirror": 0.0})
    )
    for seed in SEEDS[:8]:
        batch = source.batch(seed, 6)
        x = batch.context.cameras.centers[..., 0]
        frames = ((x[:, -1] - x[:, 0]) / (2 / (videos.FRAMES - 1))).round().tolist()
        assert frames == [4 if name.startswith("near/") else 9 for name in batch.names]


def test_scenes_without_depth_have_no_point_loss(two):
    task = RaeTask(rae_runs.mixed(two, {"picture_weight": 0.0}, data=sets(two), budget=10**6))
    batch = next(b for b in (source_of(task.config).batch(seed, 6) for seed in SEEDS) if mixed_names(b))
    with_depth = torch.tensor([name.startswith("near/") for name in batch.names])
    example = task.frame(batch, tuple(batch.context.rgb.shape[-2:]), generator())
    assert example.known is not None
    assert torch.equal(example.known.flatten(1).any(1), with_depth)
    assert torch.equal(batch.target.depth.flatten(1).amax(1) == 0.5, with_depth)
    losses, logs = task.loss(fresh(task), batch, generator(), 0.0)
    assert torch.equal(losses != 0, with_depth)
    assert float(logs["loss_points"]) == pytest.approx(float(losses.detach()[with_depth].mean()), rel=1e-5)


def mixed_names(batch):
    return len({name.split("/")[0] for name in batch.names}) == 2


def test_a_batch_without_any_depth_trains_pictures_alone(two):
    config = rae_runs.mixed(two, data={"kind": "re10k", "root": str(two / "plain")})
    task = RaeTask(config)
    losses, logs = task.loss(fresh(task), source_of(config).batch(SEEDS[0], 6), generator(), 0.0)
    assert "loss_points" not in logs and (losses > 0).all()


def test_held_out_scenes_of_all_sets_are_shown_in_turn(two):
    table = sets(two, near={"held_out": 2}, plain={"held_out": 1})
    source = source_of(rae_runs.mixed(two, data=table, budget=10**6))
    shown = source.batch(0, 4).names
    assert [name.split("/")[0] for name in shown] == ["near", "plain", "near", "near"]
    assert shown[0] == shown[3] and source.batch(0, 4).held_out
    trained = {name for seed in SEEDS[:8] for name in source.batch(seed, 6).names}
    assert not trained & set(shown)


def test_folders_of_sets_may_move_and_weights_may_not(two):
    config = rae_runs.mixed(two, data=sets(two))
    settings = fingerprint(config)
    assert settings["data.videos.sets.0.weight"] == 3.0 and "data.videos.sets.1.kind" in settings
    assert not [name for name in settings if name.endswith("root")]
    assert may_change("data.videos.sets.12.depth.root") and not may_change("data.videos.sets.12.depth.scale")
    names = at_default(config)
    assert {"data.videos.sets.0.held_out", "data.videos.sets.1.depth"} <= names
    assert "data.videos.sets.0.depth" not in names and "data.videos.sets.0.weight" not in names
    assert "data.videos.sets" in at_default(rae_runs.mixed(two))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sets"}, r"tables \[\[data\.videos\.sets\]\] belong to kind 'sets'"),
        ({"kind": "captures", "root": "here", "sets": [{"kind": "re10k", "root": "a", "weight": 1.0}]}, "no other"),
        ({"sets": [{"kind": "re10k", "root": "a", "weight": 0.0}]}, r"weight must be positive, got 0\.0 for a"),
        ({"sets": [{"kind": "re10k", "root": "", "weight": 1.0}]}, "root must name a folder"),
        ({"sets": [{"kind": "latents", "root": "a", "weight": 1.0}]}, "must be one of"),
        ({"sets": [{"kind": "re10k", "root": "a", "weight": 1.0, "gap": [1, 2]}]}, "gap must rise from at least"),
        ({"held_out": 2, "sets": [{"kind": "re10k", "root": "a", "weight": 1.0}]}, "held_out belong into the tables"),
        ({"kind": "captures"}, r"root must name a folder, unless kind is 'sets'"),
    ],
)
def test_sets_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(VideoDataConfig, {"kind": "sets", **change})


def test_a_set_that_is_not_there_is_named(two):
    config = rae_runs.mixed(two, data=sets(two, plain={"root": str(two / "gone")}))
    assert config.data.videos is not None
    with pytest.raises(ValueError, match="gone"):
        MixedSource(replace(config.data.videos), "patch-8", "patch-8")
