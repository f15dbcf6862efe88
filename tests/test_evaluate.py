import argparse
import json
import math
from dataclasses import replace

import pytest
import torch

from scenetok_core.baselines import mean_colour, nearest_view, thumbnail
from scenetok_core.pipeline import SceneTok
from scenetok_core.types import Views
from tests import small
from tests.test_rooms import free_ground
from training import evaluate as evaluate_module
from training.baselines import METRE, reproject, warp
from training.cases import fingerprint
from training.data.loader import HELD_OUT_SEEDS
from training.depth_evaluation import DepthEvaluation, HeadDepth
from training.evaluate import main
from training.evaluation import Settings, evaluate
from training.extras import LeftOut
from training.measures.detail import gradient_energy, laplacian_correlation, matching_side
from training.measures.pose_search import OffsetGrid, OffsetSearch, offset_cameras
from training.protocol import PROTOCOLS, Protocol, RoomsBenchmark, held_out_scenes
from training.report import table
from training.scores import OURS, Scores, summarise

SIZE, VIEWS = 32, 5
PROTOCOL = Protocol("test", scenes=4, targets=3, supersample=1, candidates=16)


@pytest.fixture(scope="module")
def rooms():
    return PROTOCOL.rooms(SIZE, VIEWS)


@pytest.fixture(scope="module")
def scenes(rooms):
    return list(held_out_scenes(PROTOCOL, rooms))


@pytest.fixture(scope="module")
def benchmark(rooms):
    return RoomsBenchmark(PROTOCOL, rooms)


@pytest.fixture(scope="module")
def score(scenes, benchmark):
    def measure(method, predict):
        scores = Scores()
        for scene in scenes:
            scores.add_pictures(method, predict(scene), scene.targets.rgb)
            scores.add_baselines(benchmark.case(scene))
        return summarise(scores, SIZE)

    return measure


def warped(scene):
    seen = reproject(scene.targets.cameras, scene.target_depth, scene.inputs.cameras, scene.input_depth)
    return warp(scene.inputs, scene.targets.cameras, seen, PROTOCOL.depth_tolerance)


def seen_share(scene, target):
    """Share of a target's pixels seen by some input, pixel by pixel and from the definition."""
    seen = 0
    camera, depth = scene.targets.cameras, scene.target_depth[target]
    for row in range(SIZE):
        for column in range(SIZE):
            pixel = torch.tensor([(column + 0.5) / SIZE, (row + 0.5) / SIZE, 1.0])
            local = torch.linalg.solve(camera.K[target], pixel) * depth[row, column]
            point = camera.c2w[target] @ torch.cat([local, torch.ones(1)])
            seen += any(sees(scene, view, point) for view in range(VIEWS))
    return seen / SIZE**2


def sees(scene, view, point):
    local = torch.linalg.solve(scene.inputs.cameras.c2w[view], point)[:3]
    if local[2] <= 0:
        return False
    x, y = (scene.inputs.cameras.K[view] @ (local / local[2]))[:2].tolist()
    if not (0 <= x <= 1 and 0 <= y <= 1):
        return False
    inverse = 1 / scene.input_depth[view]
    x, y = (min(max(v * SIZE - 0.5, 0), SIZE - 1) for v in (x, y))
    left, top = min(int(x), SIZE - 2), min(int(y), SIZE - 2)
    u, v = x - left, y - top
    upper, lower = (torch.lerp(inverse[top + i, left], inverse[top + i, left + 1], u) for i in (0, 1))
    return abs(float(1 / torch.lerp(upper, lower, v)) / float(local[2]) - 1) <= PROTOCOL.depth_tolerance


def test_the_committed_protocol_is_big_enough_and_held_out():
    tiny = PROTOCOLS["tiny"]
    assert tiny.scenes >= 64
    assert tiny.seeds.stop < HELD_OUT_SEEDS
    assert (tiny.far_m, tiny.far_degrees, tiny.visible_share, tiny.depth_tolerance) == (0.5, 25.0, 0.7, 0.02)
    assert tiny.supersample == 2


def test_training_seeds_are_refused():
    with pytest.raises(ValueError, match="below those of training"):
        Protocol("wrong", first_seed=HELD_OUT_SEEDS)


