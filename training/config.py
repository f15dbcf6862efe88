"""The settings of a training run: one TOML file, read strictly into frozen dataclasses.

What a task adds to them stands in its module in `training/tasks/`. A resumed run must agree with its checkpoint in
everything that `fingerprint` returns; the rest (length, learning rate, logging) may change between sessions of one run.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scenetok_core.configs import StoredConfig, require, to_dict
from scenetok_core.files import check_portable
from training.data.rooms import RoomsConfig
from training.data.source import VideoDataConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MUST_MATCH = ("model.", "data.", "task.", "run.seed", "optim.betas", "optim.muon_except")
_NUMBER = re.compile(r"\.\d+\.")  # of a table in a list
BATCHES = "optim.accumulate times processes"
MUON = "optim.muon_lr is set"  # the rate itself may change
_MAY_CHANGE = (
    "model.sampling.",  # training does not sample
    "task.scene_checkpoint",  # weights and data count, not where they lie
    "data.videos.root",
    "data.videos.target_root",
    "data.videos.depth.root",
    "data.videos.sets.root",
    "data.videos.sets.depth.root",
    "data.videos.workers",  # a batch follows from its seed alone
)


@dataclass(frozen=True)
class RunConfig:
    """Name, length and bookkeeping of a run. Everything it writes lies under `output/name`."""

    name: str
    steps: int  # optimiser steps of the whole run
    output: str = "runs"
    init: str | None = None  # checkpoint with whose weights the run starts; its networks must be those of [model]
    init_differs: tuple[str, ...] = ()  # settings of the networks that may differ there, such as "compressor.tokens"
    autoencoders: str = "models/scenetok"  # folder with the published weights of autoencoders
    seed: int = 0  # decides weights at the start, data and noise of every step
    wandb: str | None = None  # project on Weights & Biases that is logged to as well (needs the extra `wandb`)
    minutes: float | None = None  # wall clock over all sessions; the run ends here or at `steps`, whichever comes
    # first. The learning rate and what a task changes in the course of a run then follow the clock, so only runs
    # without it can be repeated exactly. Batches follow the steps, and so does the gap between the views of videos.
    log_every: int = 20  # steps
    save_every: int = 500  # steps
    sheet_every: int = 500  # steps between sample sheets; 0: none
    keep_last: int = 2  # training states kept
    mixed_precision: Literal["no", "bf16"] = "bf16"
    threads: int | None = None  # CPU threads of torch; None: its default
    prefetch: int = 0  # batches prepared ahead by a thread; helps when the CPU makes data for a GPU
    gradient_checkpointing: bool = (
        False  # blocks keep only their inputs and compute the rest twice: less memory, slower
    )
    compile_model: bool = False  # fuse the model with torch.compile
    compile_rooms: bool = False  # fuse the ray kernels that make the data

    def __post_init__(self) -> None:
        check_portable(self.name, "run.name")
        require(self.steps > 0, f"run.steps must be positive, got {self.steps}")
        require(self.minutes is None or self.minutes > 0, f"run.minutes must be positive, got {self.minutes}")
        counts = (self.log_every, self.save_every, self.keep_last)
        require(min(counts) > 0, f"run.log_every, save_every and keep_last must be >= 1, got {counts}")
        require(self.wandb != "", "run.wandb must name a project, got ''; leave it out to log to TensorBoard alone")
        require(self.init is not None or not self.init_differs, "run.init_differs needs run.init, a checkpoint")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.output) / self.name


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its schedule (warm-up, constant, decay to zero) and the average of the weights."""

    lr: float = 8e-4  # of AdamW
    muon_lr: float | None = None  # of Muon, which then trains the matrices inside the network; None: AdamW trains all
    muon_except: tuple[str, ...] = ("embed", "final_layer", "adaLN")  # parts of names of matrices left to AdamW
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05  # on matrices only
    warmup: int = 500  # steps
    decay_share: float = 0.3  # last part of the run, in which the rate falls to zero
    decay_shape: Literal["linear", "cosine"] = "linear"
    milestones: tuple[int, ...] = ()  # steps from each of which on the rate is multiplied by milestone_factor
    milestone_factor: float = 0.4
    freeze: tuple[str, ...] = ()  # weights whose names begin like this are trained no more ...
    freeze_after: int = 0  # ... after so many steps
    clip: float = 1.0  # largest gradient norm
    accumulate: int = 1  # batches per optimiser step and process
    ema: float = 0.9995
    ema_ramp: float = 10.0  # decay at step s is at most (1 + s) / (ramp + s)
    max_bad_steps: int = 20  # skipped steps in a row that end the run

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optim.lr must be positive, got {self.lr}")
        require(self.muon_lr is None or self.muon_lr > 0, f"optim.muon_lr must be positive, got {self.muon_lr}")
        require(0 <= self.decay_share <= 1, f"optim.decay_share must lie in [0, 1], got {self.decay_share}")
        require(0 <= self.ema < 1, f"optim.ema must lie in [0, 1), got {self.ema}")
        require(self.warmup >= 0 and self.clip > 0, f"optim.warmup {self.warmup} or clip {self.clip} is negative or 0")
        require(
            self.milestone_factor > 0 and min((self.freeze_after, *self.milestones)) >= 0,
            f"optim.milestone_factor must be positive, milestones and freeze_after >= 0; got {self.milestone_factor}, "
            f"{self.milestones} and {self.freeze_after}",
        )
        require(min(self.accumulate, self.max_bad_steps) > 0, "optim.accumulate and optim.max_bad_steps must be >= 1")


