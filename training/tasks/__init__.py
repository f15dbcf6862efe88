"""What can be trained: a task is one module here and one line of `TASKS`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from scenetok_core.configs import from_dict, require
from training.config import TrainConfig, read_settings
from training.tasks.base import Task
from training.tasks.depth import DepthTask
from training.tasks.dit3d import Dit3dTask
from training.tasks.rae import RaeTask
from training.tasks.scenegen import SceneGenTask
from training.tasks.scenetok import SceneTokTask

__all__ = [
    "TASKS",
    "DepthTask",
    "Dit3dTask",
    "RaeTask",
    "SceneGenTask",
    "SceneTokTask",
    "Task",
    "build_task",
    "load_config",
]


class _TaskClass(Protocol):
    @property
    def config_class(self) -> type[TrainConfig]: ...

    def __call__(self, config: Any) -> Task: ...


# By task.kind.
TASKS: Mapping[str, _TaskClass] = {
    "scenetok": SceneTokTask,
    "scenegen": SceneGenTask,
    "depth": DepthTask,
    "rae": RaeTask,
    "dit3d": Dit3dTask,
}


def load_config(path: Path | str, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a run's TOML file and apply `a.b=value` overrides; `task.kind` decides which settings there are.

    Raises:
        ValueError: no such file, broken TOML, an unknown or missing setting, a value of the wrong type, or settings
            that do not fit together.
    """
    data = read_settings(path, overrides)
    section = data.get("task", {})
    kind = section.get("kind", "scenetok") if isinstance(section, Mapping) else None
    require(kind in list(TASKS), f"setting task.kind must be one of {list(TASKS)}, got {kind!r}")
    return from_dict(TASKS[kind].config_class, data)  # type: ignore[index]


def build_task(config: TrainConfig) -> Task:
    """The task of a run, with the frozen parts it needs loaded.

    Raises:
        ValueError: weights are missing, or models and data do not fit together.
    """
    return TASKS[config.task.kind](config)
