"""The recorded outputs of the official modules, and the checker that others run on files of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.golden.check import KNOWN, check_file, main

GOLDEN = Path(__file__).parent / "golden" / "scenetok.safetensors"


@pytest.fixture(scope="module")
def results():
    return check_file(GOLDEN)[0]


@pytest.mark.parametrize("group", sorted(KNOWN))
def test_official_outputs_are_reproduced(results, group):
    difference, tolerance = results[group]
    assert difference <= tolerance


def test_the_checker_misses_a_wrong_value_and_names_unknown_groups(tmp_path, capsys):
    values = {k: v for k, v in load_file(GOLDEN).items() if k.startswith(("rays", "schedule_pyramid", "decoder_vdc"))}
    values["schedule_pyramid.mask"][0, 0] ^= 1
    values["novelty.value"] = values["rays.origins"].clone()
    save_file(values, tmp_path / "changed.safetensors")
    shutil.copy(GOLDEN.with_suffix(".json"), tmp_path / "changed.json")
    assert main([str(tmp_path / "changed.safetensors")]) == 1
    printed = capsys.readouterr().out
    assert "schedule_pyramid" in printed and printed.count("MISS") == 1
    assert "not known: novelty" in printed


def test_sizes_come_from_the_json(tmp_path):
    values = {k: v for k, v in load_file(GOLDEN).items() if k.startswith("schedule_")}
    save_file(values, tmp_path / "other.safetensors")
    settings = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))
    settings["schedules"]["horizon"] += 1
    (tmp_path / "other.json").write_text(json.dumps(settings), encoding="utf-8")
    assert main([str(tmp_path / "other.safetensors")]) == 1


def test_the_checker_runs_as_a_script():
    script = Path(__file__).parent / "golden" / "check.py"
    done = subprocess.run([sys.executable, str(script), str(GOLDEN)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(KNOWN)