def test_equal_protocols_give_equal_scenes_and_fewer_scenes_a_prefix(rooms, scenes):
    again = list(held_out_scenes(replace(PROTOCOL, scenes=2), rooms))
    assert [scene.seed for scene in again] == [scene.seed for scene in scenes[:2]]
    for a, b in zip(again, scenes, strict=False):
        assert torch.equal(a.targets.rgb, b.targets.rgb)
        assert torch.equal(a.targets.cameras.c2w, b.targets.cameras.c2w)
        assert torch.equal(a.inputs.rgb, b.inputs.rgb)
    assert fingerprint(again) == fingerprint(scenes[:2]) != fingerprint(scenes)


def test_the_fingerprint_tells_cameras_and_pictures_apart(scenes):
    first = scenes[0]
    K = first.targets.cameras.K * torch.tensor([1.1, 1.1, 1.0])[:, None]
    zoomed = replace(first, targets=Views(first.targets.rgb, first.targets.cameras.replace(K=K)))
    darker = replace(first, inputs=Views(first.inputs.rgb * 0.5, first.inputs.cameras))
    assert len({fingerprint([scene]) for scene in (first, zoomed, darker)}) == 3


def test_targets_are_far_from_every_input(scenes):
    for scene in scenes:
        assert len(scene.targets) == PROTOCOL.targets
        for target in scene.targets.cameras.c2w:
            for given in scene.inputs.cameras.c2w:
                metres = float((target[:3, 3] - given[:3, 3]).norm())
                cosine = float(((target[:3, :3].T @ given[:3, :3]).trace() - 1) / 2)
                degrees = math.degrees(math.acos(min(1, max(-1, cosine))))
                assert metres >= PROTOCOL.far_m or degrees >= PROTOCOL.far_degrees


def test_targets_are_covered_by_the_inputs(scenes):
    for scene in scenes[:2]:
        share = seen_share(scene, 0)
        assert share >= PROTOCOL.visible_share
        assert share == pytest.approx(float(scene.visible[0]), abs=2 / SIZE**2)


def test_targets_stand_free_and_see_something(scenes):
    for scene in scenes:
        for x, _, z in scene.targets.cameras.centers.tolist():
            assert free_ground(scene.room, 0, x, z) >= PROTOCOL.clearance_m
        assert scene.target_depth.amin() >= PROTOCOL.nearest_m
        assert 0 < scene.accepted <= scene.tried


def test_an_impossible_protocol_says_so(rooms):
    impossible = replace(PROTOCOL, scenes=1, far_m=99.0, far_degrees=181.0, rounds=1)
    with pytest.raises(ValueError, match="only 0 of 10 rooms have target cameras"):
        list(held_out_scenes(impossible, rooms))


def test_a_perfect_rendering_passes_everything(score):
    figures = score("posterior_mean", lambda scene: scene.targets.rgb)
    assert figures["posterior_mean_psnr"] == pytest.approx(100)
    assert figures["posterior_mean_ssim"] == pytest.approx(1, abs=1e-5)
    assert figures["posterior_mean_gap_closed"] > 1
    assert figures["posterior_mean_gradient_energy"] == pytest.approx(1)
    assert figures["posterior_mean_laplacian_correlation"] == pytest.approx(1, abs=1e-4)
    assert figures["posterior_mean_thumbnail_side"] == SIZE
    assert figures["passed_minimum"] is True


@pytest.mark.parametrize("baseline", ["nearest", "mean_colour"])
def test_a_baseline_in_place_of_the_model_does_not_pass(score, baseline):
    predict = {
        "nearest": lambda scene: nearest_view(scene.inputs, scene.targets.cameras, METRE),
        "mean_colour": lambda scene: mean_colour(scene.inputs, len(scene.targets)),
    }[baseline]
    figures = score("posterior_mean", predict)
    assert figures[f"margin_over_{baseline}_db"] == pytest.approx(0, abs=1e-6)
    assert figures[f"passed_{baseline}"] is False
    assert figures["passed_minimum"] is False


def test_the_warp_beats_the_nearest_view(score):
    figures = score("posterior_mean", warped)
    assert figures["warp_psnr"] > figures["nearest_psnr"] + 3
    assert figures["posterior_mean_gap_closed"] == pytest.approx(1)


def test_warping_a_view_onto_itself_changes_nothing(scenes):
    scene = scenes[0]
    same = reproject(scene.inputs.cameras, scene.input_depth, scene.inputs.cameras, scene.input_depth)
    made = warp(scene.inputs, scene.inputs.cameras, same, PROTOCOL.depth_tolerance)
    assert (made - scene.inputs.rgb).abs().max() < 1e-3


