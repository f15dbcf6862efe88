"""The settings of a run: read from TOML and the command line, refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scenetok_core.configs import from_dict
from tests.test_training_loop import MINIMAL
from training.config import TrainConfig, fingerprint
from training.tasks import load_config
from training.tasks.scenetok import SceneTokTrainConfig

ROOT = Path(__file__).resolve().parents[1]


def write_toml(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


TOML = """
[run]
name = "toy"
steps = 10

[model]
name = "toy"
image_size = 64

[model.decoder]
qk_norm = false
null_tokens = false
"""


def test_settings_are_read_and_overridden(tmp_path):
    path = write_toml(tmp_path, TOML)
    overrides = ["run.steps=20", "optim.betas=[0.8, 0.9]", "run.name=other", "optim.lr=1", "model.decoder.depth=2"]
    config = load_config(path, [*overrides, "run.minutes=none"])
    assert isinstance(config, SceneTokTrainConfig)
    assert (config.run.steps, config.run.name, config.run.minutes) == (20, "other", None)
    assert (config.optim.betas, config.optim.lr) == ((0.8, 0.9), 1.0)
    assert (config.model.decoder.depth, config.model.decoder.qk_norm) == (2, False)
    assert fingerprint(config)["model.decoder.depth"] == 2
    assert not any(name.startswith("model.sampling") for name in fingerprint(config))


def test_none_is_the_same_word_in_a_file_and_on_the_command_line(tmp_path):
    text = TOML.replace("steps = 10", 'steps = 10\nminutes = "none"\nwandb = "none"\ninit = "none"')
    config = load_config(write_toml(tmp_path, text), ["task.scene_scale=none", "optim.muon_lr=none"])
    assert isinstance(config, SceneTokTrainConfig)
    assert (config.run.minutes, config.run.wandb, config.run.init, config.optim.muon_lr) == (None, None, None, None)
    assert config.task.scene_scale == "none", "where None is not possible it is a word like others"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.steps=none", r"run\.steps must be int, got 'none'"),
        ("run.stepz=3", r"run\.stepz.*known here: name, steps"),
        ("model.decoder.width=3", r"model\.decoder\.width"),
        ("run.steps=many", r"run\.steps must be int, got 'many'"),
        ("run.steps", "section.name=value"),
        ("run.steps.more=1", "steps is a value"),
        ("run.steps=0", "must be positive"),
        ("data.rooms.image_size=32", "agree on image_size"),
        ("data.target_views=9", r"data\.rooms\.views"),
        ("optim.decay_shape=step", "linear"),
        ("optim.milestones=[-1]", "milestones and freeze_after >= 0"),
        ("run.init_differs=['compressor.tokens']", r"init_differs needs run\.init"),
        ("task.kind=painting", r"task\.kind must be one of \['scenetok', .*\], got 'painting'"),
        ("task.kind=scenegen", r"unknown setting model\.decoder"),
        ("task.extra_views=1", r"unknown setting task\.extra_views"),
    ],
)
def test_wrong_settings_are_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        load_config(write_toml(tmp_path, TOML), [override])


def test_broken_or_missing_toml_is_named(tmp_path):
    with pytest.raises(ValueError, match="no valid TOML"):
        load_config(write_toml(tmp_path, "[run\n"))
    with pytest.raises(ValueError, match="no configuration file"):
        load_config(tmp_path / "missing.toml")


def test_script_runs_from_anywhere_and_reports_settings(tmp_path):
    script = [sys.executable, str(ROOT / "training" / "train.py"), "--config", str(ROOT / "training/configs/tiny.toml")]
    outcome = subprocess.run(
        [*script, "--set", "run.stepz=1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 2
    assert "unknown setting run.stepz" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_views_that_widen_by_steps_and_a_clock_do_not_go_together(tmp_path):
    views = {"context_views": 8, "gap": [20, 30], "first_gap": [10, 20], "warm_up": 0.5}
    videos = {"kind": "captures", "root": "data", "image_size": 64, "views": views}
    settings = {**MINIMAL, "data": {"kind": "videos", "videos": videos}}
    assert from_dict(TrainConfig, settings).run.minutes is None
    with pytest.raises(ValueError, match=r"first_gap .* 12 of them, however soon run\.minutes = 3\.0 ends the run"):
        from_dict(TrainConfig, {**settings, "run": {**MINIMAL["run"], "minutes": 3}})
