"""Training states: one safetensors file per save, complete or absent, from which a run resumes bit-exactly.

Tensors are named `model.<key>`, `ema.<parameter>` and `optimizer.<quantity>.<parameter>`; step, elapsed time,
configuration and fingerprint are JSON in the metadata. No random state is needed, since data and
noise follow from seed and step.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scenetok_core.checkpoints import read_tensors, write_tensors
from training.ema import Ema
from training.optim import SkippingOptimizer

FORMAT = "scenetok-training-1"
Settings = Mapping[str, Any]


@dataclass
class Trained:
    """The parts of a run that training changes."""

    model: nn.Module
    ema: Ema
    optimizer: SkippingOptimizer
    step: int = 0  # optimiser steps done
    elapsed: float = 0.0  # seconds, over all sessions

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, copied to the CPU."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.average.items()}
        for name, weight in self.ema.weights.items():
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self.optimizer.state[weight].items()}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        self.model.load_state_dict(_below("model.", tensors), strict=True)
        self.ema.load(_below("ema.", tensors))
        for weight in self.ema.weights.values():
            self.optimizer.state[weight].clear()
        for name, value in _below("optimizer.", tensors).items():
            key, _, parameter = name.partition(".")
            weight = self.ema.weights[parameter]
            self.optimizer.state[weight][key] = value.to(weight.device)

    def inference_weights(self) -> dict[str, Tensor]:
        """The model's state with averaged weights, on the CPU, weights in bfloat16."""
        state = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        return state | {name: value.to("cpu", torch.bfloat16) for name, value in self.ema.average.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_state(folder: Path, trained: Trained, config: Settings, fingerprint: Settings, keep: int) -> Path:
    """Save as `folder/step_XXXXXXXX.safetensors` and remove all but the newest `keep` states."""
    path = folder / f"step_{trained.step:08d}.safetensors"
    counters = {"step": trained.step, "elapsed": trained.elapsed}
    parts = {"counters": counters, "config": config, "fingerprint": fingerprint}
    metadata = {"format": FORMAT} | {name: json.dumps(part) for name, part in parts.items()}
    write_tensors(path, trained.tensors(), metadata)
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
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no training state of this version (format {metadata.get('format')!r})")
    saved = json.loads(metadata["fingerprint"])
    lacks = {key for key in may_lack if key not in saved}
    _check_fingerprint(path, saved, {key: value for key, value in fingerprint.items() if key not in lacks})
    trained.load_tensors(tensors)
    counters = json.loads(metadata["counters"])
    trained.step, trained.elapsed = counters["step"], counters["elapsed"]


def _check_fingerprint(path: Path, saved: Settings, wanted: Settings) -> None:
    different = [key for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
    if different:
        lines = [f"{key}: saved {saved.get(key)!r}, now {wanted.get(key)!r}" for key in different[:8]]
        more = f" and {len(different) - 8} more" if len(different) > 8 else ""
        raise ValueError(
            f"{path} was trained with other settings ({'; '.join(lines)}{more}); restore them or set another run.name"
        )