def test_pixels_that_no_input_sees_take_the_mean_colour(scenes):
    scene = scenes[0]
    seen = reproject(scene.targets.cameras, scene.target_depth, scene.inputs.cameras, scene.input_depth)
    hidden = ~seen.visible(PROTOCOL.depth_tolerance)
    assert hidden.any()
    colour = mean_colour(scene.inputs, len(scene.targets)).movedim(1, -1)[hidden]
    assert torch.allclose(warped(scene).movedim(1, -1)[hidden], colour)


def test_larger_thumbnails_are_better(scenes):
    truth = torch.cat([scene.targets.rgb for scene in scenes])
    errors = [float((thumbnail(truth, side) - truth).square().mean()) for side in (2, 4, 8, 16, SIZE)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


def test_a_thumbnail_is_as_good_as_its_own_side(score):
    side = 11
    figures = score("posterior_mean", lambda scene: thumbnail(scene.targets.rgb, side))
    assert figures["posterior_mean_thumbnail_side"] == pytest.approx(side, abs=0.05)


def test_the_matching_side_interpolates_and_stays_inside():
    curve = {2: 10.0, 3: 12.0, 4: 11.5, 5: 16.0}
    assert matching_side(11.0, curve) == 2.5
    assert matching_side(14.0, curve) == 4.0
    assert matching_side(3.0, curve) == 2
    assert matching_side(99.0, curve) == 5


def test_blur_loses_gradients_and_detail_and_noise_gains_them(scenes):
    truth = torch.cat([scene.targets.rgb for scene in scenes])
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    energy = float(gradient_energy(truth).mean())
    assert gradient_energy(thumbnail(truth, 6)).mean() < 0.3 * energy
    assert gradient_energy(truth + 0.2 * noise).mean() > 1.5 * energy
    assert laplacian_correlation(truth, truth).min() > 0.999
    assert laplacian_correlation(noise, truth).mean().abs() < 0.1
    assert laplacian_correlation(thumbnail(truth, 6), truth).mean() < 0.6
    assert laplacian_correlation(torch.full_like(truth, 0.5), truth).abs().max() < 0.01


# Figures of the first version; who compares with older ones reads these.
KEPT = {
    "protocol", "protocol_fingerprint", "model", "model_hash", "scenes", "targets", "skipped_seeds", "visible_share",
    "rejected_share", "margin_over_nearest_db", "margin_over_mean_colour_db", "passed_nearest", "passed_mean_colour",
    "passed_minimum", "permutation_max_difference", "scale_0.01_max_difference", "scale_100_max_difference",
    "seconds_per_encode", "seconds_in_all", "sample_steps", "parameters", "tokens_kib",
    *(f"tokens_{percent}_percent_psnr" for percent in (25, 50, 75, 100)),
    *(f"{method}_{name}" for method in OURS for name in ("gap_closed", "thumbnail_side", "pose_error_degrees")),
    *(f"seconds_per_frame_{method}" for method in OURS),
    *(
        f"{method}_{name}"
        for method in (*OURS, "nearest", "mean_colour", "thumbnail_8", "thumbnail_16", "warp")
        for name in ("psnr", "ssim", "laplacian_correlation", "gradient_energy")
    ),
}  # fmt: skip


def test_an_evaluation_writes_one_flat_finite_object(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "test", PROTOCOL)
    checkpoint, target, sheet = small.checkpoint(tmp_path), tmp_path / "figures.json", tmp_path / "sheet.png"
    report = tmp_path / "report.md"
    options = ["--json", str(target), "--checkpoint", str(checkpoint), "--scenes", "2", "--sheet", str(sheet)]
    assert main(["--config", "test", *options, "--markdown", str(report)]) == 0
    figures = json.loads(target.read_text())
    assert all(isinstance(value, (bool, int, float, str)) for value in figures.values())
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
    assert set(figures) >= KEPT
    assert figures["passed_minimum"] is False  # the weights are random
    assert figures["scenes"] == 2 and figures["targets"] == 2 * PROTOCOL.targets
    assert figures["tokens_kib"] == small.TOKENS * small.TOKEN_DIM * 2 / 1024
    assert figures["visible_share"] >= PROTOCOL.visible_share
    printed, written = capsys.readouterr().out, report.read_text()
    for text in (printed, written):
        assert all(f"| {method} |" in text for method in ("posterior mean", "sample", "nearest", "mean colour", "warp"))
        assert "Left out:" in text and "- depth: needs a depth head for this model: --depth FILE" in text
    assert "Pixels by predicted error" in written
    assert sheet.stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"figures.json", "report.md", "sheet.png", checkpoint.name}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    model = SceneTok.load(small.checkpoint(tmp_path_factory.mktemp("model")))
    protocol = replace(PROTOCOL, scenes=2)
    rooms = protocol.rooms(small.IMAGE, VIEWS)
    return evaluate(model, RoomsBenchmark(protocol, rooms), Settings(path_cases=1, spread_cases=1))


