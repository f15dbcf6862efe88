"""States of runs from before there was a setting: they go on where it has its default, and are refused elsewhere."""

import json

import pytest
from safetensors.torch import load_file, save_file

from scenetok_core.checkpoints import read_tensors
from tests.test_training_loop import assert_same, run_toy, toy_config
from training.config import BATCHES, at_default
from training.state import list_states


def forget(state, *names):
    """Save a state again as a program would have that did not know these settings."""
    tensors, metadata = load_file(state), dict(read_tensors(state)[1])
    saved = json.loads(metadata["fingerprint"])
    metadata["fingerprint"] = json.dumps({key: value for key, value in saved.items() if key not in names})
    save_file(tensors, state, metadata)


def state_of(config):
    return list_states(config.run.folder / "states")[-1]


def test_defaults_are_found_at_any_depth(tmp_path):
    names = at_default(toy_config(tmp_path, lr=1e-3, betas=[0.9, 0.95]))
    assert {"data.kind", "data.rooms.views", "optim.betas", "run.wandb"} < names
    assert not {"run.name", "run.seed", "data.scenes", "optim.lr", "data.rooms"} & names


def test_a_state_may_lack_settings_that_have_their_default(tmp_path):
    run_toy(toy_config(tmp_path / "old", {"steps": 3}))
    forget(state_of(toy_config(tmp_path / "old")), "data.rooms.views", "optim.betas")
    resumed = run_toy(toy_config(tmp_path / "old")).trained
    assert_same(run_toy(toy_config(tmp_path / "whole")).trained.tensors(), resumed.tensors())


@pytest.mark.parametrize("name", ["data.scenes", "run.seed", BATCHES])
def test_a_state_that_lacks_another_setting_is_refused(tmp_path, name):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    forget(state_of(toy_config(tmp_path)), name)
    with pytest.raises(ValueError, match=rf"{name}: saved None, now"):
        run_toy(toy_config(tmp_path))


def test_a_setting_of_the_state_that_is_known_no_more_is_refused(tmp_path):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    state = state_of(toy_config(tmp_path))
    tensors, metadata = load_file(state), dict(read_tensors(state)[1])
    metadata["fingerprint"] = json.dumps(json.loads(metadata["fingerprint"]) | {"data.removed": 1})
    save_file(tensors, state, metadata)
    with pytest.raises(ValueError, match=r"data.removed: saved 1, now None"):
        run_toy(toy_config(tmp_path))
