"""Losses and PSNR by noise level."""

import math
from dataclasses import replace

import pytest
import torch

from tests.test_tasks import LATE, batch, generator, run_config  # noqa: F401  (`batch` is a fixture)
from training.log import Meter
from training.tasks import SceneTokTask
from training.tasks.shared import level_logs

LABELS = ("0.0_0.2", "0.2_0.4", "0.4_0.6", "0.6_0.8", "0.8_1.0", "1")


def test_every_level_counts_in_its_own_bucket():
    t = torch.tensor([[0.0, 0.1999], [0.2, 0.5], [0.9999, 1.0], [1.0, 0.05]])
    loss = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [8.0, 9.0]])
    logs = level_logs({"loss": loss}, t)
    assert list(logs) == [f"loss_by_t/{label}" for label in LABELS]
    assert [float(value) for value in logs.values()] == pytest.approx([4, 3, 4, math.nan, 5, 7], nan_ok=True)


def test_empty_buckets_are_left_out_of_the_averages():
    meter = Meter(torch.device("cpu"))
    for t, loss in ((0.1, 2.0), (0.3, 7.0), (0.15, 4.0)):
        meter.add(level_logs({"loss": torch.tensor([loss])}, torch.tensor([t])), torch.ones(()))
    read = meter.read()
    assert read["loss_by_t/0.0_0.2"] == 3
    assert read["loss_by_t/0.2_0.4"] == 7
    assert read["loss_by_t/1"] is None


def test_buckets_of_a_batch_add_up_to_its_loss(batch):  # noqa: F811
    config = run_config()
    task = SceneTokTask(replace(config, task=replace(config.task, gradient_weight=0.0, mean_fraction=0.5)))
    losses, logs = task.loss(task.build(), batch, generator(), LATE)
    found = [float(logs[f"loss_by_t/{label}"]) for label in LABELS]
    used = [value for value in found if not math.isnan(value)]
    assert len(used) > 1, "several levels are drawn"
    assert min(used) <= float(losses.detach().mean()) <= max(used)
    assert float(logs["psnr_by_t/1"]) == pytest.approx(float(logs["psnr_mean"]))
