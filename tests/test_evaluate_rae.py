"""3DRAE and 3DDiT in the evaluation: the same protocol, what does not apply to them, and what only they have."""

import argparse
import json
import math
from dataclasses import replace

import pytest
import torch

from scenetok_core.pipeline import SceneTok
from scenetok_core.rae import PointMaps, Rae
from tests import small, small_latents
from tests.test_evaluate import PROTOCOL, VIEWS
from training import evaluate as evaluate_module
from training.depth_evaluation import DepthEvaluation, PointDepth
from training.evaluate import main
from training.evaluation import Evaluation, Settings
from training.extras import LeftOut
from training.many_views import ManyViews, on_the_walk
from training.measures.points import ray_degrees
from training.protocol import PROTOCOLS, RoomsBenchmark
from training.scores import Scores
from training.tasks.point_loss import points_of_depth

FEW = Settings(spread_cases=1, spread_samples=2, path_cases=1, many_views=(3, 9), many_views_cases=1)


@pytest.fixture(scope="module")
def benchmark():
    return RoomsBenchmark(replace(PROTOCOL, scenes=2), PROTOCOL.rooms(small.IMAGE, VIEWS))


@pytest.fixture(scope="module")
def cases(benchmark):
    return list(benchmark.cases())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_latents.rae(tmp_path_factory.mktemp("model"))


def run(tmp_path, monkeypatch, *options):
    monkeypatch.setitem(PROTOCOLS, "test", replace(PROTOCOL, scenes=1))
    monkeypatch.setattr(evaluate_module, "Settings", lambda **given: replace(FEW, **given))
    target = tmp_path / "figures.json"
    assert main(["--config", "test", "--json", str(target), *options]) == 0
    return json.loads(target.read_text())


def test_both_families_are_measured_on_the_same_pictures_in_one_table(tmp_path, monkeypatch, capsys):
    scenetok, rae = small.checkpoint(tmp_path, context_views=8), small_latents.rae_checkpoint(tmp_path)
    options = ["--markdown", str(tmp_path / "report.md"), "--sheet", str(tmp_path / "sheet.png")]
    alone = run(tmp_path, monkeypatch, "--checkpoint", str(rae))
    capsys.readouterr()
    for name, path in (("DEFAULT_CHECKPOINT", scenetok), ("DEFAULT_RAE", rae)):
        monkeypatch.setattr(evaluate_module, name, path)
    monkeypatch.setattr(evaluate_module, "DEFAULT_LATENT_GENERATOR", small_latents.dit3d_checkpoint(tmp_path))
    both = run(tmp_path, monkeypatch, *options)
    assert all(isinstance(value, (bool, int, float, str)) for value in both.values())
    assert all(math.isfinite(value) for value in both.values() if not isinstance(value, str))
    steady = ("psnr", "ssim", "gradient_energy", "degrees", "abs_rel")
    own = {k: v for k, v in alone.items() if k.startswith("posterior_mean") and k.endswith(steady)}
    assert len(own) >= 5 and all(both[f"rae_{k}"] == pytest.approx(v, abs=1e-6) for k, v in own.items())
    assert own["posterior_mean_psnr"] != both["posterior_mean_psnr"]
    assert both["protocol_fingerprint"] == alone["protocol_fingerprint"]
    assert both["rae_tokens_kib"] == small_latents.TOKENS * small_latents.TOKEN_DIM * 2 / 1024
    assert not {name for name in both if name.startswith(("rae_nearest", "rae_protocol", "rae_skipped", "rae_warp"))}
    assert {"rae_generated_psnr", "rae_generated_3_views_pose_auc_30", "rae_generated_0_views_spread"} < set(both)
    printed = capsys.readouterr().out
    for row in ("posterior mean", "sample", "nearest", "rae posterior mean", "rae generated"):
        assert f"\n| {row} |" in printed
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_a_shipped_3drae_is_measured_where_it_takes_the_same_pictures(tmp_path, monkeypatch, benchmark):
    scenetok = SceneTok.load(small.checkpoint(tmp_path))
    asked = {"config": "tiny", "checkpoint": None, "device": "cpu", "weights": None}

    def beside(**changes):
        options = argparse.Namespace(**{**asked, **changes})
        return evaluate_module._beside(options, scenetok, benchmark, FEW)

    monkeypatch.setattr(evaluate_module, "DEFAULT_RAE", small_latents.rae_checkpoint(tmp_path))
    found, reason = beside()
    assert found is not None and isinstance(found.model, Rae) and reason == ""
    assert beside(config=None) == (None, "") == beside(checkpoint="mine.safetensors")
    monkeypatch.setattr(evaluate_module, "DEFAULT_RAE", small_latents.rae_checkpoint(tmp_path, pixels=(64, 64)))
    assert beside() == (None, "its pictures have sides of 8, those here 16: --checkpoint measures it")
    monkeypatch.setattr(evaluate_module, "DEFAULT_RAE", tmp_path / "none.safetensors")
    assert beside() == (None, f"needs none.safetensors in {tmp_path.name}")


