"""Short runs that one process does with twice the batches in a step, and two processes do: `python FILE FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from accelerate.state import AcceleratorState

from tests import rae_runs
from tests.processes import write_run
from tests.test_training_loop import SCENES, SEED, ToyTask, toy_config
from training.config import TrainConfig
from training.data.loader import step_seed
from training.tasks import build_task, load_config
from training.tasks.base import Task
from training.trainer import Trainer

SHARDED = "sharded"  # folder of the runs of two processes that share the weights


@dataclass(frozen=True)
class Job:
    """A run of the toy task."""

    events: dict[int, str] = field(default_factory=dict)  # what happens at a batch, see `ToyTask`
    optim: dict[str, Any] = field(default_factory=dict)
    joined: bool = False  # one process takes batches of twice the size, without noise
    shards: bool = True
    precision: str = "no"
    tolerance: float = 1e-4  # relative


JOBS = {
    "plain": Job(),
    "accumulated": Job(optim={"accumulate": 2}),
    "skipped": Job({7: "loss", 9: "nan", 12: "gradient"}),  # odd ones are those of the second process
    "stopped": Job({13: "SIGTERM"}),
    "muon": Job(optim={"muon_lr": 1e-2}, tolerance=1e-2),  # it computes in bfloat16, on shards in another order
    "frozen": Job(optim={"freeze": ["0."], "freeze_after": 5}, shards=False),
    "joined": Job(joined=True),
    "bf16": Job(precision="bf16", tolerance=2e-2),
}

RAES = {
    "rae": {"run": {"gradient_checkpointing": True}},
    "adversary": {"task": {"adversary_weight": 0.75, "discriminator": "patch", "adversary_from_disc": 0.25}},
}  # of the second, shards are refused; no step but the last two gives all weights a gradient


class QuietTask(ToyTask):
    """Without noise; in `pairs`, a batch is two of those that a process of two takes."""

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        self.data = PairedData(self.data) if pairs else self.data

    def loss(self, model, batch, generator, progress):
        losses = (model(batch["x"]) + batch["x"]).square().mean(1)
        return losses, {"error": losses.detach().mean()}


class PairedData:
    """Batch i holds the batches 2 i and 2 i + 1 of other data."""

    def __init__(self, data):
        self.data = data
        self.index = {step_seed(SEED, index): index for index in range(100)}

    def batch(self, seed, scenes, progress=1.0):
        first = 2 * self.index.get(seed, 0)
        halves = [self.data.batch(step_seed(SEED, index), scenes // 2) for index in (first, first + 1)]
        return {"x": torch.cat([half["x"] for half in halves]), "event": ""}


def run_job(folder: Path, name: str, processes: int) -> Trainer:
    """The toy run `name`, in whose steps all runs take the same scenes."""
    job, single = JOBS[name], processes == 1
    optim = dict(job.optim)
    if single and not job.joined:
        optim["accumulate"] = 2 * optim.get("accumulate", 1)
    run = {"log_every": 1, "sheet_every": 6, "mixed_precision": job.precision}
    config = toy_config(folder / name, run, **optim)
    if single and job.joined:
        config = replace(config, data=replace(config.data, scenes=2 * SCENES))
    return _train(config, QuietTask(single) if job.joined else ToyTask(job.events))


def run_small(folder: Path, processes: int, *settings: str) -> Trainer:
    """The small run of a real model on rooms; it resumes."""
    changes = [f"run.output='{folder}'", f"optim.accumulate={2 // processes}", "run.save_every=2", "run.keep_last=9"]
    config = load_config(write_run(folder), [*changes, *settings])
    return _train(config, build_task(config))


def run_rae(folder: Path, name: str, processes: int) -> Trainer:
    """A small 3DRAE on rooms."""
    changes = RAES[name]
    config = rae_runs.run(
        changes.get("task"),
        output=folder,
        name=name,
        mixed_precision="no",
        save_every=2,
        keep_last=9,
        **changes.get("run", {}),
    )
    config = replace(config, optim=replace(config.optim, accumulate=2 // processes))
    return _train(config, build_task(config))


def _train(config: TrainConfig, task: Task) -> Trainer:
    AcceleratorState._reset_state()  # else the first run would decide the precision of all
    trainer = Trainer(config, task)
    trainer.resume()
    trainer.train()
    return trainer


def assert_sharded(trainer: Trainer) -> None:
    """Weights, averages and moments are `DTensor`s, of which every process holds its half."""
    from torch.distributed.tensor import DTensor

    trained = trainer.trained
    weights = dict(trained.model.named_parameters())
    moments = [trained.optimizer.state[weight]["exp_avg"] for weight in weights.values()]
    for tensors in (list(weights.values()), list(trained.ema.average.values()), moments):
        assert tensors and all(isinstance(tensor, DTensor) for tensor in tensors)
        here = sum(tensor.to_local().numel() for tensor in tensors if isinstance(tensor, DTensor))
        everywhere = sum(tensor.numel() for tensor in tensors)
        assert here < 0.6 * everywhere, (here, everywhere)


def main(folder: Path) -> None:
    """All runs, as one of two processes, the second time from a state that one process wrote."""
    sharded = folder.name == SHARDED
    trainer = run_small(folder, 2, "run.sheet_every=2", "run.gradient_checkpointing=true")
    assert torch.distributed.get_world_size() == 2
    assert trainer.sharded == sharded
    if sharded:
        assert_sharded(trainer)
    if (folder / "resumed").exists():
        run_small(folder / "resumed", 2)
    for name, job in JOBS.items():
        try:
            run_job(folder, name, 2)
        except ValueError as error:
            assert sharded and not job.shards
            (folder / name).write_text(str(error).partition(";")[0])
    for name in RAES:
        try:
            run_rae(folder, name, 2)
        except ValueError as error:
            assert sharded and name == "adversary"
            (folder / name).write_text(str(error).partition(";")[0])
    apart = folder / ("plain" if trainer.rank == 0 else "of another machine")
    config = toy_config(apart, {"mixed_precision": "no"})
    AcceleratorState._reset_state()
    try:
        Trainer(config, ToyTask()).resume()
    except ValueError as error:
        (folder / f"apart_{trainer.rank}").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
