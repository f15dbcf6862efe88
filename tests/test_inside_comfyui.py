"""The nodes' use of ComfyUI's memory management and progress, from inside its process."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import staged
from tests.inside_comfyui import FRAMES

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300


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
        "previews": [[["Decoder"]], *[[["VideoDc"]], [["Decoder"]]] * steps, [["VideoDc"]]],
        "generate": [[["AutoencoderKL"]], [["SceneGen"]]],
    }
    loads = [load for stage in told["loads"].values() for load in stage]
    assert all(load["whole"] and load["bytes"] > 0 for load in loads)
    assert told["same"] and told["plain place"] == "stay"
