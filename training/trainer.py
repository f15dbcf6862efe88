"""The one training loop. What is trained is a `Task`; this file knows only steps, gradients, averages and files."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from torch import Tensor

from scenetok_core.configs import to_dict
from training.config import TrainConfig, at_default, fingerprint
from training.data.loader import batches, step_seed
from training.ema import Ema
from training.finetune import check_parts, freeze, start_from
from training.log import Meter, RunLog
from training.memory import peak_memory_mib
from training.optim import SkippingOptimizer, rate_share
from training.state import Trained, find_state, list_states, load_state, save_state
from training.stopping import stop_requests
from training.tasks.base import Task

logger = logging.getLogger("training")

SHEET_SEED = 0  # of the held-out scenes on sample sheets


class TrainingDivergedError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class Trainer:
    """Trains the model of `task` as `config` says; call `resume`, then `train`."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        run, optim = config.run, config.optim
        self.config, self.task = config, task
        accelerator = Accelerator(
            mixed_precision=run.mixed_precision,
            gradient_accumulation_steps=optim.accumulate,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=bool(optim.freeze))],
        )
        self.accelerator, self.device, self.rank = accelerator, accelerator.device, accelerator.process_index
        self.dataset = task.dataset(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            model = task.build()
        if run.init is not None and not list_states(run.folder / "states"):  # else it is resumed
            start_from(Path(run.init), model, config.model, run.init_differs)
        check_parts(model, optim.freeze)
        if run.compile_model:
            model.compile()
        optimizer = SkippingOptimizer(model, optim)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.trained = Trained(model, Ema(model, optim.ema, optim.ema_ramp), optimizer)
        self.folder = run.folder
        self.fingerprint = fingerprint(config) | {"processes": accelerator.num_processes}
        self.fingerprint |= {f"frozen.{name}": digest for name, digest in task.frozen.items()}
        self.meter = Meter(self.device)
        self.bad_steps = torch.zeros(3, device=self.device)  # in a row now, longest row, all
        self.saved_step = -1
        self.mark = (time.monotonic(), 0)  # where the measure of step time begins: clock, step
        self.log: RunLog | None = None

    def resume(self, which: str = "auto") -> None:
        """Continue from a training state: `auto` the newest of this run if there is one, `none`, or a path.

        Raises:
            ValueError: no such state, or one that does not fit this run (see `find_state`, `load_state`).
        """
        state = find_state(self.folder / "states", which)
        if state is not None:
            load_state(state, self.trained, self.fingerprint, at_default(self.config))
            logger.info("resumed %s", state)

    def train(self) -> None:
        """Run to the end of the budget, or until SIGINT or SIGTERM; what was reached is saved.

        Raises:
            TrainingDivergedError: too many skipped steps in a row.
        """
        run = self.config.run
        if self.accelerator.is_main_process:
            self.log = RunLog(self.folder, self.trained.step, to_dict(self.config), run.wandb)
        first_batch = self.trained.step * self.config.optim.accumulate
        length = run.steps * self.config.optim.accumulate
        source = batches(self.dataset, self.config.data.scenes, run.seed, first_batch, self.rank, run.prefetch, length)
        try:
            with stop_requests() as stop:
                self._loop(source, stop)
            if run.sheet_every and self.trained.step % run.sheet_every and not stop.is_set():
                self.write_sheet()
            self.write_log()
            self.save()
        finally:
            source.close()
            if self.log is not None:
                self.log.close()
        done = "stopped" if stop.is_set() else "finished"
        logger.info("%s at step %d after %.1f minutes", done, self.trained.step, self.trained.elapsed / 60)

    def _loop(self, source: Iterator[Any], stop: threading.Event) -> None:
        run, trained = self.config.run, self.trained
        began = time.monotonic() - trained.elapsed
        self.mark = (time.monotonic(), trained.step)
        while (progress := self.progress(stop)) < 1:
            self.train_step(source, progress)
            trained.elapsed = time.monotonic() - began
            if trained.step % run.log_every == 0:
                self.write_log()
            paused = time.monotonic()
            if run.sheet_every and trained.step % run.sheet_every == 0:
                self.write_sheet()
            if trained.step % run.save_every == 0:
                self.save()
            self.mark = (self.mark[0] + time.monotonic() - paused, self.mark[1])

    def progress(self, stop: threading.Event) -> float:
        """Share of the run that is done, by steps or by time, or infinity once a stop was requested."""
        run = self.config.run
        share = self.trained.step / run.steps
        if run.minutes is not None:
            share = max(share, self.trained.elapsed / 60 / run.minutes)
        if stop.is_set():
            share = math.inf
        if self.accelerator.num_processes > 1:  # clocks and signals differ, the decision must not
            share = float(torch.as_tensor(self.accelerator.gather(torch.tensor([share], device=self.device))).max())
        return share

    def train_step(self, source: Iterator[Any], progress: float) -> None:
        """One optimiser step over `optim.accumulate` batches."""
        optim, step = self.config.optim, self.trained.step
        if optim.freeze and step >= optim.freeze_after:
            freeze(self.trained.model, optim.freeze)
        self.trained.optimizer.set_rate(rate_share(optim, step, progress))
        logs = []
        for index in range(step * optim.accumulate, (step + 1) * optim.accumulate):
            asked = time.monotonic()
            batch = send_to_device(next(source), self.device)
            waited = time.monotonic() - asked
            noise = torch.Generator(self.device).manual_seed(step_seed(self.config.run.seed, index, self.rank, "noise"))
            with self.accelerator.accumulate(self.model):
                losses, extra = self.task.loss(self.model, batch, noise, progress)
                loss = losses.float().mean()
                self.accelerator.backward(loss)
            logs.append({"loss": loss.detach(), **extra, "data_s": waited})
        self.update(logs)
        self.trained.step += 1

    def update(self, logs: list[dict[str, Tensor | float]]) -> None:
        """Step and average with the gradients at hand; unless these or a loss are not finite: then nothing changes."""
        norm = torch.as_tensor(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optim.clip))
        finite = torch.isfinite(torch.stack([norm, *(torch.as_tensor(values["loss"]) for values in logs)])).all()
        bad = torch.as_tensor(self.accelerator.reduce(1 - finite.float(), "sum")).clamp(max=1)
        self.trained.optimizer.skip = bool(bad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trained.ema.update(self.trained.step, 1 - bad)
        for values in logs:
            self.meter.add({**values, "grad_norm": norm}, 1 - bad)
        row = (self.bad_steps[0] + 1) * bad
        self.bad_steps = torch.stack([row, torch.maximum(row, self.bad_steps[1]), self.bad_steps[2] + bad])

    def write_log(self) -> None:
        """Report the averages since the last report; here, too, a run of bad steps is noticed."""
        values = self.meter.read()
        if not values:
            return
        now, step = time.monotonic(), self.trained.step
        seconds = (now - self.mark[0]) / (step - self.mark[1])
        self.mark = (now, step)
        _, longest, skipped = (int(count) for count in self.bad_steps.tolist())
        data, optim, processes = self.config.data, self.config.optim, self.accelerator.num_processes
        values |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "step_s": seconds,
            "samples_per_s": data.scenes * optim.accumulate * processes / seconds,
            "minutes": self.trained.elapsed / 60,
            "peak_memory_mib": peak_memory_mib(self.device),
        }
        if skipped:
            values["skipped"] = skipped
        if self.log is not None:
            self.log.scalars(step, values)
        if longest >= optim.max_bad_steps:
            raise TrainingDivergedError(
                f"{longest} steps in a row up to step {step} had a loss or gradient that is not finite and changed "
                f"nothing. Lower optim.lr, or look for bad values in the data"
            )

    def write_sheet(self) -> None:
        """Show what the averaged model does with held-out scenes."""
        if self.log is None:
            return
        batch = send_to_device(self.dataset.batch(SHEET_SEED, self.config.data.scenes), self.device)
        noise = torch.Generator(self.device).manual_seed(SHEET_SEED)
        model = self.trained.model.eval()
        with self.trained.ema.applied(), torch.no_grad():
            image = self.task.sheet(model, batch, noise)
        model.train()
        self.log.sheet(self.trained.step, image)

    def save(self) -> None:
        """Save the training state, and the averaged weights as `model.safetensors`."""
        trained, run = self.trained, self.config.run
        if self.log is None or self.saved_step == trained.step:
            return
        config = to_dict(self.config)
        path = save_state(self.folder / "states", trained, config, self.fingerprint, run.keep_last)
        recipe = {"seed": run.seed} | {name: part for name, part in config.items() if name not in ("run", "model")}
        metadata = {"step": str(trained.step), "training": json.dumps(recipe)}
        self.task.export(self.folder / "model.safetensors", trained.inference_weights(), metadata)
        logger.info("saved %s", path)
        self.saved_step = trained.step