def test_the_model_ignores_the_order_of_tokens_and_the_unit_of_the_capture(evaluation):
    figures = evaluation.figures()
    assert figures["permutation_max_difference"] < 1e-4
    assert figures["scale_0.01_max_difference"] < 1e-3
    assert figures["scale_100_max_difference"] < 1e-3
    assert figures["tokens_100_percent_psnr"] == pytest.approx(figures["posterior_mean_psnr"])
    assert table(figures).count("\n| ") == 8


def test_pose_offsets_flicker_and_uncertainty_are_measured_in_rooms(evaluation):
    figures = evaluation.figures()
    for method in (*OURS, "nearest", "warp"):
        areas = [figures[f"{method}_pose_auc_{degrees}"] for degrees in (5, 10, 20, 30)]
        assert areas == sorted(areas) and areas[0] >= 0 and areas[-1] <= 1
    assert figures["posterior_mean_pose_error_degrees"] <= 8 * math.sqrt(2) + 1e-5
    assert figures["truth_second_difference"] > 0
    assert {"posterior_mean_flicker", "sample_flicker", "spread_seen"} < set(figures)
    assert figures["peak_memory_mib"] > 10
    assert int(evaluation.calibration.count.sum()) == small.IMAGE**2 * PROTOCOL.targets
    assert figures["uncertainty_binned_error"] == evaluation.calibration.binned_error


