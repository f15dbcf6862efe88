"""What an evaluation found, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from training.measures.calibration import Calibration
from training.scores import Figures

_ALWAYS = {
    "PSNR dB": ("psnr", ".2f"),
    "SSIM": ("ssim", ".3f"),
    "gradient energy": ("gradient_energy", ".2f"),
    "finest band": ("laplacian_correlation", ".2f"),
    "gap closed": ("gap_closed", ".2f"),
    "as good as thumbnail of side": ("thumbnail_side", ".1f"),
    "pose error °": ("pose_error_degrees", ".1f"),
}
_WHERE_MEASURED = {
    "pose AUC@30": ("pose_auc_30", ".2f"),
    "LPIPS": ("lpips", ".3f"),
    "rFID": ("rfid", ".2f"),
    "gFID": ("gfid", ".2f"),
    "TPS AUC@30": ("tps_auc_30", ".2f"),
    "ATE_r °": ("ate_rotation_degrees", ".1f"),
    "ATE_t": ("ate_translation", ".3f"),
}

_DEPTH = {
    "AbsRel": ("depth_abs_rel", ".3f"),
    "delta < 1.25": ("depth_delta", ".3f"),
    "scaled AbsRel": ("depth_abs_rel_scaled", ".3f"),
    "scaled delta": ("depth_delta_scaled", ".3f"),
    "flicker": ("depth_flicker", ".4f"),
}


def table(figures: Figures) -> str:
    """The methods as a Markdown table, and the other figures as a list."""
    methods = [name.removesuffix("_ssim") for name in figures if name.endswith("_ssim")]
    columns = _ALWAYS | {
        title: column
        for title, column in _WHERE_MEASURED.items()
        if any(f"{method}_{column[0]}" in figures for method in methods)
    }
    rows = []
    for method in methods:
        keys = [(f"{method}_{measure}", form) for measure, form in columns.values()]
        rows.append([_words(method), *[format(figures[key], form) if key in figures else "" for key, form in keys]])
    shown = {f"{method}_{measure}" for method in methods for measure, _ in columns.values()} | {"left_out"}
    depth, found = _depth_table(figures)
    shown |= found
    rest = [f"- {_words(name)}: {_readable(value)}" for name, value in figures.items() if name not in shown]
    return "\n".join([_rows(["", *columns], rows), "", *depth, *rest])


def _depth_table(figures: Figures) -> tuple[list[str], set[str]]:
    """Lines of the table of depth, none where it was not measured, and the names of its figures."""
    methods = [name.removesuffix("_depth_delta") for name in figures if name.endswith("_depth_delta")]
    if not methods:
        return [], set()
    names = {method: [f"{method}_{measure}" for measure, _ in _DEPTH.values()] for method in methods}
    forms = [form for _, form in _DEPTH.values()]
    rows = [
        [_words(method), *(format(figures[n], f) if n in figures else "" for n, f in zip(keys, forms, strict=True))]
        for method, keys in names.items()
    ]
    return [_rows(["depth", *_DEPTH], rows), ""], {name for keys in names.values() for name in keys}


def left_out_list(left_out: Mapping[str, str], scenes: Mapping[str, str]) -> str:
    """Measures and scenes that are missing from the figures, with the reason; empty when nothing is."""
    lines = [f"- {name}: {reason}" for name, reason in {**left_out, **scenes}.items()]
    return "\n".join(["Left out:", "", *lines]) if lines else ""


def markdown(
    figures: Figures, calibration: Calibration | None, left_out: Mapping[str, str], scenes: Mapping[str, str]
) -> str:
    """A whole report.

    Args:
        figures: of `Evaluation.figures`.
        calibration: bins of the uncertainty, or None.
        left_out: measures that were not taken, and why.
        scenes: scenes that were not measured, and why.
    """
    title = f"# {figures['model']} on {figures['protocol']}\n\nDefinitions: docs/evaluation.md."
    parts = [title, table(figures), _calibration_table(calibration), left_out_list(left_out, scenes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _calibration_table(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    columns = zip(calibration.spread.tolist(), calibration.error.tolist(), calibration.count.tolist(), strict=True)
    rows = [[f"{spread:.4f}", f"{error:.4f}", str(count)] for spread, error, count in columns]
    return "Pixels by predicted error:\n\n" + _rows(["predicted error", "error", "pixels"], rows)


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _readable(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