def test_what_makes_no_sense_for_a_3drae_is_named(model, benchmark, cases):
    evaluation = Evaluation(model, benchmark, FEW)
    for case in cases:
        evaluation.measure(case)
    figures = evaluation.figures()
    absent = ("sample", "permutation", "tokens_25", "sweep", "uncertainty", "spread_seen", "seconds_per_frame_sample")
    assert not [name for name in figures if name.startswith(absent)]
    for reason in ("draws nothing", "learnt and ordered", "needs a scene generator"):
        assert reason in figures["left_out"]
    assert figures["scale_100_max_difference"] < 1e-3
    kept = ("gap_closed", "thumbnail_side", "pose_auc_30", "flicker", "elsewhere_psnr", "depth_abs_rel_scaled")
    assert {f"posterior_mean_{name}" for name in kept} < set(figures)
    assert {"inputs_3_psnr", "inputs_9_tokens_kib", "inputs_9_seconds_per_encode", "point_ray_degrees"} < set(figures)
    assert figures["inputs_3_tokens_kib"] == figures["inputs_9_tokens_kib"]


def test_models_without_points_or_more_views_say_so(tmp_path, benchmark):
    evaluation = Evaluation(small_latents.rae(tmp_path, points=None, context_views=3), benchmark, FEW)
    assert evaluation.left_out["depth"] == "was trained without point maps"
    assert evaluation.left_out["inputs_N_psnr"] == "the model takes 3 views at most"


def test_a_depth_head_is_refused(tmp_path, capsys):
    options = ["--checkpoint", str(small_latents.rae_checkpoint(tmp_path)), "--depth", "head.safetensors"]
    assert main(["--config", "tiny", "--json", str(tmp_path / "figures.json"), *options]) == 2
    assert "has point maps of its own and takes no depth head: leave --depth out" in capsys.readouterr().err


# ---- drawn scenes --------------------------------------------------------------------------------


def drawn(model, benchmark, folder, **settings):
    return Evaluation(model, benchmark, replace(FEW, **settings), small_latents.dit3d(folder))


def test_scenes_are_drawn_from_no_one_and_three_views(model, benchmark, cases, tmp_path):
    evaluation = drawn(model, benchmark, tmp_path)
    evaluation.measure(cases[0])
    figures = evaluation.figures()
    for name in ("generated", "generated_3_views"):
        assert {f"{name}_psnr", f"{name}_pose_error_degrees", f"{name}_spread_unseen"} < set(figures)
        assert f"{name.replace('generated', 'conditioning')}_thumbnail_8_psnr" in figures
    assert figures["generated_0_views_spread"] > 0 and figures["generated_0_views_gradient_energy"] > 0
    assert "generated_0_views_psnr" not in figures, "no truth belongs to a scene drawn from nothing"
    assert figures["generated_psnr"] != figures["generated_3_views_psnr"]
    for name in ("condition", "condition_3_views"):
        assert {f"{name}_psnr", f"{name}_pose_auc_30", f"{name}_pose_error_degrees"} < set(figures)
        assert figures[f"{name}_psnr"] not in (figures["generated_psnr"], figures["posterior_mean_psnr"])
    assert not any(name.startswith("condition_0") for name in figures)
    assert any(label.startswith("drawn from\nnothing") for label, _ in evaluation.rows)


def test_numbers_of_views_that_a_generator_does_not_take_are_left_out(model, benchmark, tmp_path):
    evaluation = drawn(model, benchmark, tmp_path, generator_views=2, other_generator_views=(0, 2, 4, 5, 9))
    assert evaluation.drawn is not None
    assert evaluation.drawn.counts == [2, 0, 4], f"a camera of {small_latents.COND_VIEWS} is left to the path"


# ---- many views ----------------------------------------------------------------------------------


