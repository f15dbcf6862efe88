"""Keys of a camera path, collected one by one."""

from __future__ import annotations

import torch

from ..camera import fit_cameras
from ..trajectories.framing import one_scene
from ..types import Cameras


def insert_key(keys: Cameras | None, key: Cameras, place: int = -1) -> Cameras:
    """Keys with one more.

    Args:
        keys: the keys so far; None: there are none.
        key: one camera. Its intrinsics are fitted to the picture size of `keys`.
        place: what number the key gets (0 = first); -1 or more than there are: the last.

    Raises:
        ValueError: several cameras as a key, keys of several scenes, or a place below -1.
    """
    if len(key) != 1:
        raise ValueError(f"expected one camera as a key, got {len(key)}")
    if place < -1:
        raise ValueError(f"the place of a key must be 0 or more, or -1 for the end, got {place}")
    key = one_scene(key)
    if keys is None:
        return key
    keys = one_scene(keys)
    key = key if keys.size is None else fit_cameras(key, keys.size)
    at = len(keys) if place == -1 else min(place, len(keys))
    c2w, K = (torch.cat([old[:at], new, old[at:]]) for old, new in ((keys.c2w, key.c2w), (keys.K, key.K)))
    return keys.replace(c2w=c2w, K=K, names=())
