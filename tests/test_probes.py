"""What an evaluation asks beyond pictures of the targets: other paths, fewer tokens, several draws."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from scenetok_core.generation import SceneGenerator
from scenetok_core.pipeline import SceneTok
from tests import small
from tests.test_evaluate import PROTOCOL, VIEWS
from tests.test_rooms import free_ground
from training.evaluation import Evaluation, Settings
from training.measures.pose_search import OffsetSearch
from training.protocol import RoomsBenchmark, held_out_scenes
from training.scores import OURS

FEW = Settings(invariance_cases=0, path_cases=0, spread_cases=1, spread_samples=2, sheet_cases=1, elsewhere_cases=2)
PERCENT = (25, 50, 75, 100)


@pytest.fixture(scope="module")
def benchmark():
    return RoomsBenchmark(replace(PROTOCOL, scenes=2), PROTOCOL.rooms(small.IMAGE, VIEWS))


@pytest.fixture(scope="module")
def cases(benchmark):
    return list(benchmark.cases())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SceneTok.load(small.checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture
def evaluation(model, benchmark):
    return Evaluation(model, benchmark, FEW)


@pytest.fixture
def generator(tmp_path):
    return SceneGenerator.load(small.generator_checkpoint(tmp_path))


def test_the_path_of_another_scene_keeps_its_shape(cases):
    first, second = cases
    assert first.elsewhere is None, "there is none before it"
    path = second.elsewhere()
    assert 1 <= len(path) <= VIEWS
    turns, walk = (c2w[:, :3, :3] for c2w in (path.cameras.c2w, first.inputs.cameras.c2w))
    angles = [rotations[:-1].transpose(1, 2) @ rotations[1:] for rotations in (turns, walk)]
    if len(path) == VIEWS:
        assert torch.allclose(*angles, atol=1e-4)
    assert torch.equal(path.rgb, second.world(path.cameras))


def test_places_that_are_not_free_are_left_out(cases, benchmark):
    scene = next(held_out_scenes(benchmark.protocol, benchmark.rooms))
    walk = cases[1].inputs.cameras

    def path(metres) -> Any:
        protocol = replace(benchmark.protocol, clearance_m=metres)
        elsewhere = RoomsBenchmark(protocol, benchmark.rooms).case(scene, walk).elsewhere
        assert elsewhere is not None
        return elsewhere()

    everywhere = path(-99.0)
    assert len(everywhere) == VIEWS and path(99.0) is None
    free = [free_ground(scene.room, 0, x, z) for x, _, z in everywhere.cameras.centers.tolist()]
    border = sorted(free)[VIEWS // 2]
    kept = [i for i in range(VIEWS) if free[i] >= border - 1e-4]
    assert torch.equal(path(border - 1e-4).cameras.c2w, everywhere.cameras.c2w[kept])


def test_few_views_see_no_more_than_all_of_them(cases):
    for case in cases:
        one, everything = case.seen_by(1), case.seen_by(VIEWS)
        assert one.dtype == torch.bool and not (one & ~everything).any()
        assert one.sum() < everything.sum()


def test_a_model_that_renders_the_truth_follows_another_path(evaluation, cases, monkeypatch):
    case = cases[1]
    monkeypatch.setattr(evaluation, "_render", lambda tokens, case, steps, cameras: case.world(cameras))
    evaluation._render_elsewhere(evaluation.model.encode(case.inputs), case, case.elsewhere())
    figures = evaluation._elsewhere_figures()
    for method in OURS:
        assert figures[f"{method}_elsewhere_psnr"] == pytest.approx(100)
        assert figures[f"{method}_elsewhere_pose_error_degrees"] == 0
    assert figures["nearest_elsewhere_psnr"] < 60
    assert figures["nearest_elsewhere_pose_error_degrees"] > 0


def test_without_a_world_another_path_is_left_out(evaluation, cases):
    case = replace(cases[1], world=None)
    evaluation._render_elsewhere(evaluation.model.encode(case.inputs), case, cases[1].elsewhere())
    assert evaluation._elsewhere_figures() == {}
    assert "at least two rooms" in evaluation.left_out["another scene's path"]


def test_the_sweep_tells_quality_and_spread_and_whether_they_are_ordered(evaluation, cases):
    evaluation.measure(cases[0])
    figures = evaluation.figures()
    quality = [figures[f"tokens_{percent}_percent_psnr"] for percent in PERCENT]
    spread = [figures[f"tokens_{percent}_percent_spread"] for percent in PERCENT]
    assert min(spread) > 0
    rows = dict(evaluation.rows)
    swept, mean = (next(rows[label] for label in rows if label.startswith(name)) for name in ("mean from", "posterior"))
    assert swept.shape == (4, 3, small.IMAGE, small.IMAGE) and torch.equal(swept[-1], mean[0])
    assert not torch.equal(swept[0], swept[-1])
    assert figures["sweep_psnr_rises"] == (quality == sorted(quality))
    assert figures["sweep_spread_falls"] == (spread == sorted(spread, reverse=True))


@pytest.mark.parametrize(("values", "ordered"), [((1.0, 2.0, 2.0, 3.0), True), ((1.0, 2.0, 1.9, 3.0), False)])
def test_an_order_is_that_of_all_shares(evaluation, values, ordered):
    for percent, value in zip(PERCENT, values, strict=True):
        evaluation.scores.add(f"tokens_{percent}%", torch.tensor([value]))
        evaluation.scores.add(f"spread_{percent}%", torch.tensor([-value]))
    figures = evaluation._sweep_figures()
    assert figures["sweep_psnr_rises"] is ordered and figures["sweep_spread_falls"] is ordered


def test_drawn_scenes_spread_over_seeds_inside_and_outside_of_what_the_view_saw(model, benchmark, generator, cases):
    evaluation = Evaluation(model, benchmark, FEW, generator)
    evaluation.measure(cases[0])
    figures = evaluation.figures()
    seen = cases[0].seen_by(1).float().mean()
    parts = seen * figures["generated_spread_seen"] + (1 - seen) * figures["generated_spread_unseen"]
    assert figures["generated_spread"] == pytest.approx(float(parts), rel=1e-4) and figures["generated_spread"] > 0
    label, pictures = evaluation.rows[0]
    assert label.startswith("given, 8x8, drawn") and len(pictures) == 3
    assert torch.equal(pictures[0], cases[0].inputs.rgb[0])


def test_a_generator_that_draws_one_scene_alone_has_no_spread(model, benchmark, generator, cases, monkeypatch):
    same = model.encode(cases[0].inputs)
    monkeypatch.setattr(generator, "generate", lambda *given, **options: same)
    evaluation = Evaluation(model, benchmark, FEW, generator)
    assert evaluation.drawn is not None
    evaluation.drawn.vary(same, cases[0].inputs[[0]], cases[0])
    assert evaluation.scores.mean("generated_spread") == 0


def test_the_search_finds_the_truth_along_another_path(cases):
    path = cases[1].elsewhere()
    found = OffsetSearch.around(path.cameras[[0]], cases[1].world).match(path.rgb[0])
    assert (found.degrees, found.units) == (0, 0)
