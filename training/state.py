"""Training states: one safetensors file per save, complete or absent, from which a run resumes bit-exactly.

Tensors are named `model.<key>`, `ema.<parameter>` and `optimizer.<quantity>.<parameter>`; step, elapsed time, what the
next log line averages, configuration and fingerprint are JSON in the metadata. No random state is needed, since data
and noise follow from seed and step. Weights that are sharded over processes are put together: the file is the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scenetok_core.weights.checkpoints import read_tensors, write_tensors
from training.config import BATCHES, MUON, may_change
from training.distribute import placed_like, whole
from training.ema import Ema
from training.optim import SkippingOptimizer

FORMAT = "scenetok-training-1"
_COUNTERS = ("step", "elapsed", "rate", "bad_steps", "unreported")
Settings = Mapping[str, Any]


@dataclass
class Trained:
    """The parts of a run that training changes."""

    model: nn.Module
    ema: Ema
    optimizer: SkippingOptimizer
    step: int = 0  # optimiser steps done
    elapsed: float = 0.0  # seconds, over all sessions
    rate: float = 1.0  # share of the full learning rate in the last step
    bad_steps: list[int] = field(default_factory=lambda: [0, 0])  # skipped: in a row now, all
    unreported: dict[str, list[float]] = field(default_factory=dict)  # see `training.log.Meter.totals`

    def tensors(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Every tensor, whole and copied to the CPU; all processes must call this where weights are sharded.

        Those that do not `keep` the tensors get none.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.average.items()}
        for name, weight in self.ema.weights.items():
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self.optimizer.state[weight].items()}
        return _gathered(tensors, keep)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        state = self.model.state_dict()
        saved = _below("model.", tensors)
        placed = {name: placed_like(value, state[name]) if name in state else value for name, value in saved.items()}
        self.model.load_state_dict(placed, strict=True)
        self.ema.load(_below("ema.", tensors))
        for weight in self.ema.weights.values():
            self.optimizer.state[weight].clear()
        for name, value in _below("optimizer.", tensors).items():
            key, _, parameter = name.partition(".")
            weight = self.ema.weights[parameter]
            value = value.clone()  # else the file stays open, and Windows deletes no open file
            moment = value.shape == weight.shape  # else a counter, which is never sharded
            self.optimizer.state[weight][key] = placed_like(value, weight) if moment else value.to(weight.device)

    def averaged_state(self, *, keep: bool = True) -> dict[str, Tensor]:
        """The model's state with averaged weights, whole and on the CPU; called and kept as `tensors`."""
        return _gathered({**self.model.state_dict(), **self.ema.average}, keep)

    def inference_weights(self, *, keep: bool = True) -> dict[str, Tensor]:
        """The averaged state with what is trained in bfloat16; called and kept as `tensors`."""
        state = self.averaged_state(keep=keep)
        return {name: value.bfloat16() if name in self.ema.average else value for name, value in state.items()}


def _gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    gathered = ((name, whole(value.detach())) for name, value in tensors.items())  # one after the other
    return {name: value.to("cpu", copy=True).contiguous() for name, value in gathered if keep}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_state(
    folder: Path, trained: Trained, config: Settings, fingerprint: Settings, keep: int, *, write: bool = True
) -> Path:
    """Save as `folder/step_XXXXXXXX.safetensors`, then remove all but the newest `keep` states.

    Where weights are sharded, all processes must call this, and one of them does `write`.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the states that were there still are.
    """
    path = folder / f"step_{trained.step:08d}.safetensors"
    tensors = trained.tensors(keep=write)
    if not write:
        return path
    counters = {name: getattr(trained, name) for name in _COUNTERS}
    parts = {"counters": counters, "config": config, "fingerprint": fingerprint}
    metadata = {"format": FORMAT} | {name: json.dumps(part) for name, part in parts.items()}
    write_tensors(path, tensors, metadata)
    for old in [*list_states(folder)[:-keep], *folder.glob(".step_*.partial")]:  # partial: of a killed session
        old.unlink()
    return path


def list_states(folder: Path) -> list[Path]:
    """The training states in `folder`, oldest step first."""
    return sorted(folder.glob("step_*.safetensors"))


def find_state(folder: Path, resume: str) -> Path | None:
    """The state to continue from: `auto` the newest or none, `none` none, else a path.

    Raises:
        ValueError: the path does not exist, or the run already holds states that the new ones would mix with.
    """
    states = list_states(folder)
    if resume == "auto":
        return states[-1] if states else None
    if resume == "none":
        if states:
            raise ValueError(f"{folder} holds {states[-1].name}; resume it, remove it, or set another run.name")
        return None
    path = Path(resume)
    if not path.is_file():
        raise ValueError(f"no training state {path}; --resume takes auto, none or the path of a step_*.safetensors")
    newer = [state for state in states if state.name > path.name]
    if newer:
        raise ValueError(f"{folder} holds newer states up to {newer[-1].name}; remove them or set another run.name")
    return path


def load_state(path: Path, trained: Trained, fingerprint: Settings, may_lack: Collection[str] = ()) -> None:
    """Continue from a saved state.

    Args:
        path: of the state.
        trained: takes it over.
        fingerprint: settings that must be those of the state.
        may_lack: those that a state need not have, see `config.at_default`.

    Raises:
        ValueError: damaged, not a training state, or one of a run with other settings; the message names them.
    """
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; if it cannot be had, delete it: the run then resumes from the state before it"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no training state of this version (format {metadata.get('format')!r})")
    saved = _as_today(json.loads(metadata["fingerprint"]))
    lacks = {key for key in may_lack if key not in saved}
    _check_fingerprint(path, saved, {key: value for key, value in fingerprint.items() if key not in lacks})
    trained.load_tensors(tensors)
    for name, value in json.loads(metadata["counters"]).items():  # earlier states have fewer
        setattr(trained, name, value)
    trained.optimizer.set_rate(trained.rate)


def _as_today(saved: Settings) -> Settings:
    """A fingerprint of an earlier version as it would be now.

    It held Muon's rate and where data lay. It told accumulated batches and processes apart, too; states of several
    processes keep that and so fit no run of today: each process drew batches of its own.
    """
    today = {key: value for key, value in saved.items() if not may_change(key)}
    today.setdefault(MUON, today.pop("optim.muon_lr", None) is not None)
    if today.get("processes") == 1:
        del today["processes"]
        today[BATCHES] = today.pop("optim.accumulate")
    return today


def _check_fingerprint(path: Path, saved: Settings, wanted: Settings) -> None:
    different = [key for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
    if different:
        lines = [f"{key}: saved {saved.get(key)!r}, now {wanted.get(key)!r}" for key in different[:8]]
        more = f" and {len(different) - 8} more" if len(different) > 8 else ""
        raise ValueError(
            f"{path} was trained with other settings ({'; '.join(lines)}{more}); restore them or set another run.name"
        )
