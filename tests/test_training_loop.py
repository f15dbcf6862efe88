"""The training loop on a toy task: resume, skipped steps, averages, files, settings."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from scenetok_core.configs import from_dict
from training.config import OptimConfig, TrainConfig
from training.data.loader import HELD_OUT_SEEDS, batches, step_seed
from training.ema import Ema
from training.optim import SkippingOptimizer, rate_share
from training.state import find_state, list_states, load_state, save_state
from training.trainer import Trainer, TrainingDivergedError

resource = pytest.importorskip("resource", reason="POSIX only")

ROOT = Path(__file__).resolve().parents[1]
WIDTH, SCENES, SEED = 6, 4, 5
MINIMAL = {"run": {"name": "toy", "steps": 12}, "model": {"name": "toy", "image_size": 64, "context_views": 8}}


class ToyTask:
    """Learn y = -x from noisy x; `events` maps a batch index to what happens there."""

    def __init__(self, events=None, fixed=False, frozen=None):
        self.data, self.shown, self.frozen = ToyData(events, fixed), torch.empty(0), frozen or {}

    def dataset(self, device):
        return self.data

    def build(self):
        return nn.Sequential(nn.Linear(WIDTH, 16), nn.LayerNorm(16), nn.SiLU(), nn.Linear(16, WIDTH))

    def loss(self, model, batch, generator, progress):
        noise = 0.01 * torch.randn(batch["x"].shape, generator=generator)
        out = model(batch["x"] + noise)
        losses = (out + batch["x"]).square().mean(1)
        if batch["event"] == "nan":
            losses = losses * math.nan
        if batch["event"] == "loss":
            losses = losses + math.inf  # with a finite gradient
        if batch["event"] == "gradient":
            losses = losses + (out * 0).sum().sqrt()  # 0, with derivative 0 * inf
        return losses, {"progress": progress, "error": losses.detach().mean()}

    def sheet(self, model, batch, generator):
        assert not model.training
        self.shown = model[0].weight.clone()
        return Image.new("RGB", (8, 8), (0, 128, 255))

    def export(self, path, state, metadata):
        save_file(state, path, metadata)


class ToyData:
    """Random vectors, the same for every seed when `fixed`."""

    def __init__(self, events, fixed):
        self.events = {step_seed(SEED, index): event for index, event in (events or {}).items()}
        self.fixed = fixed

    def batch(self, seed, scenes, progress=1.0):
        event = self.events.get(seed, "")
        if event.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, event))
        generator = torch.Generator().manual_seed(0 if self.fixed else seed)
        return {"x": torch.randn(scenes, WIDTH, generator=generator), "event": event}


def toy_config(folder, run=None, **optim):
    run = {"name": "toy", "steps": 12, "output": str(folder), "seed": SEED, "log_every": 4, "save_every": 3} | (
        run or {}
    )
    optim = {"lr": 1e-2, "warmup": 2, "ema": 0.9} | optim
    return from_dict(TrainConfig, {**MINIMAL, "run": run, "optim": optim, "data": {"scenes": SCENES}})


def toy_trainer(config, events=None, fixed=False):
    return Trainer(config, ToyTask(events, fixed))


def run_toy(config, events=None, resume="auto"):
    trainer = toy_trainer(config, events)
    trainer.resume(resume)
    trainer.train()
    return trainer


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def logged(folder):
    return [json.loads(line) for line in (folder / "toy" / "training_log.jsonl").read_text().splitlines()]


def test_overfits_one_batch(tmp_path):
    config = toy_config(tmp_path, {"steps": 400, "log_every": 10, "save_every": 400, "sheet_every": 0})
    trainer = toy_trainer(config, fixed=True)
    trainer.train()
    losses = [line["loss"] for line in logged(tmp_path)]
    assert losses[0] > 0.3
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("muon_lr", [None, 1e-2])
def test_resume_is_bit_exact(tmp_path, muon_lr):
    optim = {"accumulate": 2, "muon_lr": muon_lr}
    whole = run_toy(toy_config(tmp_path / "whole", **optim)).trained
    stopped = run_toy(toy_config(tmp_path / "parts", **optim), {13: "SIGTERM"}).trained
    assert stopped.step == 7
    resumed = run_toy(toy_config(tmp_path / "parts", **optim)).trained
    assert (whole.step, resumed.step) == (12, 12)
    assert_same(whole.tensors(), resumed.tensors())
    assert [line["loss"] for line in logged(tmp_path / "whole")][-1] == logged(tmp_path / "parts")[-1]["loss"]


def test_resume_after_sigkill_is_bit_exact(tmp_path):
    code = (
        "import sys, pathlib; from test_training_loop import *\n"
        "run_toy(toy_config(pathlib.Path(sys.argv[1]), {'log_every': 2}), {8: 'SIGKILL'})"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "killed")], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert list_states(tmp_path / "killed/toy/states")[-1].name == "step_00000006.safetensors"
    resumed = run_toy(toy_config(tmp_path / "killed", {"log_every": 2})).trained
    assert_same(run_toy(toy_config(tmp_path / "whole")).trained.tensors(), resumed.tensors())
    assert [line["step"] for line in logged(tmp_path / "killed")] == [2, 4, 6, 8, 10, 12]


def test_prefetched_run_is_the_same_run(tmp_path):
    plain = run_toy(toy_config(tmp_path / "plain")).trained
    ahead = run_toy(toy_config(tmp_path / "ahead", {"prefetch": 2})).trained
    assert_same(plain.tensors(), ahead.tensors())


def test_failing_dataset_ends_a_prefetched_run():
    class Broken:
        def batch(self, seed, scenes, progress=1.0):
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        next(batches(Broken(), SCENES, SEED, prefetch=2))


def test_resume_with_other_settings_is_refused(tmp_path):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    other = toy_trainer(toy_config(tmp_path, {"steps": 6, "seed": SEED + 1}, betas=[0.8, 0.9]))
    before = other.trained.tensors()
    with pytest.raises(
        ValueError, match=r"optim.betas: saved \[0.9, 0.95\], now \[0.8, 0.9\]; run.seed: saved 5, now 6"
    ):
        other.resume()
    assert_same(before, other.trained.tensors())


def test_length_and_learning_rate_may_change_on_resume(tmp_path):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    assert run_toy(toy_config(tmp_path, {"steps": 5}, lr=1e-3)).trained.step == 5


def test_starting_afresh_never_mixes_with_old_states(tmp_path):
    config = toy_config(tmp_path, {"steps": 6})
    run_toy(config)
    states = config.run.folder / "states"
    with pytest.raises(ValueError, match="step_00000006"):
        find_state(states, "none")
    with pytest.raises(ValueError, match="newer states up to step_00000006"):
        find_state(states, str(list_states(states)[0]))
    with pytest.raises(ValueError, match="no training state"):
        find_state(states, str(states / "step_00000099.safetensors"))
    assert find_state(tmp_path / "nowhere", "auto") is None


def test_resume_with_other_frozen_weights_is_refused(tmp_path):
    config = toy_config(tmp_path, {"steps": 3})
    for digest in ("a", "b"):
        trainer = Trainer(config, ToyTask(frozen={"compressor": digest}))
        if digest == "b":
            with pytest.raises(ValueError, match=r"frozen\.compressor: saved 'a', now 'b'"):
                trainer.resume()
        else:
            trainer.train()


@pytest.mark.parametrize("muon_lr", [None, 1e-2])
def test_frozen_parts_stay_and_resume_is_still_exact(tmp_path, muon_lr):
    optim = {"freeze": ["0."], "freeze_after": 5, "muon_lr": muon_lr}
    whole = run_toy(toy_config(tmp_path / "whole", {"save_every": 5, "keep_last": 9}, **optim)).trained
    states = {path.stem: load_file(path) for path in list_states(tmp_path / "whole/toy/states")}
    at_freeze, at_end = states["step_00000005"], states["step_00000012"]
    same = {name for name in at_end if name.startswith("model.") and torch.equal(at_freeze[name], at_end[name])}
    assert same == {"model.0.weight", "model.0.bias"}
    assert not torch.equal(at_freeze["ema.0.weight"], at_end["ema.0.weight"]), "the average still catches up"
    run_toy(toy_config(tmp_path / "parts", **optim), {7: "SIGTERM"})
    assert_same(whole.tensors(), run_toy(toy_config(tmp_path / "parts", **optim)).trained.tensors())


def test_parts_to_freeze_must_exist(tmp_path):
    with pytest.raises(ValueError, match=r"begins with 'compressor\.'; names begin with \['0', '1', '3'\]"):
        toy_trainer(toy_config(tmp_path, freeze=["compressor."]))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("event", ["nan", "loss", "gradient"])
@pytest.mark.parametrize("muon_lr", [None, 1e-2])
def test_non_finite_step_changes_nothing(tmp_path, event, accumulate, muon_lr):
    config = toy_config(tmp_path, accumulate=accumulate, muon_lr=muon_lr)
    trainer = toy_trainer(config, {2 * accumulate: event})
    source = batches(trainer.dataset, SCENES, SEED)
    trainer.train_step(source, 0.0)
    trainer.train_step(source, 0.0)
    before = trainer.trained.tensors()
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in before)
    trainer.train_step(source, 0.0)
    assert_same(before, trainer.trained.tensors())
    trainer.train_step(source, 0.0)
    after = trainer.trained.tensors()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    for part in ("model.0.weight", "ema.0.weight", "optimizer.exp_avg.0.bias", "optimizer.step.0.bias"):
        assert not torch.equal(before[part], after[part])


def test_bad_steps_are_logged_and_end_the_run_when_in_a_row(tmp_path):
    scattered = toy_config(tmp_path / "scattered", {"log_every": 1}, max_bad_steps=3)
    run_toy(scattered, {2: "loss", 3: "gradient", 5: "nan", 6: "loss"})
    lines = logged(tmp_path / "scattered")
    assert [line.get("skipped", 0) for line in lines[:8]] == [0, 0, 1, 2, 2, 3, 4, 4]
    assert lines[2]["loss"] is None
    in_a_row = toy_config(tmp_path / "row", {"log_every": 1}, max_bad_steps=3)
    trainer = toy_trainer(in_a_row, dict.fromkeys((4, 5, 6), "loss"))
    with pytest.raises(TrainingDivergedError, match="3 steps in a row up to step 7"):
        trainer.train()
    assert list_states(in_a_row.run.folder / "states")[-1].name == "step_00000006.safetensors"


def test_ema_closed_form():
    model = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.5, ramp=10.0)
    nn.init.ones_(model.weight)
    left = 1.0
    for step in range(12):
        ema.update(step, torch.ones(()))
        left *= min(0.5, (1 + step) / (10 + step))
    torch.testing.assert_close(ema.average["weight"], torch.full((2, 3), 1 - left), rtol=0, atol=1e-6)


def test_ema_is_applied_only_inside_the_block_and_skips_frozen_weights():
    first, frozen = nn.Linear(3, 2, bias=False), nn.Linear(2, 2).requires_grad_(False)
    model = nn.Sequential(first, frozen)
    weight = first.weight.detach().clone()
    ema = Ema(model, decay=0.5)
    assert list(ema.average) == ["0.weight"]
    ema.average["0.weight"].zero_()
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert not first.weight.any()
        raise RuntimeError("inside")
    assert torch.equal(first.weight, weight)


def test_learning_rate_warms_up_and_decays_to_zero():
    linear = OptimConfig(warmup=10, decay_share=0.5)
    cosine = OptimConfig(warmup=10, decay_share=0.5, decay_shape="cosine")
    for step, progress, want in ((0, 0.0, 0.1), (4, 0.01, 0.5), (50, 0.5, 1.0), (80, 0.75, 0.5), (99, 1.0, 0.0)):
        assert rate_share(linear, step, progress) == pytest.approx(want)
        assert rate_share(cosine, step, progress) == pytest.approx(want)
    assert rate_share(cosine, 90, 0.9) < rate_share(linear, 90, 0.9)


def test_learning_rate_falls_at_milestones():
    stepped = OptimConfig(warmup=10, decay_share=0.0, milestones=(20, 40), milestone_factor=0.4)
    for step, want in ((4, 0.5), (19, 1.0), (20, 0.4), (39, 0.4), (40, 0.16), (99, 0.16)):
        assert rate_share(stepped, step, step / 100) == pytest.approx(want)


def test_muon_takes_the_inner_matrices_and_every_group_its_own_rate():
    model = nn.ModuleDict({"x_embedder": nn.Linear(3, 4), "block": nn.Linear(4, 4), "frozen": nn.Linear(4, 4)})
    model["frozen"].requires_grad_(False)
    optimizer = SkippingOptimizer(model, OptimConfig(lr=1e-2, muon_lr=3e-2, weight_decay=0.1))
    optimizer.set_rate(0.5)
    found = {(group["lr"], group["weight_decay"], *map(tuple, (w.shape for w in group["params"])))
             for group in optimizer.param_groups}  # fmt: skip
    assert found == {(5e-3, 0.1, (4, 3)), (5e-3, 0.0, (4,), (4,)), (15e-3, 0.1, (4, 4))}
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model["block"](model["x_embedder"](torch.ones(2, 3))).sum().backward()
    optimizer.step()
    changed = [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])]
    assert changed == [name for name in before if "frozen" not in name]
    kinds = {name: sorted(optimizer.state[weight]) for name, weight in model.named_parameters()}
    assert kinds["block.weight"] == ["momentum_buffer"] and "exp_avg" in kinds["x_embedder.weight"]


def test_muon_needs_a_torch_that_has_it(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match="needs torch 2"):
        SkippingOptimizer(nn.Linear(2, 2), OptimConfig(muon_lr=1e-2))
    assert SkippingOptimizer(nn.Linear(2, 2), OptimConfig()).param_groups


def test_wall_clock_budget_counts_all_sessions(tmp_path):
    config = toy_config(tmp_path, {"steps": 1000, "minutes": 1.0})
    trainer = toy_trainer(config)
    trainer.trained.step, trainer.trained.elapsed = 3, 45.0
    stop = threading.Event()
    assert trainer.progress(stop) == pytest.approx(0.75)
    save_state(config.run.folder / "states", trainer.trained, {}, trainer.fingerprint, 1)
    again = toy_trainer(config)
    again.resume()
    assert again.progress(stop) == pytest.approx(0.75)
    again.trained.elapsed = 61.0
    again.train()
    assert again.trained.step == 3
    stop.set()
    assert again.progress(stop) == math.inf


def test_a_run_writes_states_weights_sheets_and_logs(tmp_path):
    config = toy_config(tmp_path, {"sheet_every": 5, "keep_last": 2})
    task = ToyTask()
    trainer = Trainer(config, task)
    trainer.train()
    folder = config.run.folder
    assert [path.name for path in list_states(folder / "states")] == [f"step_{n:08d}.safetensors" for n in (9, 12)]
    assert [path.name for path in sorted((folder / "sheets").iterdir())] == [f"step_{n:06d}.png" for n in (5, 10, 12)]
    assert list(folder.glob("tensorboard/events.*"))
    assert torch.equal(task.shown, trainer.trained.ema.average["0.weight"])
    assert not torch.equal(task.shown, trainer.trained.model.state_dict()["0.weight"])
    exported = load_file(folder / "model.safetensors")
    assert exported["0.weight"].dtype == torch.bfloat16
    assert torch.equal(exported["0.weight"], trainer.trained.ema.average["0.weight"].bfloat16())
    lines = logged(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert {"loss", "error", "grad_norm", "lr", "samples_per_s", "step_s"} <= lines[0].keys()
    assert lines[0]["error"] == pytest.approx(lines[0]["loss"], rel=1e-4)


def test_failure_while_saving_keeps_the_last_good_state(tmp_path):
    trainer = toy_trainer(toy_config(tmp_path))
    folder = tmp_path / "states"
    good = save_state(folder, trainer.trained, {}, trainer.fingerprint, 1)
    content = good.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        for step in (0, 3):
            trainer.trained.step = step
            with pytest.raises(Exception, match=r"(?i)file too large|I/O"):
                save_state(folder, trainer.trained, {}, trainer.fingerprint, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == [good]
    assert good.read_bytes() == content


def test_leftovers_of_a_killed_session_are_removed(tmp_path):
    trainer = toy_trainer(toy_config(tmp_path))
    leftover = tmp_path / ".step_00000001.safetensors.123.partial"
    leftover.write_bytes(b"half")
    assert list_states(tmp_path) == []
    save_state(tmp_path, trainer.trained, {}, trainer.fingerprint, 1)
    assert not leftover.exists()


def test_other_files_are_no_training_state(tmp_path):
    trainer = toy_trainer(toy_config(tmp_path))
    save_file({"x": torch.zeros(1)}, tmp_path / "step_1.safetensors")
    with pytest.raises(ValueError, match="no training state"):
        load_state(tmp_path / "step_1.safetensors", trainer.trained, trainer.fingerprint)
    good = save_state(tmp_path / "states", trainer.trained, {}, trainer.fingerprint, 1)
    good.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load_state(good, trainer.trained, trainer.fingerprint)


def test_seeds_are_distinct_and_never_held_out():
    seeds = [step_seed(0, index, stream) for index in range(200) for stream in ("data", "noise")]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= HELD_OUT_SEEDS
