"""The page that tells what a run did, and the curves on it."""

import base64
import io
import json
import logging
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image

from tests.test_training_loop import run_toy, toy_config
from training.charts import Axis, fit_axis, line_chart, readable
from training.run_report import main, read_log, write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, texts and pictures of a page; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.links = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def write_log(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.04, 0.15, [0.04, 0.06, 0.08, 0.1, 0.12, 0.14]),
        (-3, 17, [0, 5, 10, 15]),
        (0, 24000, [0, 5000, 10000, 15000, 20000]),
    ],
)
def test_ticks_are_round_and_inside(low, high, ticks):
    assert Axis(low, high).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.6, 30, [1, 2, 5, 10, 20]),
        (0.0009, 1.2, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]),
        (1e-9, 1e9, [1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9]),
    ],
)
def test_logarithmic_ticks_fit_their_range(low, high, ticks):
    assert Axis(low, high, logarithmic=True).ticks() == pytest.approx(ticks)


def test_an_axis_holds_its_values_and_is_logarithmic_where_they_span_much():
    for values in ([3.0], [0.0, 0.0], [-5.0, 5.0], [0.1, 0.11], [1e-4, 1.0], [0.0, 5.0]):
        axis = fit_axis(values)
        assert axis.low <= min(values) <= max(values) <= axis.high and axis.low < axis.high
        assert axis.logarithmic == (values == [1e-4, 1.0])
        assert 0 <= axis.place(min(values)) <= axis.place(max(values)) <= 1
    assert not fit_axis([1e-4, 1.0], linear=True).logarithmic
    assert Axis(1, 100, logarithmic=True).place(10) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0325, "0.0325"), (18.4, "18.4"), (2393, "2393"), (20_000, "20k"), (1.5e6, "1.5M"), (0.0, "0"), (3e9, "3G")],
)
def test_numbers_are_short(value, text):
    assert readable(value) == text


def polylines(chart):
    return [
        [tuple(map(float, pair.split(","))) for pair in points.split()]
        for points in re.findall(r'<polyline[^>]* points="([^"]*)"', chart)
    ]


def test_a_line_goes_through_its_points():
    chart = line_chart({"loss": [(0, 0.0), (5, 10.0), (10, 5.0)]}, "step", "loss")
    ((x0, y0), (x1, y1), (x2, y2)) = polylines(chart)[0]
    assert x1 - x0 == pytest.approx(x2 - x1) and x0 < x1
    assert y0 > y2 > y1, "up is less"
    assert y2 - y1 == pytest.approx(y0 - y2, abs=0.11)
    labels = dict(re.findall(r'x="([\d.]+)" y="\d+" text-anchor="middle">(\d+)<', chart))
    assert labels[f"{x0:.1f}"] == "0" and labels[f"{x2:.1f}"] == "10"
    assert "figcaption" not in chart, "one series needs no legend"


def test_values_that_are_not_finite_are_left_out():
    chart = line_chart({"a": [(0, 1.0), (1, math.nan), (2, 3.0)], "b": [(0, math.inf)], "c": [(1, 2.0)]}, "step", "y")
    assert len(polylines(chart)[0]) == 2 and chart.count("<circle") == 1
    assert "nan" not in chart and "inf" not in chart
    assert re.findall(r"</i>(\w) <b>(\S+)</b>", chart) == [("a", "3"), ("c", "2")]
    assert line_chart({"b": [(0, math.inf)], "none": []}, "step", "y") == ""


def test_many_points_are_thinned_and_smoothed():
    noisy = [(step, 5.0 + (-1) ** step) for step in range(1600)]
    raw, smooth = polylines(line_chart({"x": noisy[:101]}, "step", "y"))
    assert len(raw) == len(smooth) == 101
    swing = [max(y for _, y in line[10:-10]) - min(y for _, y in line[10:-10]) for line in (raw, smooth)]
    assert swing[1] < 0.5 * swing[0]
    raw, smooth = polylines(line_chart({"x": noisy}, "step", "y"))
    assert len(raw) == 400


def test_names_are_escaped():
    folder_like = '<script>alert("x")</script>'
    chart = line_chart({folder_like: [(0, 1), (1, 2)], "b": [(0, 1)]}, "step", folder_like)
    assert "<script" not in chart and "&lt;script&gt;" in chart


