"""The nodes' use of ComfyUI's memory management and progress, from inside its process."""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from scenetok_core.interchange import from_depth_anything
from tests import outside, staged
from tests.inside_comfyui import FRAMES

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300
STEP, COSTLY, EVERY = 0.05, 2.0, 0.3  # a step, a costly preview, the least time between previews, in seconds
SHARE = 0.1  # of the running time that previews may take
SAME = 1e-5


@pytest.fixture
def inside(engine):
    """Runs a scenario of tests/inside_comfyui.py."""

    def go(scenario):
        command = [engine.python, "-m", "tests.inside_comfyui", str(engine.source), scenario]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return go


def test_only_the_network_of_a_stage_is_loaded(inside):
    told, steps = inside("placement"), staged.model().schedule(FRAMES, steps=1).steps
    assert {stage: [load["models"] for load in loads] for stage, loads in told["loads"].items()} == {
        "encode": [[["AutoencoderKL"]], [["Compressor"]]],
        "render": [[["Decoder"]], [["VideoDc"]]],
        "previews": [*[[["Decoder"]], [["VideoDc"]]] * steps, [["VideoDc"]]],  # all frames are more than a preview
        "generate": [[["AutoencoderKL"]], *[[["SceneGen"]]] * 2],  # to prepare and to draw
        "depth": [[["Decoder"]], [["VideoDc"]]],
        "fuse": [[["FuseNeck"]]],
        "decode": [[["PictureDecoder"]]],
        "points": [[["PointDecoder"]]],
        "draw": [*[[["FuseNeck"]]] * 2, [["Dit3d"]]],  # with the view, and without for guidance
    }
    loads = [load for stage in told["loads"].values() for load in stage]
    assert all(load["whole"] and load["bytes"] > 0 for load in loads)
    assert told["same"] and told["plain place"] == "stay"


def test_cheap_previews_are_frequent_and_costly_ones_take_a_tenth(inside):
    cheap, costly = inside("previews").values()
    for times, least in ((cheap, EVERY), (costly, COSTLY / SHARE)):
        gaps = [after - before for before, after in pairwise(times)]
        assert len(gaps) > 2 and all(least - SAME < gap < least + STEP + SAME for gap in gaps)


def test_the_wan_embedding_is_that_of_comfyui_and_depth_anything_is_read(inside):
    told = inside("cameras")
    assert list(told["wan"]) == ["Pan Right", "Pan Up", "Zoom In", "any"]
    assert max(told["wan"].values()) < SAME
    made, expected = told["depth anything"], from_depth_anything(outside.depth_anything_payload()).cameras
    assert made["images"] == [3, 3, 4, 3] and tuple(made["size"]) == expected.size
    torch.testing.assert_close(torch.tensor(made["c2w"]), expected.c2w)