def test_the_truth_lies_where_its_camera_is(scenes, benchmark):
    """What the search finds for a true picture, and for the truth of cameras turned by 4 degrees or moved by 0.3 m."""
    case = benchmark.case(scenes[0])
    search = OffsetSearch.around(case.targets.cameras[[0]], case.world)
    exact = search.match(case.targets.rgb[0])
    assert (exact.degrees, exact.units) == (0, 0)
    turned = offset_cameras(case.targets.cameras[[0]], OffsetGrid((4.0,), (0.3,)))
    pictures = case.world(turned)
    assert [search.match(picture).degrees for picture in pictures[:2]] == [4, 4]
    # A picture moved along one axis may also match a small move along another.
    assert [search.match(picture).units for picture in pictures[2:]] == pytest.approx([0.3] * 3, abs=0.05)


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    missing, target = tmp_path / "none.safetensors", tmp_path / "figures.json"
    assert main(["--config", "tiny", "--json", str(target), "--checkpoint", str(missing)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not target.exists()


def test_a_protocol_is_given_once_and_completely(tmp_path, capsys):
    options = ["--json", str(tmp_path / "figures.json")]
    for wrong in (["--config", "tiny", "--data", str(tmp_path)], ["--index", str(tmp_path / "index.json")]):
        assert main([*wrong, *options]) == 2
        assert "--index and --data belong together" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--config", "tiny", "--index", "index.json", *options])


def test_scenes_of_a_generator_are_measured_too(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "test", replace(PROTOCOL, scenes=1))
    target = tmp_path / "figures.json"
    files = ["--checkpoint", str(small.checkpoint(tmp_path)), "--generator", str(small.generator_checkpoint(tmp_path))]
    assert main(["--config", "test", "--json", str(target), *files, "--generator-views", "2"]) == 0
    figures = json.loads(target.read_text())
    assert {"generated_psnr", "generated_ssim", "conditioning_psnr", "conditioning_thumbnail_8_psnr"} < set(figures)
    assert figures["generated_psnr"] != figures["sample_psnr"]
    assert (figures["generator"], figures["generator_views"]) == ("small-generator", 2)


def test_depth_is_measured_beside_constant_depth(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PROTOCOLS, "test", replace(PROTOCOL, scenes=2))
    model = SceneTok.load(small.checkpoint(tmp_path))
    head = small.depth_head(tmp_path / "head.safetensors", model, size_token=True)
    target, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    options = ["--json", str(target), "--checkpoint", str(tmp_path / "small.safetensors"), "--sheet", str(sheet)]
    assert main(["--config", "test", *options, "--depth", str(head)]) == 0
    figures, printed = json.loads(target.read_text()), capsys.readouterr().out
    methods, errors = (*OURS, "constant", "posterior_mean_without_unit"), ("abs_rel", "abs_rel_scaled", "delta")
    assert {f"{method}_depth_{name}" for method in methods for name in errors} < set(figures)
    assert figures["posterior_mean_without_unit_depth_abs_rel"] != figures["posterior_mean_depth_abs_rel"]
    assert {"posterior_mean_depth_flicker", "truth_depth_second_difference", "depth_head_hash"} < set(figures)
    assert -1 <= figures["depth_uncertainty_rank_correlation"] <= 1
    assert figures["passed_depth"] is False and figures["constant_depth_abs_rel"] > 0  # the weights are random
    assert "| constant |" in printed and "- depth:" not in printed
    other = small.depth_head(tmp_path / "other.safetensors", model, scene_model="other")
    assert main(["--config", "test", *options, "--depth", str(other)]) == 2
    assert "is a depth head for model 'other'" in capsys.readouterr().err


class Seer:
    """A head that knows the truth, in its own units."""

    def __init__(self, model, case, units, distort):
        self.config, self.model, self.hash = small.depth_config(units=units), model, "seer"
        self.case, self.distort = case, distort

    def render(self, tokens, cameras, *, steps, generator):
        return self.distort(self.case.depth(cameras))[:, None]


@pytest.mark.parametrize(
    ("units", "distort", "error"),
    [
        ("scene", lambda depth: depth, 0),
        ("scene", lambda depth: 2 * depth, 1),
        ("relative", lambda depth: 1 / (3 / depth + 1), 0),
    ],
)
def test_depth_is_scored_in_units_of_the_truth(evaluation, scenes, benchmark, units, distort, error):
    case = benchmark.case(scenes[0])
    measured = DepthEvaluation(HeadDepth(Seer(evaluation.model, case, units, distort)))  # type: ignore[arg-type]
    tokens = evaluation.model.encode(case.inputs)
    rows = measured.add(tokens, case)
    measured.add_path(tokens, case, case.path())
    figures = measured.figures(LeftOut())
    assert figures["posterior_mean_depth_abs_rel"] == pytest.approx(error, abs=1e-3)
    assert figures["posterior_mean_depth_abs_rel_scaled"] == pytest.approx(0, abs=1e-3)
    assert figures["posterior_mean_depth_flicker"] == pytest.approx(0, abs=1e-4)
    assert figures["passed_depth"] is (error == 0)
    assert 0.05 < figures["constant_depth_abs_rel"] < 1
    assert len(rows) == 3 and all(pictures.shape == case.targets.rgb.shape for _, pictures in rows)


def test_a_shipped_head_is_measured_where_it_fits(tmp_path, monkeypatch):
    model, shipped = SceneTok.load(small.checkpoint(tmp_path)), tmp_path / "head.safetensors"
    monkeypatch.setattr(evaluate_module, "DEFAULT_DEPTH_HEAD", shipped)

    def found(config: str | None = "tiny"):
        return evaluate_module._depth_head(argparse.Namespace(depth=None, depth_data=None, config=config), model)

    missing = "needs a depth head for this model: --depth FILE"
    assert found() == (None, missing)
    small.depth_head(shipped, model)
    head, reason = found()
    assert head is not None and head.model.hash == model.hash and reason == ""
    assert found(config=None) == (None, missing), "an index has no true depth"
    small.depth_head(shipped, model, scene_model="older")
    head, reason = found()
    assert head is None and reason.startswith(missing) and "is a depth head for model 'older'" in reason


def test_a_shipped_generator_is_measured_where_it_fits(tmp_path, monkeypatch):
    model = SceneTok.load(small.checkpoint(tmp_path))
    monkeypatch.setattr(evaluate_module, "DEFAULT_GENERATOR", tmp_path / "generator.safetensors")
    options = argparse.Namespace(generator=None, config="tiny", device="cpu", weights=None)

    def found():
        return evaluate_module._generator(options, model)

    assert found() == (None, "needs a scene generator for this model: --generator FILE")
    small.generator_checkpoint(tmp_path)
    generator, reason = found()
    assert generator is not None and generator.config.name == "small-generator" and reason == ""
    small.generator_checkpoint(tmp_path, scene_model="older")
    generator, reason = found()
    assert generator is None and "draws tokens of model 'older'" in reason
