"""Nothing is lost: runs that are killed, stopped, or out of disk go on as if nothing had happened."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scenetok_core.files import replacing
from scenetok_core.weights.checkpoints import read_tensors
from tests.processes import TIMEOUT_S, environment, run_log, train_command, write_run
from tests.test_training_loop import assert_same, logged, run_toy, toy_config
from training import stopping, trainer
from training.log import RunLog
from training.state import list_states
from training.train import main
from training.trainer import NotSavedError, TrainingDivergedError

resource = pytest.importorskip("resource", reason="POSIX only")

STEPS = 14
SETTINGS = (f"run.steps={STEPS}", "run.save_every=1", "run.log_every=3", "run.prefetch=1", "run.mixed_precision=bf16")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of a run that nothing interrupts."""
    return finish(config, tmp_path_factory.mktemp("whole"))


def finish(config, output):
    """Start the run, or go on with it, to its end."""
    assert main(train_command(config, output, *SETTINGS)[2:]) == 0
    return output / "small"


def last_step(folder):
    states = list_states(folder / "states")
    return int(states[-1].stem.removeprefix("step_")) if states else 0


def interrupt(config, output, ready, *signals):
    """Start the run as a process and send it signals as soon as `ready(folder)`; returns what it printed."""
    process = subprocess.Popen(
        train_command(config, output, *SETTINGS), env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not ready(output / "small"):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.001)
        for number in signals:
            process.send_signal(number)
        printed = process.communicate(timeout=TIMEOUT_S)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (-signal.SIGKILL if signal.SIGKILL in signals else 0), printed
    return printed


def assert_same_end(folder, whole):
    """Bit for bit, except for clocks."""
    for name in ("model.safetensors", f"states/{list_states(whole / 'states')[-1].name}"):
        (tensors, metadata), (wanted, described) = (read_tensors(each / name) for each in (folder, whole))
        assert_same(wanted, tensors)
        assert metadata.keys() == described.keys()
        changed = [key for key in metadata if metadata[key] != described[key]]
        assert set(changed) <= {"counters", "config"}, "elapsed time; folder"


def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(config, whole, tmp_path):
    chance, folder = random.Random(7), tmp_path / "small"

    def some_steps_later():
        target, delay = last_step(folder) + chance.randint(1, 3), chance.uniform(0, 0.1)

        def ready(run):
            if last_step(run) < target:
                return False
            time.sleep(delay)
            return True

        return ready

    def while_saving(run):
        return last_step(run) > reached and any((run / "states").glob(".*.partial"))

    for _ in range(2):
        interrupt(config, tmp_path, some_steps_later(), signal.SIGKILL)
    reached = last_step(folder)
    interrupt(config, tmp_path, while_saving, signal.SIGKILL)
    assert 0 < reached < last_step(folder) < STEPS
    finish(config, tmp_path)
    assert_same_end(folder, whole)
    assert run_log(folder) == run_log(whole)
    assert [line["step"] for line in run_log(folder)] == [3, 6, 9, 12, 14]
    assert len(list_states(folder / "states")) == 2
    assert not list(folder.glob("**/*.partial"))


def test_a_finished_run_that_is_started_again_writes_the_same(config, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "small")
    (tmp_path / "small/model.safetensors").unlink()  # as if killed between the last state and this file
    finish(config, tmp_path)
    assert_same_end(tmp_path / "small", whole)
    assert run_log(tmp_path / "small") == run_log(whole)


def test_sigterm_saves_exits_and_may_come_twice(config, whole, tmp_path):
    printed = interrupt(config, tmp_path, lambda run: last_step(run) >= 2, signal.SIGTERM, signal.SIGTERM)
    assert f"stopped at step {last_step(tmp_path / 'small')}" in printed
    assert 2 <= last_step(tmp_path / "small") < STEPS
    assert_same_end(finish(config, tmp_path), whole)


def test_a_later_second_signal_acts_as_usual(monkeypatch, request):
    monkeypatch.setattr(stopping, "_ECHO_S", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt), stopping.stop_requests() as stop:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not reached")
    monkeypatch.undo()
    with stopping.stop_requests() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()


def test_a_full_disk_ends_the_run_and_keeps_the_last_state(config, whole, tmp_path, monkeypatch, caplog):
    limits, save, folder = resource.getrlimit(resource.RLIMIT_FSIZE), trainer.save_state, tmp_path / "small"
    full_at = 6

    def fill(states, trained, *arguments, **options):
        if trained.step == full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (list_states(states)[0].stat().st_size // 2, limits[1]))
        return save(states, trained, *arguments, **options)

    monkeypatch.setattr(trainer, "save_state", fill)
    try:
        assert main(train_command(config, tmp_path, *SETTINGS)[2:]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = caplog.records[-1].getMessage()
    assert f"stopped at step {full_at}" in message and f"{folder}/states/step_00000006.safetensors" in message
    assert (
        "step_00000005.safetensors is complete" in message and "Free space" in message and "run.keep_last (2" in message
    )
    assert [path.name for path in sorted((folder / "states").iterdir())] == [
        f"step_{step:08d}.safetensors" for step in (4, 5)
    ]
    assert not list(folder.glob("**/*.partial"))
    monkeypatch.undo()
    assert_same_end(finish(config, tmp_path), whole)
    assert run_log(folder) == run_log(whole)


@pytest.mark.parametrize("method", ["scalars", "sheet"])
def test_a_log_that_cannot_be_written_ends_the_run_with_the_same_message(tmp_path, monkeypatch, method):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunLog, method, full)
    with pytest.raises(NotSavedError, match=r"stopped at step 4.*No space left on device.*step_00000003.*Free space"):
        run_toy(toy_config(tmp_path, {"sheet_every": 4}))


def test_bad_steps_are_counted_on_over_sessions(tmp_path):
    run_toy(toy_config(tmp_path, {"steps": 6, "log_every": 1}, max_bad_steps=3), {4: "loss", 5: "loss"})
    config = toy_config(tmp_path, {"steps": 8, "log_every": 1}, max_bad_steps=3)
    with pytest.raises(TrainingDivergedError, match="3 steps in a row up to step 7"):
        run_toy(config, {6: "loss"})
    run_toy(config)
    assert [line.get("skipped", 0) for line in logged(tmp_path)] == [0, 0, 0, 0, 1, 2, 2, 2]


def test_a_damaged_newest_state_is_named_with_the_remedy(tmp_path):
    config = toy_config(tmp_path, {"steps": 6})
    run_toy(config)
    newest = list_states(config.run.folder / "states")[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"step_00000006\.safetensors is damaged.*delete it.*before it"):
        run_toy(config)
    newest.unlink()
    assert run_toy(config).trained.step == 6


def test_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order, replace, fsync = [], Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(os.fstat(number).st_size), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("named"), replace(*paths))[1])
    with replacing(tmp_path / "file") as partial:
        partial.write_bytes(b"12345")
    assert order == [5, "named"]
    assert (tmp_path / "file").read_bytes() == b"12345"
