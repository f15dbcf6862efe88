"""Quality against size: JPEG inputs with exact depth, token sweeps, and the comparison's guards."""

import json
import re
from dataclasses import replace

import pytest
import torch

from training import rate
from training.charts import point_chart
from training.protocol import PROTOCOLS
from training.rate import Point, jpeg, jpeg_points, main, token_points

SMALL = replace(PROTOCOLS["tiny"], scenes=2)
FIGURES = {"model": "m", "tokens_kib": 8.0, "tokens_25_percent_psnr": 18.0, "tokens_100_percent_psnr": 20.0}


@pytest.fixture(scope="module")
def measured():
    return jpeg_points(SMALL, 16, (1, 30, 95))


def test_jpeg_returns_its_pictures_and_counts_its_bytes():
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 3, 4, 4), size=(64, 64), mode="bilinear")
    fine, size = jpeg(smooth, 95)
    coarse, smaller = jpeg(smooth, 1)
    assert fine.shape == smooth.shape and smaller < size
    assert (fine - smooth).abs().mean() < 0.01 < (coarse - smooth).abs().mean()


def test_finer_jpeg_takes_more_bytes_and_renders_better(measured):
    points, _ = measured
    assert [point.label for point in points] == ["JPEG 1", "JPEG 30", "JPEG 95"]
    assert [point.kib for point in points] == sorted(point.kib for point in points)
    assert points[0].psnr < points[2].psnr


def test_a_sweep_counts_the_bytes_of_its_share():
    assert token_points(FIGURES) == [Point("m 25 %", 2.0, 18.0), Point("m 100 %", 8.0, 20.0)]
    whole = {"model": "3drae", "tokens_kib": 24.0, "posterior_mean_psnr": 19.0}
    assert token_points(whole) == [Point("3drae", 24.0, 19.0)], "no token can be left out"
    with pytest.raises(ValueError, match="without tokens_"):
        token_points({"model": "m"})


def test_figures_of_the_same_cameras_are_compared(tmp_path, capsys, monkeypatch, measured):
    points, fingerprint = measured
    monkeypatch.setattr(rate, "jpeg_points", lambda protocol, size, progress: (points, fingerprint))
    file, out, plot = tmp_path / "figures.json", tmp_path / "rate.json", tmp_path / "rate.svg"
    command = ["--config", "tiny", "--figures", str(file), "--size", "16", "--json", str(out), "--plot", str(plot)]
    file.write_text(json.dumps({**FIGURES, "protocol_fingerprint": fingerprint}))
    assert main(command) == 0
    assert "| m 100 % | 8.00 | 20.00 |" in capsys.readouterr().out
    assert [point["kib"] for point in json.loads(out.read_text())["m"]] == [2.0, 8.0]
    assert plot.read_text().count("<circle") == 3 + 2 + 2  # points, and one in the legend for each series
    file.write_text(json.dumps({**FIGURES, "protocol_fingerprint": "another"}))
    assert main(command) == 2
    assert "measured on other cameras or pictures (another)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_other_files_are_no_figures(tmp_path, capsys, text):
    file = tmp_path / "figures.json"
    file.write_text(text)
    assert main(["--config", "tiny", "--figures", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_a_chart_of_points_places_them_by_the_logarithm():
    chart = point_chart({"a": [(1.0, 10.0), (10.0, 20.0), (100.0, 30.0)]}, "KiB", "dB")
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart)][:3]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    assert "KiB (logarithmic)" in chart
