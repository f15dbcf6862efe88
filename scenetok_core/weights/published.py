"""The published weights of autoencoders, found in folders and read without running anything of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders import Autoencoder, build_autoencoder, published_files
from .checkpoints import read_tensors
from .pickles import PICKLED, read_pickled


def load_autoencoder(
    name: str,
    folders: Sequence[Path],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Autoencoder:
    """The autoencoder a configuration names, with its weights if it has any.

    Args:
        name: as in a configuration, see `build_autoencoder`.
        folders: where its published file may lie; the first one that holds it counts.
        device: of its weights.
        dtype: of its weights.

    Raises:
        ValueError: an unknown name, no such file in the folders, a damaged one, or weights that do not fit.
        ImportError: diffusers, which some autoencoders need, is missing.
    """
    files = published_files(name)
    if not files:
        return build_autoencoder(name)
    found = next((path for folder in folders for file in files if (path := folder / file).is_file()), None)
    if found is None:
        places = " or ".join(str(folder) for folder in folders)
        raise ValueError(f"autoencoder {name!r} needs {' or '.join(files)}; put it into {places}")
    tensors = read_pickled(found) if found.suffix.lower() in PICKLED else read_tensors(found)[0]
    state: dict[str, Tensor] = {key: tensor.to(device) for key, tensor in tensors.items()}
    return build_autoencoder(name, state, dtype)
