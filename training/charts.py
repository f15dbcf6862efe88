"""Line charts as SVG text, for pages that must open without a network or further files."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

Points = Sequence[tuple[float, float]]

COLOURS = 6  # custom properties --c0 to --c5 of the page; further series begin again

_WIDTH, _HEIGHT = 600, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 14, 12, 44
_TICKS = 5  # about so many on an axis
_LOG_RATIO = 20.0  # axes of positive values that span more than this are logarithmic
_LOG_HEADROOM = 1.1
_MOST_POINTS = 400  # of a series; neighbours are averaged
_SMOOTHED_FROM = 50  # points, from which on a moving average is drawn over them
_SMOOTHING = 25  # windows of the moving average over the whole chart
_LEGEND_ROW = 18
_STYLE = (
    ":root{color-scheme:light dark;--ground:#fff;--soft:#5c6670;--rule:#d5dae0;"
    "--c0:#1f6fb4;--c1:#c8520a;--c2:#23803f;--c3:#b0307c;--c4:#6b4fb3;--c5:#80650a}"
    "@media(prefers-color-scheme:dark){:root{--ground:#14171b;--soft:#9aa5b1;--rule:#363e47;"
    "--c0:#6cb4f0;--c1:#ff9d5c;--c2:#6fd08c;--c3:#f28cc4;--c4:#b9a3f5;--c5:#e3c44d}}"
    "text{font:12px system-ui,sans-serif;fill:var(--soft)}polyline{fill:none;stroke-width:2}"
    ".grid{stroke:var(--rule)}.axis{stroke:var(--soft)}"
)


@dataclass(frozen=True)
class Axis:
    """A range of values along one side of the chart, linear or logarithmic."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within the range."""
        return _log_ticks(self.low, self.high) if self.logarithmic else _linear_ticks(self.low, self.high)


def fit_axis(values: Sequence[float], *, linear: bool = False) -> Axis:
    """An axis that holds all of the finite values, of which there is at least one, with a little room.

    It is logarithmic where they are positive and span much, unless it must be `linear`.
    """
    low, high = min(values), max(values)
    if not linear and low > 0 and high / low > _LOG_RATIO:
        return Axis(low / _LOG_HEADROOM, high * _LOG_HEADROOM, logarithmic=True)
    room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(low - room if low < 0 or low > room else 0.0, high + room)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= 0.7 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = [
        [factor * 10.0**decade for decade in decades for factor in factors if low <= factor * 10.0**decade <= high]
        for factors in ((1,), (1, 3), (1, 2, 5))
    ]
    sparse = [ticks for ticks in within if len(ticks) <= _TICKS + 2]
    every = math.ceil(len(within[0]) / (_TICKS + 2)) or 1
    return sparse[-1] if sparse else within[0][::every]


