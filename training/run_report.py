"""What a run did, as one HTML file that opens without a network: `python training/run_report.py runs/NAME`.

Everything comes from the run's folder: figures and curves from its log, settings, and sample sheets. A run writes it at
its end; it may be written at any time.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import logging
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from PIL import Image

from scenetok_core.files import write_text
from training.charts import line_chart, readable
from training.config import flatten

logger = logging.getLogger("training")

REPORT_NAME = "report.html"
LOG_NAME = "training_log.jsonl"
CONFIG_NAME = "config.json"

Lines = Sequence[Mapping[str, float | None]]

_LAST_SHARE = 0.1  # of the log lines, over which figures are averaged
_MOST_SHEETS = 6
_LARGEST_SHEET = (2400, 6000)  # width and height in the report, in pixels
_JPEG_QUALITY = 88
_NO_CHART = ("step", "minutes")
_TITLES = {  # names that are shown with other words; those with equal titles share a chart
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "samples_per_s": "scenes per second",
    "step_s": "seconds of a step",
    "data_s": "seconds of a step",
    "peak_memory_mib": "peak memory, MiB",
    "skipped": "steps skipped so far",
}
_LINEAR = ("lr",)  # decays to zero

_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f5f6f8; --text: #1b1f24; --soft: #5c6670; --rule: #d5dae0;
  --c0: #1f6fb4; --c1: #c8520a; --c2: #23803f; --c3: #b0307c; --c4: #6b4fb3; --c5: #80650a; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --card: #1d2228; --text: #e6e9ec; --soft: #9aa5b1;
  --rule: #363e47; --c0: #6cb4f0; --c1: #ff9d5c; --c2: #6fd08c; --c3: #f28cc4; --c4: #b9a3f5; --c5: #e3c44d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 19px; margin: 36px 0 12px; } h3 { font-size: 15px; margin: 0 0 4px; }
p { color: var(--soft); margin: 4px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.tiles div { background: var(--card); border-radius: 8px; padding: 10px 14px; }
.tiles b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 16px; }
.charts section { background: var(--card); border-radius: 8px; padding: 12px 14px; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
polyline { fill: none; stroke-linejoin: round; } .line { stroke-width: 2; } .raw { stroke-width: 1; opacity: 0.35; }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.tick, .label { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; } .label { font-size: 13px; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); }
figcaption b { color: var(--text); font-weight: 600; font-variant-numeric: tabular-nums; }
figcaption i { display: inline-block; width: 14px; height: 3px; margin-right: 6px; vertical-align: middle; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 14px 3px 0; text-align: left; }
th { color: var(--soft); font-weight: 500; } tr + tr td { border-top: 1px solid var(--rule); }
td.number, th.number { text-align: right; } td code { overflow-wrap: anywhere; }
details { margin: 8px 0; } summary { cursor: pointer; padding: 4px 0; }
.sheet { overflow-x: auto; } .sheet img { display: block; max-width: none; border-radius: 6px; }
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a run and return where it is.

    Raises:
        ValueError: the folder holds no log of a run.
    """
    path = folder / REPORT_NAME
    text = _page(folder.name, read_log(folder), _settings(folder), sorted((folder / "sheets").glob("step_*.png")))
    write_text(path, text)
    return path


def read_log(folder: Path) -> Lines:
    """The lines of a run's log, in the order of steps.

    Raises:
        ValueError: there is none.
    """
    path = folder / LOG_NAME
    if not path.is_file():
        raise ValueError(f"no {LOG_NAME} in {folder}; give the folder of a run, such as runs/tiny")
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # the line that a killed session was writing
            continue
    return lines


def _settings(folder: Path) -> Mapping[str, Any]:
    """The settings of the run's last session; empty where they were not stored."""
    path = folder / CONFIG_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _page(name: str, lines: Lines, settings: Mapping[str, Any], sheets: Sequence[Path]) -> str:
    title = html.escape(f"Run {name}")
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(_what(settings))}</p>",
        _tiles(lines),
        _levels(lines),
        "<h2>Curves</h2>",
        "<p>Averages between two log lines, thin; moving averages thick. Numbers in legends are the last values.</p>",
        f'<div class="charts">{"".join(_charts(lines))}</div>',
        _sheets(sheets),
        _settings_table(settings),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _what(settings: Mapping[str, Any]) -> str:
    flat = flatten(settings)
    facts = [
        f"{noun} {flat[key]}"
        for noun, key in (("task", "task.kind"), ("model", "model.name"), ("data", "data.kind"))
        if flat.get(key) is not None
    ]
    return ", ".join(facts)


def _values(lines: Lines, name: str) -> list[float]:
    return [value for line in lines if (value := line.get(name)) is not None]


def _last(lines: Lines, name: str) -> float | None:
    """Mean of a value over the last tenth of the log, where it was measured there."""
    found = _values(lines[-max(1, round(len(lines) * _LAST_SHARE)) :], name)
    return statistics.fmean(found) if found else None


