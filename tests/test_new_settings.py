"""Which settings a state and the run that goes on from it must share, and states from before there was a setting."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from scenetok_core.configs import from_dict
from scenetok_core.weights.checkpoints import read_tensors
from tests.test_training_loop import assert_same, run_toy, toy_config
from training.config import BATCHES, MUON, DataConfig, at_default
from training.state import list_states


def rewrite(state, forget=(), **more):
    """Save a state again without some entries of its fingerprint, and with more."""
    tensors, metadata = load_file(state), dict(read_tensors(state)[1])
    saved = {key: value for key, value in json.loads(metadata["fingerprint"]).items() if key not in forget}
    metadata["fingerprint"] = json.dumps(saved | more)
    save_file(tensors, state, metadata)


def state_of(config):
    return list_states(config.run.folder / "states")[-1]


def test_defaults_are_found_at_any_depth(tmp_path):
    names = at_default(toy_config(tmp_path, lr=1e-3, betas=[0.9, 0.95]))
    assert {"data.kind", "data.rooms.views", "optim.betas", "run.wandb"} < names
    assert not {"run.name", "run.seed", "data.scenes", "optim.lr", "data.rooms"} & names


def test_a_state_may_lack_settings_that_have_their_default(tmp_path):
    run_toy(toy_config(tmp_path / "old", {"steps": 3}))
    rewrite(state_of(toy_config(tmp_path / "old")), ["data.rooms.views", "optim.betas"])
    resumed = run_toy(toy_config(tmp_path / "old")).trained
    assert_same(run_toy(toy_config(tmp_path / "whole")).trained.tensors(), resumed.tensors())


@pytest.mark.parametrize("name", ["data.scenes", "run.seed", BATCHES])
def test_a_state_that_lacks_another_setting_is_refused(tmp_path, name):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    rewrite(state_of(toy_config(tmp_path)), [name])
    with pytest.raises(ValueError, match=rf"{name}: saved None, now"):
        run_toy(toy_config(tmp_path))


def test_a_setting_of_the_state_that_is_known_no_more_is_refused(tmp_path):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    rewrite(state_of(toy_config(tmp_path)), **{"data.removed": 1})
    with pytest.raises(ValueError, match=r"data.removed: saved 1, now None"):
        run_toy(toy_config(tmp_path))


@pytest.mark.parametrize("old", [False, True])
def test_the_rate_of_muon_may_change_but_not_whether_there_is_one(tmp_path, old):
    run_toy(toy_config(tmp_path, {"steps": 3}, muon_lr=1e-2))
    if old:
        rewrite(state_of(toy_config(tmp_path)), [MUON], **{"optim.muon_lr": 1e-2})
    with pytest.raises(ValueError, match=r"optim\.muon_lr is set: saved True, now False"):
        run_toy(toy_config(tmp_path))
    assert run_toy(toy_config(tmp_path, muon_lr=2e-2)).trained.step == 12


@pytest.mark.parametrize("saved", [{}, {"optim.muon_lr": None}])
def test_old_states_without_muon_go_on_without_it(tmp_path, saved):
    run_toy(toy_config(tmp_path, {"steps": 3}))
    rewrite(state_of(toy_config(tmp_path)), [MUON], **saved)
    with pytest.raises(ValueError, match=r"optim\.muon_lr is set: saved False, now True"):
        run_toy(toy_config(tmp_path, muon_lr=1e-2))
    assert run_toy(toy_config(tmp_path)).trained.step == 12


def video_config(folder, steps=12, root="here", **videos):
    table = {"kind": "latents", "root": root, "image_size": 64, "views": {"context_views": 8}, **videos}
    config = toy_config(folder, {"steps": steps})
    return replace(
        config, data=from_dict(DataConfig, {"kind": "videos", "scenes": config.data.scenes, "videos": table})
    )


def test_data_may_move(tmp_path):
    depth = {"root": "here", "values": "inverse"}
    before = video_config(tmp_path, 3, target_root="here", depth=depth)
    after = video_config(tmp_path, root="there", target_root="there", workers=3, depth={**depth, "root": "there"})
    run_toy(before)
    with pytest.raises(ValueError, match=r"data\.videos\.mirror: saved 0\.5, now 0\.0"):
        run_toy(video_config(tmp_path, target_root="here", depth=depth, mirror=0.0))
    rewrite(state_of(before), **{"data.videos.root": "here", "data.videos.workers": 1})  # as states once were
    assert run_toy(after).trained.step == 12