def readable(value: float) -> str:
    """A number in a few characters: 0.0325, 18.4, 20k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):.4g}{letter}"
    return f"{value:.4g}"


def line_chart(series: Mapping[str, Points], x_label: str, y_label: str, *, linear: bool = False) -> str:
    """A chart of named series as one `<figure>` with a legend where there are several.

    Args:
        series: points (x, y) in the order of x; values that are not finite are left out, and series without any.
        x_label: below the horizontal axis, with the unit.
        y_label: beside the vertical axis, with the unit.
        linear: keeps the vertical axis from being logarithmic where values span much.

    Returns:
        HTML; empty where nothing is to be drawn.
    """
    finite = {
        name: [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])] for name, points in series.items()
    }
    drawn = {name: _thinned(points) for name, points in finite.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    horizontal = Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    vertical = fit_axis([y for points in drawn.values() for _, y in points], linear=linear)
    lines = [_line(points, horizontal, vertical, index % COLOURS) for index, points in enumerate(drawn.values())]
    scale = " (logarithmic)" if vertical.logarithmic else ""
    body = "".join([*_grid(horizontal, vertical), *lines, _labels(x_label, y_label + scale)])
    name = html.escape(f"{y_label} over {x_label}", quote=True)
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{body}</svg>'
    return f"<figure>{svg}{_legend(finite) if len(drawn) > 1 else ''}</figure>"


def point_chart(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Named series of few points as a picture of its own: a complete SVG file, in light and dark.

    Args:
        series: points (x, y) in the order of x; all finite, at least one.
        x_label: below the horizontal axis, which is logarithmic where values span much, with the unit.
        y_label: beside the vertical axis, with the unit.
    """
    points = [point for row in series.values() for point in row]
    horizontal, vertical = (fit_axis([point[i] for point in points], linear=i == 1) for i in (0, 1))
    scale = " (logarithmic)" if horizontal.logarithmic else ""
    parts = [f"<style>{_STYLE}</style>", '<rect width="100%" height="100%" style="fill:var(--ground)"/>']
    parts += [*_grid(horizontal, vertical), _labels(x_label + scale, y_label)]
    for index, (name, row) in enumerate(series.items()):
        colour, y = index % COLOURS, _HEIGHT + _LEGEND_ROW * (index + 1) - 8
        parts.append(_line(row, horizontal, vertical, colour) if len(row) > 1 else "")
        parts += [_line([point], horizontal, vertical, colour) for point in row]
        parts.append(f'<circle cx="{_LEFT + 4}" cy="{y - 4}" r="4" style="fill:var(--c{colour})"/>')
        parts.append(f'<text x="{_LEFT + 16}" y="{y}">{html.escape(name)}</text>')
    height = _HEIGHT + _LEGEND_ROW * len(series) + 4
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    name = html.escape(f"{y_label} over {x_label}", quote=True)
    body = "".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}">{body}</svg>\n'


def _thinned(points: Points) -> Points:
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups]


def _smoothed(points: Points) -> Points:
    """A centred moving average."""
    half = len(points) // (2 * _SMOOTHING)
    windows = [points[max(0, i - half) : i + half + 1] for i in range(len(points))]
    return [(x, fmean(y for _, y in window)) for (x, _), window in zip(points, windows, strict=True)]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.place(value) * (_HEIGHT - _TOP - _BOTTOM)


def _line(points: Points, horizontal: Axis, vertical: Axis, colour: int) -> str:
    style = f'style="stroke:var(--c{colour})"'
    if len(points) == 1:
        x, y = _x(horizontal, points[0][0]), _y(vertical, points[0][1])
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:var(--c{colour})"/>'
    parts = [(points, "raw"), (_smoothed(points), "line")] if len(points) >= _SMOOTHED_FROM else [(points, "line")]
    return "".join(
        f'<polyline class="{kind}" {style} points="{_path(drawn, horizontal, vertical)}"/>' for drawn, kind in parts
    )


def _path(points: Points, horizontal: Axis, vertical: Axis) -> str:
    return " ".join(f"{_x(horizontal, x):.1f},{_y(vertical, y):.1f}" for x, y in points)


def _grid(horizontal: Axis, vertical: Axis) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    rows = [(_y(vertical, tick), readable(tick)) for tick in vertical.ticks()]
    columns = [(_x(horizontal, tick), readable(tick)) for tick in horizontal.ticks()]
    return [
        *(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in rows),
        *(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>' for y, text in rows),
        *(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>' for x, _ in columns),
        *(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
            for x, text in columns
        ),
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
    ]


def _labels(x_label: str, y_label: str) -> str:
    across, down = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    return (
        f'<text class="label" x="{across}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text class="label" transform="translate(14 {down}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )


def _legend(series: Mapping[str, Points]) -> str:
    """Names in the order of the series, each with its last value."""
    shown = [(name, points[-1][1]) for name, points in series.items() if points]
    items = (
        f'<span><i style="background:var(--c{index % COLOURS})"></i>{html.escape(name)} <b>{readable(last)}</b></span>'
        for index, (name, last) in enumerate(shown)
    )
    return f"<figcaption>{''.join(items)}</figcaption>"
