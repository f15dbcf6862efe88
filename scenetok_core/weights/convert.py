"""Released and trained checkpoints of any form -> one safetensors file that describes itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..configs import ReleasedConfig, SceneGenConfig, SceneTokConfig
from .checkpoints import check_tensors, identify, read_tensors, save_checkpoint
from .pickles import PICKLED, read_pickled

_CHUNK = 16 * 2**20  # bytes


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    preset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ReleasedConfig]:
    """Write the networks of a released checkpoint with their configuration; nothing of a pickled file is run.

    Frozen parts, position tables and whatever else a training tool stored are left out. The file appears whole or not
    at all; its metadata holds the configuration, the source's name and its SHA-256.

    Args:
        source: a pickled checkpoint (`.ckpt`, `.pt`, `.pth`, `.bin`) or a safetensors file, with the released names.
        target: the file to write.
        dtype: of the floating-point weights.
        preset: the released model it is; None takes the stored configuration, else recognises it by its tensors and,
            where these fit several, its name.
        progress: called with (bytes read, bytes in all) while the source is read.

    Returns:
        The configuration that was written, then others that fit the tensors as well.

    Raises:
        ValueError: unreadable source, no SceneTok model, unknown preset, or missing, unexpected or mis-shaped tensors
            (at most five of each are named, with the preset tried).
        OSError: the target cannot be written.
    """
    source = Path(source)
    pickled = source.suffix.lower() in PICKLED
    tensors, metadata = (read_pickled(source), {}) if pickled else read_tensors(source)
    kept, found = identify(source, tensors, metadata, preset)
    configs = [config for config in found if isinstance(config, SceneTokConfig | SceneGenConfig)]
    if not configs:
        raise ValueError(
            f"{source.name} is of the family {found[0].family!r}, which was never released in another form; use it as "
            "it is"
        )
    check_tensors(kept, configs[0])
    origin = {**metadata, "source": source.name, "source_sha256": file_hash(source, progress)}
    save_checkpoint(target, {name: _owned(tensor, dtype) for name, tensor in kept.items()}, configs[0], origin)
    return configs


def _owned(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy with memory of its own: safetensors refuses tensors that share it."""
    return tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


def file_hash(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits; `progress` gets (bytes read, bytes in all)."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()