def test_a_run_ends_with_its_report(tmp_path):
    run_toy(toy_config(tmp_path, {"sheet_every": 6}))
    text = (tmp_path / "toy" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("img") == 2 and page.tags.count("svg") >= 5
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links), "nothing comes from elsewhere"
    assert "http" not in text and "url(" not in text
    assert {"Run toy", "12", "steps", "loss", "gradient norm", "MiB of memory at the peak", "[optim]"} <= set(
        page.texts
    )
    data = base64.b64decode(page.links[0].partition(",")[2])
    with Image.open(io.BytesIO(data)) as sheet, Image.open(tmp_path / "toy/sheets/step_000012.png") as truth:
        assert sheet.size == truth.size
        assert all(abs(a - b) < 6 for a, b in zip(sheet.getpixel((3, 3)), truth.getpixel((3, 3)), strict=True))


def test_figures_are_those_of_the_log(tmp_path):
    lines = [
        {"step": 10 * i, "loss": 2.0 if i < 19 else 0.5, "psnr_mean": 20.0 + i, "samples_per_s": float(i % 3 + 1),
         "minutes": i / 2, "peak_memory_mib": 100.0 + i, "loss_by_t/0.2_0.4": 0.25 if i > 18 else None,
         "loss_by_t/1": 0.125}
        for i in range(1, 21)
    ]  # fmt: skip
    page = page_of(write_log(tmp_path / "run", lines))
    shown = set(pairwise(page.texts))
    assert shown >= {
        ("200", "steps"), ("10", "minutes"), ("2", "scenes per second, median"), ("120", "MiB of memory at the peak"),
        ("0.5", "loss, last tenth"), ("39.5", "PSNR mean dB, last tenth"), ("t 0.2 to 0.4", "0.25"), ("t 1", "0.125"),
    }  # fmt: skip
    assert "This run stored no config.json." in page.texts


def test_names_and_settings_of_a_run_are_escaped(tmp_path):
    folder = write_log(tmp_path / "a & <b>", [{"step": 1, "loss": 1.0, "<i>": 2.0}])
    (folder / "config.json").write_text(json.dumps({"run": {"name": "<u>"}, "task": {"kind": "<s>"}}))
    page = page_of(folder)
    assert not {"i", "u", "s"} & set(page.tags)
    assert "Run a & <b>" in page.texts and '"<u>"' in page.texts


def test_a_few_of_many_sheets_are_shown_the_last_one_open(tmp_path):
    folder = write_log(tmp_path / "run", [{"step": 1, "loss": 1.0}])
    (folder / "sheets").mkdir()
    for step in range(1, 41):
        Image.new("RGB", (3000 if step == 40 else 30, 10), (step, 0, 0)).save(folder / f"sheets/step_{step:06d}.png")
    text = write_report(folder).read_text(encoding="utf-8")
    steps = [int(step) for step in re.findall(r"<summary>step (\d+)</summary>", text)]
    assert len(steps) == 6 and steps == sorted(steps, reverse=True) and (steps[0], steps[-1]) == (40, 1)
    assert text.count("<details open>") == 1 and "<details open><summary>step 40<" in text
    with Image.open(io.BytesIO(base64.b64decode(Page(text).links[0].partition(",")[2]))) as sheet:
        assert sheet.size == (2400, 8)


def test_a_log_may_end_in_half_a_line_or_be_empty(tmp_path):
    folder = write_log(tmp_path / "run", [{"step": 1, "loss": 1.0}])
    with (folder / "training_log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [line["step"] for line in read_log(folder)] == [1]
    assert "svg" not in page_of(write_log(tmp_path / "empty", [])).tags


def test_the_command_writes_a_report_and_names_what_is_missing(tmp_path, caplog):
    folder = write_log(tmp_path / "run", [{"step": 1, "loss": 1.0}])
    with caplog.at_level(logging.INFO):
        assert main([str(folder)]) == 0
        assert main([str(tmp_path)]) == 2
    assert (folder / "report.html").is_file() and not (tmp_path / "report.html").exists()
    assert f"no training_log.jsonl in {tmp_path}; give the folder of a run" in caplog.text
