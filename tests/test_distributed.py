"""Several processes do what one does: with copies of the model (DDP) and with shards of it (FSDP2), on gloo."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from accelerate.state import AcceleratorState

from scenetok_core.weights.checkpoints import read_tensors, write_tensors
from tests import distributed_jobs as jobs
from tests.processes import ROOT, launch, run_log
from tests.test_training_loop import run_toy, toy_config, toy_trainer
from training.config import BATCHES, fingerprint
from training.data.loader import batches
from training.distribute import sharding_wanted
from training.state import list_states, load_state, save_state

SHARDING = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # as `accelerate launch` sets them
MODES = {"copies": {}, jobs.SHARDED: SHARDING}


@pytest.fixture(scope="module", autouse=True)
def own_precision():
    """What other tests set holds no longer, nor do they see what these set."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("one")
    jobs.run_small(folder, 1)
    for name in jobs.JOBS:
        jobs.run_job(folder, name, 1)
    for name in jobs.RAES:
        jobs.run_rae(folder, name, 1)
    return folder


@pytest.fixture(scope="module", params=MODES)
def two(one, request, tmp_path_factory):
    """The runs of two processes."""
    folder = tmp_path_factory.mktemp("two") / request.param
    states = folder / "resumed/small/states"
    states.mkdir(parents=True)
    shutil.copy(list_states(one / "small/states")[0], states)
    command = [sys.executable, str(ROOT / "tests/distributed_jobs.py"), str(folder)]
    outcomes = launch(command, 2, **MODES[request.param])
    assert [outcome.returncode for outcome in outcomes] == [0, 0], "\n".join(outcome.stderr for outcome in outcomes)
    return folder


def assert_same_curve(one, two, first=0, tolerance=1e-4):
    want, found = run_log(one)[first:], run_log(two)
    assert [line["step"] for line in found] == [line["step"] for line in want] and found
    for line, other in zip(want, found, strict=True):
        assert line.keys() == other.keys()
        for name, value in line.items():
            assert other[name] == (None if value is None else pytest.approx(value, rel=2 * tolerance, abs=1e-6)), name


def assert_same_states(one, two, tolerance=1e-4):
    want, found = ({path.name: path for path in list_states(folder / "states")} for folder in (one, two))
    assert found and set(found) <= set(want)
    for name, path in found.items():
        (ours, described), (theirs, _) = read_tensors(path), read_tensors(want[name])
        assert ours.keys() == theirs.keys() and described
        for key, value in theirs.items():
            torch.testing.assert_close(
                ours[key], value, rtol=tolerance, atol=tolerance, msg=lambda text, k=key: k + text
            )


def test_two_processes_give_the_curve_and_the_states_of_one(one, two):
    assert_same_curve(one / "small", two / "small")
    assert_same_states(one / "small", two / "small")
    assert len(list((two / "small/sheets").iterdir())) == 2


@pytest.mark.parametrize("name", jobs.JOBS)
def test_every_kind_of_step_is_that_of_one_process(one, two, name):
    if two.name == jobs.SHARDED and not jobs.JOBS[name].shards:
        assert (two / name).read_text() == "optim.freeze is not possible with sharded weights"
        return
    tolerance = jobs.JOBS[name].tolerance
    assert_same_curve(one / name / "toy", two / name / "toy", tolerance=tolerance)
    assert_same_states(one / name / "toy", two / name / "toy", tolerance)


@pytest.mark.parametrize("name", jobs.RAES)
def test_a_3drae_is_that_of_one_process(one, two, name):
    if two.name == jobs.SHARDED and name == "adversary":
        assert (two / name).read_text() == "task.adversary_weight is not possible with sharded weights"
        return
    assert_same_curve(one / name, two / name, tolerance=1e-3)
    # Where a gradient is 0 to rounding, AdamW makes a step of it in either direction.
    assert_same_states(one / name, two / name, tolerance=4e-3)


def test_what_happens_to_one_process_counts_for_all(two):
    assert list_states(two / "stopped/toy/states")[-1].stem == "step_00000007"
    assert [line.get("skipped", 0) for line in run_log(two / "skipped/toy")][2:8] == [0, 1, 2, 2, 3, 3]


def test_processes_that_do_not_see_the_same_states_refuse_to_go_on(two):
    for rank in range(2):
        message = (two / f"apart_{rank}").read_text()
        assert "states of different steps [0, 12]" in message and "on a disk that all of them share" in message


def test_a_state_of_one_process_is_resumed_by_two(one, two):
    assert_same_curve(one / "small", two / "resumed/small", first=2)
    assert_same_states(one / "small", two / "resumed/small")


def test_a_state_of_two_processes_is_resumed_by_one(one, two, tmp_path):
    states = tmp_path / "small/states"
    states.mkdir(parents=True)
    shutil.copy(two / "small/states/step_00000002.safetensors", states)
    jobs.run_small(tmp_path, 1)
    assert_same_curve(one / "small", tmp_path / "small", first=2)
    assert_same_states(one / "small", tmp_path / "small")


def test_batches_are_dealt_out_to_processes():
    class Seeds:
        def batch(self, seed, scenes, progress=1.0):
            return seed, progress

    def first(count, **places):
        source = batches(Seeds(), 1, seed=5, length=8, **places)
        return [next(source) for _ in range(count)]

    whole = first(6)
    assert len({seed for seed, _ in whole}) == 6 and [progress for _, progress in whole[:3]] == [0, 1 / 8, 2 / 8]
    for rank in range(3):
        assert first(2, rank=rank, processes=3) == whole[rank::3]
    assert first(1, start=3, rank=2, processes=3) == first(1, start=3, rank=2, processes=3, prefetch=1) == [whole[5]]


def test_a_state_fits_where_a_step_takes_as_many_batches(tmp_path):
    AcceleratorState._reset_state()
    config = toy_config(tmp_path, {"steps": 3}, accumulate=4)
    run_toy(config)
    state = list_states(config.run.folder / "states")[-1]
    trainer = toy_trainer(config)
    load_state(state, trainer.trained, fingerprint(toy_config(tmp_path, accumulate=1), processes=4))
    with pytest.raises(ValueError, match=f"{BATCHES}: saved 4, now 8"):
        load_state(state, trainer.trained, fingerprint(config, processes=2))


@pytest.mark.parametrize(("processes", "fits"), [(1, True), (2, False)])
def test_states_of_earlier_versions_are_resumed_if_they_saw_the_same_batches(tmp_path, processes, fits):
    AcceleratorState._reset_state()
    trainer = toy_trainer(toy_config(tmp_path, accumulate=2))
    now = dict(trainer.fingerprint)
    assert now.pop(BATCHES) == 2
    trainer.trained.step = 3
    earlier = now | {"optim.accumulate": 2, "processes": processes}
    state = save_state(tmp_path, trainer.trained, {}, earlier, 1)
    tensors, metadata = read_tensors(state)
    metadata["counters"] = json.dumps({"step": 3, "elapsed": 1.5})
    write_tensors(state, tensors, metadata)
    again = toy_trainer(toy_config(tmp_path, accumulate=2)).trained
    if fits:
        load_state(state, again, trainer.fingerprint)
        assert (again.step, again.elapsed, again.bad_steps, again.unreported) == (3, 1.5, [0, 0], {})
    else:
        with pytest.raises(ValueError, match="processes: saved 2, now None"):
            load_state(state, again, trainer.fingerprint)


def test_only_fsdp_of_version_2_shards(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not sharding_wanted(), "one process without a group"
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert sharding_wanted()
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ValueError, match="fsdp_version: 2 in the accelerate configuration, got 1"):
        sharding_wanted()
