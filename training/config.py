"""The settings of a training run: one TOML file, read strictly into frozen dataclasses.

A resumed run must agree with its checkpoint in everything that `fingerprint` returns; the rest (length, learning rate,
logging) may change between sessions of one run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scenetok_core.configs import SceneTokConfig, from_dict, to_dict
from training.data.rooms import RoomsConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MUST_MATCH = ("model.", "data.", "task.", "run.seed", "optim.accumulate", "optim.betas")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class RunConfig:
    """Name, length and bookkeeping of a run. Everything it writes lies under `output/name`."""

    name: str
    steps: int  # optimiser steps of the whole run
    output: str = "runs"
    seed: int = 0  # decides weights at the start, data and noise of every step
    minutes: float | None = None  # wall clock over all sessions; the run ends here or at `steps`, decayed in time
    log_every: int = 20  # steps
    save_every: int = 500  # steps
    sheet_every: int = 500  # steps between sample sheets; 0: none
    keep_last: int = 2  # training states kept
    mixed_precision: Literal["no", "bf16"] = "bf16"
    threads: int | None = None  # CPU threads of torch; None: its default
    prefetch: int = 0  # batches prepared ahead by a thread; helps when the CPU makes data for a GPU
    compile_model: bool = False  # fuse the model with torch.compile
    compile_rooms: bool = False  # fuse the ray kernels that make the data

    def __post_init__(self) -> None:
        _require(self.steps > 0, f"run.steps must be positive, got {self.steps}")
        _require(self.minutes is None or self.minutes > 0, f"run.minutes must be positive, got {self.minutes}")
        counts = (self.log_every, self.save_every, self.keep_last)
        _require(min(counts) > 0, f"run.log_every, save_every and keep_last must be >= 1, got {counts}")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.output) / self.name


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, its schedule (warm-up, constant, decay to zero) and the average of the weights."""

    lr: float = 8e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05  # on matrices only
    warmup: int = 500  # steps
    decay_share: float = 0.3  # last part of the run, in which the rate falls to zero
    decay_shape: Literal["linear", "cosine"] = "linear"
    clip: float = 1.0  # largest gradient norm
    accumulate: int = 1  # batches per optimiser step
    ema: float = 0.9995
    ema_ramp: float = 10.0  # decay at step s is at most (1 + s) / (ramp + s)
    max_bad_steps: int = 20  # skipped steps in a row that end the run

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"optim.lr must be positive, got {self.lr}")
        _require(0 <= self.decay_share <= 1, f"optim.decay_share must lie in [0, 1], got {self.decay_share}")
        _require(0 <= self.ema < 1, f"optim.ema must lie in [0, 1), got {self.ema}")
        _require(min(self.accumulate, self.max_bad_steps) > 0, "optim.accumulate and optim.max_bad_steps must be >= 1")


@dataclass(frozen=True)
class DataConfig:
    """What a batch holds."""

    scenes: int = 8  # per process and batch
    context_views: int = 8
    target_views: int = 4
    image_size: int = 64  # pixels, side of the square pictures
    rooms: RoomsConfig = field(default_factory=RoomsConfig)

    def __post_init__(self) -> None:
        counts = (self.scenes, self.context_views, self.target_views, self.image_size)
        _require(min(counts) > 0, f"data.scenes, context_views, target_views, image_size must be >= 1, got {counts}")


@dataclass(frozen=True)
class TaskConfig:
    """How the compressor and the decoder are trained together."""

    mean_share: float = 0.4  # first share of the run with all targets at t = 1: plain regression from tokens and pose
    mean_fraction: float = 0.25  # of the targets at t = 1 after that
    time_mean: float = 1.0  # the other times are sigmoid(N(mean, std))
    time_std: float = 1.0
    split_times: float = 0.3  # probability that two groups of targets have noise levels of their own
    far_share: float = 0.8  # of the batches has targets away from the inputs, once this share of the run is done:
    far_from: float = 0.3  # before, the share grows from zero
    least_context: int = 1  # input views of a batch vary from here to data.context_views, reached at the same time
    loss_weight_cap: float = 5.0  # squared error is weighted min(1 / t^2, cap)
    gradient_weight: float = 0.1  # of the L1 loss between picture gradients
    token_drop: float = 0.3  # probability that a scene keeps only some of its tokens
    token_keep: float = 0.25  # smallest share kept then
    token_noise: float = 0.0  # largest standard deviation of noise on tokens in the second half
    reference: Literal["random", "middle"] = "random"  # the input view that becomes the origin
    scale_range: tuple[float, float] = (0.7, 1.4)  # random factor on the scene scale

    def __post_init__(self) -> None:
        shares = (self.mean_share, self.mean_fraction, self.token_drop, self.token_keep)
        _require(all(0 <= share <= 1 for share in shares), f"the shares of [task] must lie in [0, 1], got {shares}")
        low, high = self.scale_range
        _require(0 < low <= high, f"task.scale_range must rise from above 0, got {self.scale_range}")


@dataclass(frozen=True)
class TrainConfig:
    """A complete run."""

    run: RunConfig
    model: SceneTokConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    def __post_init__(self) -> None:
        data, model = self.data, self.model
        sizes = (data.image_size, data.rooms.image_size, model.image_size)
        _require(len(set(sizes)) == 1, f"data, data.rooms and model must agree on image_size, got {sizes}")
        _require(
            data.context_views <= model.context_views,
            f"data.context_views {data.context_views} is more than model.context_views {model.context_views}",
        )
        _require(
            data.context_views <= data.rooms.views
            and data.context_views + data.target_views <= data.rooms.views + data.rooms.strays,
            f"data.rooms.views {data.rooms.views} and strays {data.rooms.strays} are too few for "
            f"{data.context_views} inputs and {data.target_views} targets",
        )


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a run's TOML file and apply `a.b=value` overrides.

    Raises:
        ValueError: no such file, broken TOML, an unknown or missing setting, a value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no configuration file {path}; see training/configs/")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no valid TOML: {error}") from error
    for override in overrides:
        _apply(data, override)
    return from_dict(TrainConfig, data)


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ValueError(f"an override has the form section.name=value, got {override!r}")
    *sections, name = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ValueError(f"override {override!r}: {section} is a value, not a section")
    data[name] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    """A TOML value; a bare word is a string and `none` is None, so that a shell needs no double quoting."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """The settings (dotted, JSON-able) that a resumed run must share with its checkpoint."""
    plain = json.loads(json.dumps(to_dict(config)))  # tuples become lists, as in a stored fingerprint
    return {key: value for key, value in flatten(plain).items() if key.startswith(_MUST_MATCH)}
