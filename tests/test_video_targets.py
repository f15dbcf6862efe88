"""Training on the latents of video autoencoders, each of several frames."""

from dataclasses import replace

import pytest
import torch

from scenetok_core.autoencoders import PatchAutoencoder
from scenetok_core.models.networks import Networks
from scenetok_core.weights.checkpoints import load_checkpoint
from tests import small
from tests import test_autoencoders as autoencoders
from tests.test_tasks import CONTEXT, LATE, SCENES, SEED, STRAYS, fit, generator, run_config
from training.tasks import SceneTokTask


def video_task(**task):
    """A task whose targets are two latents of four frames each, coded by a small VideoDCAE."""
    plain, frames = run_config(**task), 8
    decoder = replace(
        plain.model.decoder, latent_channels=4, frames_per_latent=4, ray_map=8, ray_patch=2, prediction="v"
    )
    model = replace(plain.model, target_autoencoder="small video", decoder=decoder)
    data = replace(plain.data, target_views=frames, rooms=replace(plain.data.rooms, views=10))
    coders = {"small video": autoencoders.small("videodcae"), model.context_autoencoder: PatchAutoencoder(small.PATCH)}
    return SceneTokTask(replace(plain, model=model, data=data), coders)


def test_targets_of_video_autoencoders_are_whole_groups_of_consecutive_frames(tmp_path):
    task = video_task(mean_share=0.0)
    rooms = task.dataset(torch.device("cpu")).batch(SEED, SCENES)
    chosen_frames = task.choose(rooms, generator(), far=True, context=CONTEXT)
    first = rooms.rgb[:, :-STRAYS].unfold(1, 8, 1).movedim(-1, 2)
    wanted = chosen_frames.target.rgb
    assert wanted is not None and wanted.shape[1] == 8
    same = (first == wanted[:, None]).flatten(2).all(2).any(1)
    assert same.all(), "frames in a row"
    example = task.frame(chosen_frames, generator(), jitter=False)
    assert example.target.shape[1:3] == (2, 4) and example.target_rays.shape[1:3] == (2, 4)
    model, history = fit(task, rooms, steps=8, progress=LATE)
    assert history[-1] < history[0]
    inference_path = tmp_path / "trained.safetensors"
    task.export(inference_path, model.state_dict(), {})
    saved, config, _ = load_checkpoint(inference_path)
    assert set(saved) == set(Networks(config).state_dict())
    assert task.sheet(model, rooms, generator()).width > 8 * small.IMAGE


def test_targets_that_are_no_whole_groups_are_refused():
    task = video_task()
    config = replace(task.config, data=replace(task.config.data, target_views=6))
    coders = {
        config.model.target_autoencoder: task.target_autoencoder,
        config.model.context_autoencoder: task.context_autoencoder,
    }
    with pytest.raises(ValueError, match="target_views 6 must be a multiple of 4"):
        SceneTokTask(config, coders)