def test_denser_walks_are_the_same_walk(cases):
    case = cases[0]
    inputs = on_the_walk(case.inputs.cameras, 65, case.world)
    assert len(inputs) == 65 and torch.equal(inputs.rgb, case.world(inputs.cameras))
    distance = torch.cdist(case.inputs.cameras.centers, inputs.cameras.centers).amin(1)
    length = float(inputs.cameras.centers.diff(dim=0).norm(dim=1).sum())
    assert float(distance.max()) < length / 64
    ends = inputs.cameras.c2w[[0, -1]] - case.inputs.cameras.c2w[[0, -1]]
    assert ends.abs().max() < 1e-4


def test_more_views_are_measured_on_the_same_targets(model, cases):
    """A model that renders the truth with an error that falls as views are added."""
    seen = []

    def render(tokens, case):
        seen.append(len(tokens.cameras))
        return case.targets.rgb + 1 / len(tokens.cameras)

    many = ManyViews(model.encode, render, (VIEWS, 20), Scores())
    many.add(cases[0])
    figures = many.figures()
    assert seen == [VIEWS, 20]
    assert figures[f"inputs_{VIEWS}_psnr"] == pytest.approx(20 * math.log10(VIEWS), abs=1e-3)
    assert figures["inputs_20_psnr"] == pytest.approx(20 * math.log10(20), abs=1e-3)


# ---- points --------------------------------------------------------------------------------------


class Seer(Rae):
    """A 3DRAE that knows the points of a case, times a factor and with a confidence."""

    def see(self, case, factor):
        self.case, self.factor = case, factor
        return self

    def point_maps(self, scene, cameras, **_):
        depth = self.case.depth(cameras) * self.factor
        batch = cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None])
        points, _ = points_of_depth(depth[None], batch)
        return PointMaps(points[0], torch.full_like(depth, 2.0), cameras)


@pytest.mark.parametrize(("factor", "error"), [(1.0, 0.0), (2.0, 1.0)])
def test_points_are_scored_as_depth_with_and_without_their_scale(model, cases, factor, error):
    case = cases[0]
    seer = Seer(model.config, model.networks, None, model.hash).see(case, factor)
    measured, tokens = DepthEvaluation(PointDepth(seer)), model.encode(case.inputs)
    measured.add(tokens, case, samples=2, targets=2)
    measured.add_path(tokens, case, case.path())
    figures = measured.figures(LeftOut())
    assert figures["posterior_mean_depth_abs_rel"] == pytest.approx(error, abs=1e-3)
    assert figures["posterior_mean_depth_abs_rel_scaled"] == pytest.approx(0, abs=1e-3)
    assert figures["posterior_mean_depth_delta_scaled"] == pytest.approx(1, abs=1e-3)
    assert figures["posterior_mean_depth_flicker"] == pytest.approx(0, abs=1e-4)
    assert figures["point_ray_degrees"] == pytest.approx(0, abs=0.1)
    assert "sample_depth_abs_rel" not in figures
    (spread, _), *_ = measured.spreads
    depth = case.depth(case.targets.cameras[[0, len(case.targets) - 1]]).flatten()
    torch.testing.assert_close(spread, depth.mean() / 2 / depth, rtol=1e-3, atol=0)


def test_points_beside_their_rays_are_told(cases):
    cameras = cases[0].targets.cameras
    batch = cameras.replace(c2w=cameras.c2w[None], K=cameras.K[None])
    points, _ = points_of_depth(torch.ones(1, len(cameras), 8, 8), batch)
    sure = torch.ones(len(cameras), 8, 8)
    assert ray_degrees(PointMaps(points[0], sure, cameras)).max() < 0.1
    mirrored = 2 * cameras.centers[:, :, None, None] - points[0]
    assert ray_degrees(PointMaps(mirrored, sure, cameras)).min() > 179.9


def test_points_behind_the_camera_are_wrong_and_finite(model, cases):
    case = cases[0]
    measured = DepthEvaluation(PointDepth(Seer(model.config, model.networks, None, model.hash).see(case, -1.0)))
    tokens = model.encode(case.inputs)
    measured.add(tokens, case, samples=2, targets=2)
    measured.add_path(tokens, case, case.path())
    figures = measured.figures(LeftOut())
    assert figures["posterior_mean_depth_delta"] == 0 and figures["posterior_mean_depth_abs_rel"] == 1
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
