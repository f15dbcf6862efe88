"""True depth of real captures under an evaluation index."""

import json
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from scenetok_core import SceneTok
from tests import small, small_latents
from tests.captures import HEIGHT, NAMES, WIDTH, write_camera_folder
from training.data.depths import DepthDataConfig, DepthFolder
from training.data.videos import open_captures
from training.depth_evaluation import DepthEvaluation, HeadDepth
from training.evaluate import main
from training.extras import LeftOut
from training.indexed import IndexBenchmark, IndexEntry

SIDE = small.IMAGE
INDEX = {"first": IndexEntry((0,), (2, 0, 1))}
MILLIMETRES = (1000, 2500, 4000)


@pytest.fixture
def data(tmp_path):
    """A capture, and the depth of its frames in millimetres: flat, unknown in the upper half of the second."""
    write_camera_folder(tmp_path / "data" / "first")
    folder = tmp_path / "depth" / "first"
    folder.mkdir(parents=True)
    for name, value in zip(NAMES, MILLIMETRES, strict=True):
        depth = np.full((HEIGHT, WIDTH), value, np.uint16)
        if value == MILLIMETRES[1]:
            depth[: HEIGHT // 2] = 0
        Image.fromarray(depth).save((folder / name).with_suffix(".png"))
    return tmp_path


def open_benchmark(data, values: Literal["depth", "inverse"] = "depth", index=INDEX):
    depth = DepthFolder(DepthDataConfig(str(data / "depth"), values, 1e-3 if values == "depth" else 1.0))
    return IndexBenchmark("test", index, open_captures(data / "data"), SIDE, depth=depth)


class Seer:
    """A head that sees every depth too far by a tenth."""

    def __init__(self, model, case):
        self.config, self.model, self.hash, self.case = small.depth_config(units="scene"), model, "seer", case

    def render(self, tokens, cameras, *, steps, generator):
        return 1.1 * self.case.depth(cameras)[:, None].where(self.case.depth(cameras)[:, None] > 0, 1.0)


def test_depth_follows_the_targets_in_units_of_the_cameras(data):
    (case,) = open_benchmark(data).cases()
    assert case.depth is not None
    depth = case.depth(case.targets.cameras)
    assert torch.allclose(depth[:, -1, 0], torch.tensor([4.0, 1.0, 2.5]))
    assert bool((depth[2, : SIDE // 2] == 0).all()) and bool((depth[2, SIDE // 2 :] > 0).all())
    assert torch.equal(case.depth(case.targets.cameras[[1]]), depth[[1]])
    with pytest.raises(ValueError, match="target frames only"):
        case.depth(small.cameras(1))


def test_pixels_of_unknown_depth_do_not_count(data, tmp_path):
    index = {"first": IndexEntry((0,), (0, 1, 2))}
    (case,) = open_benchmark(data, index=index).cases()
    assert case.path is not None
    model = SceneTok.load(small.checkpoint(tmp_path))
    measured = DepthEvaluation(HeadDepth(Seer(model, case)))  # type: ignore[arg-type]
    tokens = model.encode(case.inputs)
    rows = measured.add(tokens, case)
    measured.add_path(tokens, case, case.path())
    figures = measured.figures(LeftOut())
    assert figures["posterior_mean_depth_abs_rel"] == pytest.approx(0.1, abs=1e-5)
    assert figures["posterior_mean_depth_flicker"] == pytest.approx(0, abs=1e-6)
    assert figures["truth_depth_second_difference"] > 0
    assert all(bool(pictures.isfinite().all()) for _, pictures in rows)


def test_depth_without_a_unit_is_refused(data):
    with pytest.raises(ValueError, match="got inverse depth"):
        open_benchmark(data, "inverse")


def test_depth_of_an_index_is_measured_from_the_command_line(data, tmp_path, capsys):
    index, target = tmp_path / "index.json", tmp_path / "figures.json"
    index.write_text(json.dumps({"first": {"context": [0], "target": [0, 1, 2]}}), encoding="utf-8")
    model = SceneTok.load(small.checkpoint(tmp_path))
    head = small.depth_head(tmp_path / "head.safetensors", model)
    options = ["--data", str(data / "data"), "--json", str(target), "--checkpoint", str(tmp_path / "small.safetensors")]
    depth = ["--depth-data", str(data / "depth"), "--depth-unit", "0.001"]
    assert main(["--index", str(index), *options, "--depth", str(head), *depth]) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert figures["constant_depth_abs_rel"] > 0.1 and figures["posterior_mean_depth_abs_rel"] > 0
    assert "depth_uncertainty_rank_correlation" in figures
    assert main(["--config", "tiny", "--json", str(target), *depth]) == 2
    assert "give it with --index" in capsys.readouterr().err
    assert main(["--index", str(index), *options, *depth]) == 2
    assert "needs a depth head for this model: --depth FILE" in capsys.readouterr().err


def test_points_of_a_3drae_are_measured_against_depth_of_an_index(data, tmp_path):
    index, target = tmp_path / "index.json", tmp_path / "figures.json"
    index.write_text(json.dumps({"first": {"context": [0], "target": [0, 1, 2]}}), encoding="utf-8")
    options = ["--data", str(data / "data"), "--json", str(target)]
    depth = ["--depth-data", str(data / "depth"), "--depth-unit", "0.001"]
    model = ["--checkpoint", str(small_latents.rae_checkpoint(tmp_path))]
    assert main(["--index", str(index), *options, *model, *depth]) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert figures["posterior_mean_depth_abs_rel"] > 0 and figures["constant_depth_abs_rel"] > 0.1
    assert 0 < figures["point_ray_degrees"] < 180