@dataclass(frozen=True)
class DataConfig:
    """What a batch holds, and where it comes from."""

    scenes: int = 8  # per process and batch
    context_views: int = 8
    target_views: int = 4
    rooms: RoomsConfig = field(default_factory=RoomsConfig)
    kind: Literal["rooms", "videos"] = "rooms"  # the source: procedural rooms, or the data set that `videos` names
    videos: VideoDataConfig | None = None

    def __post_init__(self) -> None:
        counts = (self.scenes, self.context_views, self.target_views)
        require(min(counts) > 0, f"data.scenes, context_views and target_views must be >= 1, got {counts}")
        require(
            self.kind != "rooms" or self.context_views <= self.rooms.views,
            f"data.rooms.views {self.rooms.views} are too few for {self.context_views} inputs",
        )
        require(
            (self.kind == "videos") == (self.videos is not None),
            f"data.kind is {self.kind!r}: a table [data.videos] belongs to kind 'videos', and to no other",
        )
        require(
            self.videos is None or self.videos.views.context_views == self.context_views,
            f"data.context_views is {self.context_views}, data.videos.views.context_views is "
            f"{self.videos and self.videos.views.context_views}; they must agree",
        )

    @property
    def image_size(self) -> int:
        """Side of the source's pictures, in pixels."""
        return self.rooms.image_size if self.videos is None else self.videos.image_size


@dataclass(frozen=True)
class TaskConfig:
    """What the settings of every task have; each task has its own class of them."""

    kind: str = "scenetok"  # the task, a name in `training.tasks.TASKS`

    @property
    def spares_weights(self) -> bool:
        """Whether some steps give some weights no gradient, so that several processes must look which ones."""
        return False


@dataclass(frozen=True)
class TrainConfig:
    """A complete run; every task has its own class, in which `model` and `task` have the types that it needs."""

    run: RunConfig
    model: StoredConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    @property
    def picture_size(self) -> int | None:
        """Side in pixels that the model wants of the source's square pictures; None: any."""
        return getattr(self.model, "image_size", None)

    def __post_init__(self) -> None:
        sizes = (self.data.image_size, self.picture_size or self.data.image_size)
        require(len(set(sizes)) == 1, f"data.{self.data.kind} and model must agree on image_size, got {sizes}")
        require(
            self.run.minutes is None or self.data.videos is None or not self.data.videos.views.widens,
            f"data.videos.views.first_gap and first_margin widen over a share of run.steps, {self.run.steps} of them, "
            f"however soon run.minutes = {self.run.minutes} ends the run; leave out run.minutes, or set "
            "data.videos.views.warm_up = 0",
        )


def read_settings(path: Path | str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a run's TOML file with `a.b=value` overrides applied; see `training.tasks.load_config`.

    Raises:
        ValueError: no such file, broken TOML, or an override that is none.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no configuration file {path}; see training/configs/")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no valid TOML: {error}") from error
    for override in overrides:
        _apply(data, override)
    return data


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
    """A TOML value; a bare word is a string, so that a shell needs no double quoting."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted keys; those in a list are numbered from 0."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            value = {str(i): table for i, table in enumerate(value)}
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def fingerprint(config: TrainConfig, processes: int = 1) -> dict[str, Any]:
    """The settings (dotted, JSON-able) that a resumed run must share with its checkpoint.

    The number of processes may change as long as a step takes as many batches as before.
    """
    plain = json.loads(json.dumps(to_dict(config)))  # tuples become lists, as in a stored fingerprint
    settings = flatten(plain)
    kept = {key: settings[key] for key in settings if key.startswith(_MUST_MATCH) and not may_change(key)}
    return kept | {BATCHES: config.optim.accumulate * processes, MUON: config.optim.muon_lr is not None}


def may_change(name: str) -> bool:
    """Whether a setting, by its dotted name, may change between sessions although others of its table may not."""
    return _NUMBER.sub(".", name).startswith(_MAY_CHANGE)


def at_default(config: object, prefix: str = "") -> set[str]:
    """Dotted names of the settings that have their default; states that were saved before there were any lack them.

    So the default of a new setting must be what the program did without it.
    """
    names: set[str] = set()
    for part in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, part.name)
        if dataclasses.is_dataclass(value):
            names |= at_default(value, f"{prefix}{part.name}.")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for i, each in enumerate(value):
                names |= at_default(each, f"{prefix}{part.name}.{i}.")
        elif value == (part.default if part.default_factory is dataclasses.MISSING else part.default_factory()):
            names.add(f"{prefix}{part.name}")
    return names
