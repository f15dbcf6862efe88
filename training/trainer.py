"""The one training loop. What is trained is a `Task`; this file knows only steps, gradients, averages and files."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, send_to_device
from torch import Tensor, nn

from scenetok_core.configs import require, to_dict
from scenetok_core.files import remove_leftovers
from scenetok_core.nn.blocks import compile_blocks
from training.adversary import generator_of, parts_of
from training.config import TrainConfig, at_default, fingerprint
from training.data.loader import batches, step_seed
from training.distribute import recompute_blocks, shard, sharding_wanted, whole
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


class NotSavedError(RuntimeError):
    """Nothing can be written any more: the disk is full, or the folder gone."""


class Trainer:
    """Trains the model of `task` as `config` says; call `resume`, then `train`."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        run, optim = config.run, config.optim
        self.config, self.task = config, task
        accelerator = Accelerator(
            mixed_precision=run.mixed_precision,
            gradient_accumulation_steps=optim.accumulate,
            kwargs_handlers=[
                # No buffer ever changes, and those of a depth head are a whole frozen decoder.
                DistributedDataParallelKwargs(
                    find_unused_parameters=bool(optim.freeze) or config.task.spares_weights, broadcast_buffers=False
                )
            ],
        )
        self.accelerator, self.device, self.rank = accelerator, accelerator.device, accelerator.process_index
        self.dataset = task.dataset(self.device)
        model = self._fresh_model()
        if run.init is not None and not list_states(run.folder / "states"):  # else it is resumed
            start_from(Path(run.init), generator_of(model), config.model, run.init_differs)
        check_parts(model, optim.freeze)
        if run.gradient_checkpointing:
            recompute_blocks(model)
        self.sharded = sharding_wanted()
        optimizer = self._shard(model) if self.sharded else self._prepare(model)
        self.trained = Trained(model, Ema(model, optim.ema, optim.ema_ramp), optimizer)
        self.folder = run.folder
        self.fingerprint = fingerprint(config, accelerator.num_processes)
        self.fingerprint |= {f"frozen.{name}": digest for name, digest in task.frozen.items()}
        self.meter = Meter(self.device)
        self.bad_steps = torch.zeros(3, device=self.device)  # in a row now, longest row, all
        self.saved_step = -1
        self.mark = (time.monotonic(), 0)  # where the measure of step time begins: clock, step
        self.log: RunLog | None = None

    def _fresh_model(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.run.seed)
            return self.task.build()

    def _prepare(self, model: nn.Module) -> SkippingOptimizer:
        """Every process holds all of the model."""
        if self.config.run.compile_model:
            model.compile()
        optimizer = SkippingOptimizer(model, self.config.optim)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        return optimizer

    def _shard(self, model: nn.Module) -> SkippingOptimizer:
        """Every process holds a part of the model; done here, since Accelerate shards on GPUs only."""
        require(
            not self.config.optim.freeze,
            "optim.freeze is not possible with sharded weights; set it to [], or let Accelerate copy them (MULTI_GPU)",
        )
        if self.config.run.compile_model:
            compile_blocks(model)
        shard(model.to(self.device), self.device)
        optimizer = SkippingOptimizer(model, self.config.optim)
        self.model = self.accelerator.prepare_model(model, evaluation_mode=True)  # mixed precision alone
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        return optimizer

    def resume(self, which: str = "auto") -> None:
        """Continue from a training state: `auto` the newest of this run if there is one, `none`, or a path.

        Raises:
            ValueError: no such state, one that does not fit this run (see `find_state`, `load_state`), or not the same
                one on every process.
        """
        state = find_state(self.folder / "states", which)
        if state is not None:
            load_state(state, self.trained, self.fingerprint, at_default(self.config))
            row, skipped = self.trained.bad_steps
            self.bad_steps += torch.tensor([row, 0, skipped], device=self.device)  # the next bad step makes row longest
            if self.accelerator.is_main_process:
                self.meter.load(self.trained.unreported)
            logger.info("resumed %s", state)
        steps = sorted(set(gather_object([self.trained.step])))
        if len(steps) > 1:
            raise ValueError(
                f"the processes found states of different steps {steps} in {self.folder}; run.output must lie on a "
                "disk that all of them share"
            )

    def train(self) -> None:
        """Run to the end of the budget, or until SIGINT or SIGTERM; what was reached is saved.

        Raises:
            TrainingDivergedError: too many skipped steps in a row.
            NotSavedError: a file could not be written; the states that were there still are.
        """
        run, processes = self.config.run, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            with self._writing():
                remove_leftovers(self.folder)
                reported = self.trained.step - bool(self.trained.unreported)  # a line of this step came after the state
                self.log = RunLog(self.folder, reported, to_dict(self.config), run.wandb)
        per_step = self.config.optim.accumulate * processes
        start, length = self.trained.step * per_step, run.steps * per_step
        source = batches(
            self.dataset, self.config.data.scenes, run.seed, start, self.rank, run.prefetch, length, processes
        )
        try:
            with stop_requests() as stop:
                stopped = self._loop(source, stop)
            self.write_log()
            self.save()
            if run.sheet_every and self.trained.step % run.sheet_every and not stopped:
                self.write_sheet()
        finally:
            source.close()
            if self.log is not None:
                with suppress(OSError):  # a full disk is reported already
                    self.log.close()
        done = "stopped" if stopped else "finished"
        logger.info("%s at step %d after %.1f minutes", done, self.trained.step, self.trained.elapsed / 60)

    def _loop(self, source: Iterator[Any], stop: threading.Event) -> bool:
        """Train; whether a stop was requested, on whichever process."""
        run, trained = self.config.run, self.trained
        began = time.monotonic() - trained.elapsed
        self.mark = (time.monotonic(), trained.step)
        while (progress := self.progress(stop)) < 1:
            self.train_step(source, progress)
            trained.elapsed = time.monotonic() - began
            if trained.step % run.log_every == 0:
                self.write_log()
            paused = time.monotonic()
            if trained.step % run.save_every == 0:
                self.save()
            if run.sheet_every and trained.step % run.sheet_every == 0:
                self.write_sheet()
            self.mark = (self.mark[0] + time.monotonic() - paused, self.mark[1])
        return progress == math.inf

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
        optim, step, processes = self.config.optim, self.trained.step, self.accelerator.num_processes
        if optim.freeze and step >= optim.freeze_after:
            freeze(self.trained.model, optim.freeze)
        self.trained.rate = rate_share(optim, step, progress)
        self.trained.optimizer.set_rate(self.trained.rate)
        logs = []
        for turn in range(step * optim.accumulate, (step + 1) * optim.accumulate):
            asked = time.monotonic()
            batch = send_to_device(next(source), self.device)
            waited = time.monotonic() - asked
            index = turn * processes + self.rank
            noise = torch.Generator(self.device).manual_seed(step_seed(self.config.run.seed, index, "noise"))
            with self.accelerator.accumulate(self.model):
                losses, extra = self.task.loss(self.model, batch, noise, progress)
                loss = losses.float().mean()
                self.accelerator.backward(loss)
            logs.append({"loss": loss.detach(), **extra, "data_s": waited})
        self.update(logs)
        self.trained.step += 1

    def update(self, logs: list[dict[str, Tensor | float]]) -> None:
        """Step and average with the gradients at hand; unless these or a loss are not finite: then nothing changes."""
        norms = self._clip()
        losses = (torch.as_tensor(values["loss"]) for values in logs)
        finite = torch.isfinite(torch.stack([*norms.values(), *losses])).all()
        bad = torch.as_tensor(self.accelerator.reduce(1 - finite.float(), "sum")).clamp(max=1)
        self.trained.optimizer.skip = bool(bad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trained.ema.update(self.trained.step, 1 - bad)
        for values in logs:
            self.meter.add({**values, **norms}, 1 - bad)
        row = (self.bad_steps[0] + 1) * bad
        self.bad_steps = torch.stack([row, torch.maximum(row, self.bad_steps[1]), self.bad_steps[2] + bad])

    def _clip(self) -> dict[str, Tensor]:
        """Limit the gradients; returns their norms under the names that are logged."""
        norms = {}
        for name, part in parts_of(self.trained.model).items():
            norm = self.accelerator.clip_grad_norm_(part.parameters(), self.config.optim.clip)
            key = "grad_norm" if not norms else f"grad_norm_{name}"
            norms[key] = whole(torch.as_tensor(norm)).to(self.device)
        return norms

    def write_log(self) -> None:
        """Report the averages since the last report; here, too, a run of bad steps is noticed."""
        values = self.meter.read()
        if not values:
            return
        now, step = time.monotonic(), self.trained.step
        seconds = (now - self.mark[0]) / max(1, step - self.mark[1])
        self.mark = (now, step)
        _, longest, skipped = (int(count) for count in self.bad_steps.tolist())
        data, optim, processes = self.config.data, self.config.optim, self.accelerator.num_processes
        values |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "step_s": seconds,
            "samples_per_s": (values.get("scenes") or data.scenes) * optim.accumulate * processes / seconds,
            "minutes": self.trained.elapsed / 60,
            "peak_memory_mib": peak_memory_mib(self.device),
        }
        if skipped:
            values["skipped"] = skipped
        if self.log is not None:
            with self._writing():
                self.log.scalars(step, values)
        if longest >= optim.max_bad_steps:
            raise TrainingDivergedError(
                f"{longest} steps in a row up to step {step} had a loss or gradient that is not finite and changed "
                f"nothing. Lower optim.lr, or look for bad values in the data"
            )

    def write_sheet(self) -> None:
        """Show what the averaged model does with held-out scenes."""
        log, model = self.log, self.trained.model
        if self.sharded:  # a whole model, which one process can run by itself
            averaged = self.trained.averaged_state(keep=log is not None)
            if log is None:
                return
            model = self._fresh_model().to(self.device)
            model.load_state_dict(averaged)
            self._write_sheet(log, model)
        elif log is not None:
            with self.trained.ema.applied():
                self._write_sheet(log, model)

    @torch.no_grad()
    def _write_sheet(self, log: RunLog, model: nn.Module) -> None:
        try:
            batch = send_to_device(self.dataset.batch(SHEET_SEED, self.config.data.scenes), self.device)
            noise = torch.Generator(self.device).manual_seed(SHEET_SEED)
            image = self.task.sheet(model.eval(), batch, noise)
        except Exception as error:  # memory and held-out scenes included: training needs no pictures
            reason = f"{type(error).__name__}: {error}"
            logger.warning("no sample sheet at step %d, training goes on (%s)", self.trained.step, reason)
            return
        finally:
            model.train()
        with self._writing():
            log.sheet(self.trained.step, image)

    def save(self) -> None:
        """Save the training state, and the averaged weights as `model.safetensors`.

        Raises:
            NotSavedError: a file could not be written; the states that were there still are.
        """
        trained, run, writes = self.trained, self.config.run, self.log is not None
        if self.saved_step == trained.step:
            return
        trained.bad_steps, trained.unreported = self.bad_steps[[0, 2]].int().tolist(), self.meter.totals()
        config = to_dict(self.config)
        recipe = {"seed": run.seed} | {name: part for name, part in config.items() if name not in ("run", "model")}
        metadata = {"step": str(trained.step), "training": json.dumps(recipe)}
        if writes or self.sharded:
            with self._writing():
                states = self.folder / "states"
                path = save_state(states, trained, config, self.fingerprint, run.keep_last, write=writes)
                weights = trained.inference_weights(keep=writes)
                if writes:
                    self.task.export(self.folder / "model.safetensors", weights, metadata)
                    logger.info("saved %s", path)
        self.saved_step = trained.step

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what a failure to write means for the run."""
        try:
            yield
        except OSError as error:
            states = list_states(self.folder / "states")
            kept = f"{states[-1]} is complete" if states else "no state was saved before"
            raise NotSavedError(
                f"stopped at step {self.trained.step}, since a file could not be written: {error}. {kept}. Free space "
                f"on that disk, or lower run.keep_last ({self.config.run.keep_last} states and one more while saving), "
                "then start the same command again; it continues from there"
            ) from error
