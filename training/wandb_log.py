"""Weights & Biases as a second place to log to; the package is needed only where `run.wandb` asks for it."""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from scenetok_core.files import write_text

ID_NAME = "wandb_id.txt"
_ID_LENGTH = 8  # of the random part
_NO_PART_OF_IDS = re.compile(r"[^A-Za-z0-9_.-]+")


class WandbError(RuntimeError):
    """Weights & Biases does not take the run; the message says what to do."""


def import_wandb() -> ModuleType:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ValueError(
            f"run.wandb needs the package {error.name or 'wandb'}: pip install -e '.[wandb]' in the folder of this "
            "repository, or leave run.wandb out; TensorBoard is written in any case"
        ) from error


class WandbLog:
    """Scalars and sheets of a run on Weights & Biases.

    The run's id lies in its folder, so that a resumed run goes on under the same one. Charts are drawn over the step
    that is logged with every value, since a run that was killed goes on from a step before the last one it reported.

    Args:
        folder: of the run.
        project: on Weights & Biases.
        config: settings to show there.

    Raises:
        ValueError: the package is not installed.
        WandbError: nobody is logged in, or there is no connection.
    """

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]) -> None:
        self._wandb = import_wandb()
        try:
            self._run = self._wandb.init(
                project=project,
                name=folder.name,
                id=_run_id(folder),
                resume="allow",
                dir=str(folder),
                config=dict(config),
            )
        except self._wandb.Error as error:
            raise WandbError(
                f"Weights & Biases does not take the run ({error}); log in with `wandb login`, set WANDB_MODE=offline "
                "to send it later, or leave run.wandb out"
            ) from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """The values that were measured, by name."""
        self._run.log({"step": step} | {name: value for name, value in values.items() if value is not None})

    def sheet(self, step: int, image: Image.Image) -> None:
        """One sample sheet."""
        self._run.log({"step": step, "sheet": self._wandb.Image(image)})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


def _run_id(folder: Path) -> str:
    path = folder / ID_NAME
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    name = _NO_PART_OF_IDS.sub("-", folder.name)
    found = f"{name}-{uuid.uuid4().hex[:_ID_LENGTH]}"
    write_text(path, found)
    return found
