"""What a run tells: console, TensorBoard, `training_log.jsonl` and where asked Weights & Biases; and its averages."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from scenetok_core.files import write_text
from scenetok_core.pictures.sheets import save_image
from training.run_report import CONFIG_NAME, LOG_NAME, write_report
from training.wandb_log import WandbLog

logger = logging.getLogger("training")


class Meter:
    """Averages of scalars over accepted steps, kept on the device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(
        self,
        values: Mapping[str, Tensor | float],
        accept: Tensor,  # [] 0 or 1
    ) -> None:
        """Count the scalars of one step, or ignore them where `accept` is 0; NaN (nothing to measure) is left out."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
            zero = torch.zeros((), device=self.device)
            counts = (accept > 0) & torch.isfinite(value)
            self._sums[name] = self._sums.get(name, zero) + torch.where(counts, value, zero)
            self._counts[name] = self._counts.get(name, zero) + counts

    def totals(self) -> dict[str, list[float]]:
        """Sum and count of every scalar since the last report, over all processes; all of them must call this."""
        sums = torch.stack([*self._sums.values(), *self._counts.values()]).tolist() if self._sums else []
        mine = dict(zip(self._sums, zip(sums, sums[len(self._sums) :], strict=False), strict=True))
        merged: dict[str, list[float]] = {}
        for totals in gather_object([mine]):
            for name, (total, count) in totals.items():
                before = merged.get(name, (0.0, 0.0))
                merged[name] = [before[0] + total, before[1] + count]
        return merged

    def load(self, totals: Mapping[str, Sequence[float]]) -> None:
        """Go on from saved totals, on one of the processes."""
        for name, pair in totals.items():
            self._sums[name], self._counts[name] = torch.tensor(pair, device=self.device).unbind()

    def read(self) -> dict[str, float | None]:
        """The averages over all processes since the last call (None where every step was skipped)."""
        totals = self.totals()
        self._sums, self._counts = {}, {}
        return {name: total / count if count else None for name, (total, count) in totals.items()}


class RunLog:
    """Writes the settings, scalars and pictures of a run under `folder`, and when it is closed the run's report.

    A resumed run drops what an interrupted session logged beyond `first_step`. With a `wandb` project the same goes to
    Weights & Biases, with the settings `config`.

    Raises:
        ValueError: that package is not installed.
        WandbError: nobody is logged in there, or there is no connection.
    """

    def __init__(self, folder: Path, first_step: int, config: Mapping[str, Any], wandb: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._wandb = None if wandb is None else WandbLog(folder, wandb, config)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        write_text(folder / CONFIG_NAME, json.dumps(config, indent=1))
        path = folder / LOG_NAME
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= first_step]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """One log line; the console leaves out details, whose names have a slash."""
        self._file.write(json.dumps({"step": step} | {name: _rounded(value) for name, value in values.items()}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.scalars(step, values)
        shown = (f"{name} {_readable(value)}" for name, value in values.items() if "/" not in name)
        logger.info("step %d  %s", step, "  ".join(shown))

    def sheet(self, step: int, image: Image.Image) -> None:
        """One sample sheet, as `sheets/step_XXXXXX.png` and in TensorBoard."""
        save_image(self.folder / "sheets" / f"step_{step:06d}.png", image)
        self._writer.add_image("sheet", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        if self._wandb is not None:
            self._wandb.sheet(step, image)

    def close(self) -> None:
        """Flush and close the files, and write the report from them."""
        self._file.close()
        self._writer.close()
        if self._wandb is not None:
            self._wandb.close()
        logger.info("wrote %s", write_report(self.folder))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the line a killed session was writing
        return float("inf")


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _readable(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
