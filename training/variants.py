"""Train variants of one run, measure each on the same rooms, and write them as a table.

`python training/variants.py training/configs/variants/rae_sizes.toml --out runs/rae_sizes` takes up where it was
interrupted: runs go on from their newest state, and variants that were measured with these settings are not again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from scenetok_core.configs import from_dict
from scenetok_core.files import write_text
from training.config import RunConfig, read_settings
from training.rate import read_figures
from training.run_report import read_log
from training.tasks import load_config

ROOT = Path(__file__).resolve().parents[1]
TABLE = "table.md"
_FIGURES = "figures.json"
_MEASURED = "measured.json"  # with which settings
_COLUMNS = {
    "parameters": ("parameters", ","),
    "KiB a scene": ("tokens_kib", ".1f"),
    "PSNR dB": ("posterior_mean_psnr", ".2f"),
    "sample dB": ("sample_psnr", ".2f"),
    "SSIM": ("posterior_mean_ssim", ".3f"),
    "gradient energy": ("posterior_mean_gradient_energy", ".2f"),
    "pose error °": ("posterior_mean_pose_error_degrees", ".1f"),
    "ms a frame": ("seconds_per_frame_posterior_mean", ".1f"),
}
_MILLISECONDS = {"seconds_per_frame_posterior_mean"}

Run = Callable[[Sequence[str]], int]  # a script of training/ and its arguments -> exit status


@dataclass(frozen=True)
class Variant:
    """One run."""

    name: str  # as the table calls it
    set: tuple[str, ...] = ()  # settings a.b=value

    @property
    def folder(self) -> str:
        """What the folder of its run is called."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Variants:
    """Runs that differ in a few settings."""

    base: str  # TOML file of a run, from the repository's folder
    variants: tuple[Variant, ...]
    set: tuple[str, ...] = ()  # settings of all of them
    scenes: int = 24  # rooms of the protocol that each is measured on

    def __post_init__(self) -> None:
        if not self.variants or self.scenes < 1:
            raise ValueError(f"variants and scenes must be one or more, got {len(self.variants)} and {self.scenes}")
        folders = [variant.folder for variant in self.variants]
        if len(frozenset(folders)) < len(folders) or "" in folders:
            names = ", ".join(variant.name for variant in self.variants)
            raise ValueError(f"names of variants must differ in letters and numbers, got {names}")

    def settings(self, variant: Variant, out: Path) -> list[str]:
        """All settings of a variant, whose run lies in its folder in `out`."""
        return [*self.set, *variant.set, f'run.name="{variant.folder}"', f"run.output={json.dumps(str(out))}"]


def train_and_measure(variants: Variants, out: Path, run: Run) -> dict[str, dict[str, Any]]:
    """The figures of all variants by name; those that are there already are read.

    Raises:
        ValueError: settings that do not fit, told before any work, or a step that failed.
    """
    base, found = ROOT / variants.base, {}
    for variant in variants.variants:
        load_config(base, variants.settings(variant, out))
    for variant in variants.variants:
        folder = out / variant.folder
        figures, noted = folder / _FIGURES, folder / _MEASURED
        wanted = {"base": variants.base, "set": [*variants.set, *variant.set], "scenes": variants.scenes}
        if not (figures.is_file() and noted.is_file() and json.loads(noted.read_text(encoding="utf-8")) == wanted):
            settings = [part for setting in variants.settings(variant, out) for part in ("--set", setting)]
            _step(run, variant, ["train.py", "--config", str(base), *settings])
            _require_end(folder, load_config(base, variants.settings(variant, out)).run, variant)
            measure = ["--checkpoint", str(folder / "model.safetensors"), "--scenes", str(variants.scenes)]
            _step(run, variant, ["evaluate.py", "--config", "tiny", *measure, "--json", str(figures)])
            write_text(noted, json.dumps(wanted, indent=2) + "\n")
        found[variant.name] = read_figures(figures)
    return found


def _step(run: Run, variant: Variant, arguments: Sequence[str]) -> None:
    status = run(arguments)
    if status:
        raise ValueError(
            f"{arguments[0]} of variant {variant.name!r} ended with status {status}; what it printed says why"
        )


def _require_end(folder: Path, run: RunConfig, variant: Variant) -> None:
    """Raise `ValueError` if training was stopped before its end, which is no failure of its own."""
    last = read_log(folder)[-1]
    if last["step"] < run.steps and (run.minutes is None or last["minutes"] < run.minutes):
        raise ValueError(
            f"training of variant {variant.name!r} was stopped at step {last['step']:.0f} of {run.steps}; the same "
            "command goes on"
        )


def as_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row for each variant; its columns are what was measured of all."""
    columns = {
        title: (key, form) for title, (key, form) in _COLUMNS.items() if all(key in row for row in found.values())
    }
    rows = [["", *columns], ["---", *["--:"] * len(columns)]]
    for name, figures in found.items():
        values = [(figures[key] * (1000 if key in _MILLISECONDS else 1), form) for key, form in columns.values()]
        rows.append([name, *(format(value, form) for value, form in values)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def _run_script(arguments: Sequence[str]) -> int:
    script, *rest = arguments
    with subprocess.Popen([sys.executable, str(ROOT / "training" / script), *rest]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the script has it, too, and saves
            process.wait()
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Train and measure variants of a run, and compare them.")
    parser.add_argument("variants", type=Path, help="TOML file, such as training/configs/variants/rae_sizes.toml")
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs, their figures and the table")
    options = parser.parse_args(arguments)
    try:
        variants = from_dict(Variants, read_settings(options.variants))
        table = as_table(train_and_measure(variants, options.out.resolve(), _run_script))
        write_text(options.out / TABLE, table)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
