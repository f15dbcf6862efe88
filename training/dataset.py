"""Where the scenes of a run come from."""

from __future__ import annotations

import torch

from scenetok_core.autoencoders import latent_spec
from scenetok_core.configs import require
from training.config import TrainConfig
from training.data.loader import Dataset
from training.data.mixed import MixedSource
from training.data.rooms import Rooms
from training.data.scene_source import DrawShape
from training.data.source import VideoSource


def build_dataset(
    config: TrainConfig,
    device: torch.device,
    context_autoencoder: str,
    target_autoencoder: str,
    shape: DrawShape | None = None,
) -> Dataset:
    """The source of scenes that `data.kind` names, for a model with these autoencoders; rooms are made on `device`.

    `shape` draws sizes and numbers of views for every batch of videos, where they vary.

    Raises:
        ValueError: no data set there, one that does not fit the autoencoders, or other numbers of views than
            `data.context_views` and `data.target_views`.
    """
    data = config.data
    if data.kind == "rooms":
        return Rooms(data.rooms, device, compile=config.run.compile_rooms)
    assert data.videos is not None, "checked by DataConfig"
    views = data.videos.views
    frames = views.target_groups * latent_spec(target_autoencoder).group_frames
    require(
        data.target_views == frames,
        f"data.target_views is {data.target_views}, but data.videos.views.target_groups = {views.target_groups} of "
        f"{target_autoencoder!r} are {frames} frames",
    )
    source = MixedSource if data.videos.sets else VideoSource
    return source(data.videos, context_autoencoder, target_autoencoder, shape)
