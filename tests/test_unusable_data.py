"""Data that cannot be used end a run with one line; sample sheets that cannot be made end nothing."""

from __future__ import annotations

import logging

import pytest

from tests.test_training_loop import ROOT, ToyTask, assert_same, run_toy, toy_config
from training.prepare import PrepareConfig, prepare
from training.state import list_states
from training.train import main
from training.trainer import SHEET_SEED, Trainer

CAPTURE = ROOT / "workflows" / "example_capture"


def run_task(config, task):
    trainer = Trainer(config, task)
    trainer.resume()
    trainer.train()
    return trainer


def test_a_video_that_is_too_short_ends_the_run_with_one_line(tmp_path, caplog):
    prepare(PrepareConfig(CAPTURE, tmp_path / "latents", "patch-8", "patch-8", image_size=64, mirror=True))
    settings = (f"data.videos.root={tmp_path / 'latents'}", f"run.output={tmp_path / 'runs'}", "run.init=none")
    sets = [part for setting in settings for part in ("--set", setting)]
    assert main(["--config", str(ROOT / "training/configs/tiny_captures.toml"), *sets]) == 1
    (error,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert caplog.records[-1] is error and error.exc_info is None
    message = error.getMessage()
    assert "\n" not in message and "8 frames are too few" in message and str(tmp_path / "latents") in message


class Sheetless(ToyTask):
    """A task whose sheets fail."""

    def sheet(self, model, batch, generator):
        raise RuntimeError("out of memory")


class NoHeldOut(ToyTask):
    """A task whose data have no scene to show."""

    def __init__(self):
        super().__init__()
        draw = self.data.batch

        def batch(seed, scenes, progress=1.0):
            if seed == SHEET_SEED:
                raise ValueError("no scene to show")
            return draw(seed, scenes, progress)

        self.data.batch = batch


@pytest.mark.parametrize(("task", "reason"), [(Sheetless, "out of memory"), (NoHeldOut, "no scene to show")])
def test_a_sheet_that_fails_is_a_warning_and_changes_nothing(tmp_path, caplog, task, reason):
    whole = run_toy(toy_config(tmp_path / "whole", {"sheet_every": 0})).trained
    config = toy_config(tmp_path / "parts", {"sheet_every": 5})
    trainer = run_task(config, task())
    assert trainer.trained.model.training
    assert_same(whole.tensors(), trainer.trained.tensors())
    warnings = [record.getMessage() for record in caplog.records if record.name == "training"]
    for line, step in zip(warnings, (5, 10, 12), strict=True):
        assert f"no sample sheet at step {step}, training goes on" in line and reason in line
    assert not (config.run.folder / "sheets").exists()


class Killed(ToyTask):
    """A task whose sheets end the process."""

    def sheet(self, model, batch, generator):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("sheet_every", "saved"), [(3, 3), (5, 4)])  # within the run, and at its end
def test_a_state_is_saved_before_a_sheet_is_drawn(tmp_path, sheet_every, saved):
    config = toy_config(tmp_path, {"steps": 4, "save_every": 3, "sheet_every": sheet_every})
    with pytest.raises(KeyboardInterrupt):
        run_task(config, Killed())
    assert list_states(config.run.folder / "states")[-1].name == f"step_{saved:08d}.safetensors"
