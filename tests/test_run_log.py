"""What a run logs: details, memory, and Weights & Biases through a stand-in for its package."""

import logging
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.test_training_loop import ROOT, logged, run_toy, toy_config
from training import memory, train
from training.log import RunLog
from training.trainer import TrainingDivergedError
from training.wandb_log import WandbError


class StandIn(ModuleType):
    """Records the calls that go to Weights & Biases."""

    class Error(Exception):
        pass

    def __init__(self, refuses=False):
        super().__init__("wandb")
        self.refuses, self.runs = refuses, []

    def init(self, **arguments):
        if self.refuses:
            raise self.Error("api_key not configured")
        self.runs.append(StandInRun(arguments))
        return self.runs[-1]

    def Image(self, image):  # noqa: N802
        return ("image", image.size)


class StandInRun:
    def __init__(self, arguments):
        self.arguments, self.rows, self.metrics, self.finished = arguments, [], [], False

    def define_metric(self, *names, **options):
        self.metrics.append((*names, options))

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def stand_in(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def project_run(folder, **run):
    return toy_config(folder, {"wandb": "rooms", "sheet_every": 8, **run})


def test_scalars_and_sheets_go_to_weights_and_biases_too(tmp_path, stand_in):
    run_toy(project_run(tmp_path))
    (run,) = stand_in.runs
    assert run.arguments["project"] == "rooms" and run.arguments["config"]["run"]["steps"] == 12
    assert run.metrics == [("step", {}), ("*", {"step_metric": "step"})]
    scalars = [row for row in run.rows if "loss" in row]
    assert [row["step"] for row in scalars] == [4, 8, 12]
    assert [row["loss"] for row in scalars] == pytest.approx([line["loss"] for line in logged(tmp_path)], rel=1e-5)
    assert [row for row in run.rows if "sheet" in row] == [{"step": s, "sheet": ("image", (8, 8))} for s in (8, 12)]
    assert run.finished and list((tmp_path / "toy").glob("tensorboard/events.*"))


def test_values_that_were_not_measured_are_left_out(tmp_path, stand_in):
    log = RunLog(tmp_path / "run", 0, {}, "rooms")
    log.scalars(3, {"loss": 1.0, "psnr_noisy": None})
    log.close()
    assert stand_in.runs[0].rows == [{"step": 3, "loss": 1.0}]


def test_a_resumed_run_goes_on_under_its_id_and_another_has_its_own(tmp_path, stand_in):
    run_toy(project_run(tmp_path / "a"), {6: "SIGTERM"})
    run_toy(project_run(tmp_path / "a"))
    run_toy(project_run(tmp_path / "b"))
    first, resumed, other = (run.arguments["id"] for run in stand_in.runs)
    assert first == resumed != other
    assert first.startswith("toy-") and all(run.arguments["resume"] == "allow" for run in stand_in.runs)
    assert stand_in.runs[1].rows[-1]["step"] == 12


def test_a_missing_package_is_told_before_any_work(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(train, "build_task", lambda config: pytest.fail("work was begun"))
    settings = ["--set", "run.wandb=rooms", "--set", f"run.output={tmp_path}"]
    with caplog.at_level(logging.ERROR):
        assert train.main(["--config", str(ROOT / "training/configs/tiny.toml"), *settings]) == 2
    assert r"needs the package wandb: pip install -e '.[wandb]'" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_taken_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", StandIn(refuses=True))
    with pytest.raises(WandbError, match=r"api_key not configured\); log in with `wandb login`"):
        run_toy(project_run(tmp_path))


def test_an_empty_project_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"run\.wandb must name a project"):
        project_run(tmp_path, wandb="")


def test_details_are_logged_everywhere_but_on_the_console(tmp_path, caplog):
    log = RunLog(tmp_path, 0, {})
    with caplog.at_level(logging.INFO):
        log.scalars(3, {"loss": 1.0, "loss_by_t/0.2_0.4": 0.5})
    log.close()
    assert "loss 1" in caplog.text and "by_t" not in caplog.text
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss_by_t/0.2_0.4")] == [(3, 0.5)]
    assert '"loss_by_t/0.2_0.4": 0.5' in (tmp_path / "training_log.jsonl").read_text()


def test_a_run_that_diverges_leaves_a_report(tmp_path):
    config = toy_config(tmp_path, {"log_every": 1}, max_bad_steps=2)
    with pytest.raises(TrainingDivergedError):
        run_toy(config, dict.fromkeys((3, 4), "loss"))
    assert "steps skipped so far" in (tmp_path / "toy" / "report.html").read_text()


def test_peak_memory_is_logged(tmp_path):
    run_toy(toy_config(tmp_path))
    assert all(line["peak_memory_mib"] > 50 for line in logged(tmp_path)), "an interpreter with torch"


def test_peak_memory_remembers_what_was_taken_and_freed():
    code = (
        "import torch; from training.memory import peak_memory_mib as peak; cpu = torch.device('cpu'); "
        "before = peak(cpu); torch.ones(2**26); print(peak(cpu) - before)"  # 256 MiB
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 200 < float(told.stdout) < 320


def test_memory_is_told_by_psutil_on_windows_and_by_nothing_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "resource", None)
    info = SimpleNamespace(peak_wset=3 * 2**20)
    fake = SimpleNamespace(Process=lambda: SimpleNamespace(memory_info=lambda: info))
    monkeypatch.setitem(sys.modules, "psutil", fake)
    assert memory.peak_memory_mib(torch.device("cpu")) == 3
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory.peak_memory_mib(torch.device("cpu")) is None