def _tiles(lines: Lines) -> str:
    last = lines[-1] if lines else {}
    speed, memory = _values(lines, "samples_per_s"), _values(lines, "peak_memory_mib")
    found = [
        ("steps", last.get("step")),
        ("minutes", last.get("minutes")),
        ("scenes per second, median", statistics.median(speed) if speed else None),
        ("MiB of memory at the peak", max(memory) if memory else None),
        ("loss, last tenth", _last(lines, "loss")),
        *((f"{_words(name)} dB, last tenth", _last(lines, name)) for name in _names(lines) if _is_psnr(name)),
        ("steps skipped", last.get("skipped")),
    ]
    tiles = (f"<div><b>{readable(value)}</b><span>{html.escape(what)}</span></div>" for what, value in found if value)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _is_psnr(name: str) -> bool:
    return name.startswith("psnr") and "/" not in name


def _names(lines: Lines) -> list[str]:
    """All names in the order of their first appearance."""
    return list(dict.fromkeys(name for line in lines for name in line))


def _levels(lines: Lines) -> str:
    """Values by noise level, over the last tenth of the log."""
    by_level = [name for name in _names(lines) if "_by_t/" in name]
    if not by_level:
        return ""
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in by_level))
    levels = sorted({name.partition("/")[2] for name in by_level})
    header = [
        _cell("noise level t", "th"),
        *(_cell(_title(kind.removesuffix("_by_t")), "th", number=True) for kind in kinds),
    ]
    rows = []
    for level in levels:
        values = [_last(lines, f"{kind}/{level}") for kind in kinds]
        numbers = ("no value" if value is None else readable(value) for value in values)
        rows.append([_cell(_level(level)), *(_cell(number, number=True) for number in numbers)])
    note = "<p>Means over the last tenth of the log; t = 1 is noise alone.</p>"
    return f"<h2>By noise level</h2>{note}{_table([header, *rows])}"


def _cell(text: str, tag: str = "td", *, number: bool = False) -> str:
    return f"<{tag}{' class=number' if number else ''}>{html.escape(text)}</{tag}>"


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "".join(["<table>", *(f"<tr>{''.join(cells)}</tr>" for cells in rows), "</table>"])


def _charts(lines: Lines) -> Iterable[str]:
    groups: dict[str, list[str]] = {}
    for name in _names(lines):
        if name not in _NO_CHART:
            groups.setdefault(_group(name), []).append(name)
    for title, names in groups.items():
        series = {
            _series_name(name): [
                (line["step"] or 0.0, value) for line in lines if (value := line.get(name)) is not None
            ]
            for name in names
        }
        chart = line_chart(series, "step", title, linear=names[0] in _LINEAR)
        if chart:
            yield f"<section><h3>{html.escape(title)}</h3>{chart}</section>"


def _group(name: str) -> str:
    """Title of the chart that a value belongs to: of its name up to the slash, or one for all PSNRs."""
    return "PSNR, dB" if _is_psnr(name) else _title(name.partition("/")[0])


def _title(name: str) -> str:
    words = _words(name).replace(" by t", " by noise level t")
    return _TITLES.get(name, f"{words}, dB" if name.startswith("psnr") else words)


def _series_name(name: str) -> str:
    _, slash, detail = name.partition("/")
    if not slash:
        return _words(name.removesuffix("_s"))
    return _level(detail) if "_by_t/" in name else _words(detail)


def _level(detail: str) -> str:
    return f"t {detail.replace('_', ' to ')}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("psnr", "PSNR")


def _sheets(paths: Sequence[Path]) -> str:
    """The last sheet, and a few earlier ones, evenly spread and folded."""
    if not paths:
        return ""
    count = min(len(paths), _MOST_SHEETS)
    chosen = [paths[round(i * (len(paths) - 1) / max(1, count - 1))] for i in range(count)]
    shown = []
    for path in reversed(chosen):
        step = int(path.stem.removeprefix("step_"))
        is_open = " open" if path == chosen[-1] else ""
        image = f'<div class="sheet"><img alt="sample sheet of step {step}" src="{_inline(path)}"></div>'
        shown.append(f"<details{is_open}><summary>step {step}</summary>{image}</details>")
    return f"<h2>Sample sheets</h2>{''.join(shown)}"


def _inline(path: Path) -> str:
    """A picture as the source of an `<img>`."""
    data = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail(_LARGEST_SHEET, Image.Resampling.LANCZOS)
        small.save(data, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _settings_table(settings: Mapping[str, Any]) -> str:
    if not settings:
        return f"<h2>Settings</h2><p>This run stored no {CONFIG_NAME}.</p>"
    parts = []
    for section, values in settings.items():
        flat = flatten(values) if isinstance(values, Mapping) else {"": values}
        rows = [
            [_cell(name), f"<td><code>{html.escape(json.dumps(value, ensure_ascii=False))}</code></td>"]
            for name, value in flat.items()
        ]
        parts.append(f"<details><summary>[{html.escape(section)}]</summary>{_table(rows)}</details>")
    return f"<h2>Settings</h2>{''.join(parts)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the report of a training run.")
    parser.add_argument("run", type=Path, help="folder of the run, such as runs/tiny")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        logger.info("wrote %s", write_report(options.run))
    except ValueError as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
