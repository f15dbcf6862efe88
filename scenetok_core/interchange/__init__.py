"""Cameras in the conventions of other tools, as values in memory; `docs/cameras.md` has them side by side.

Files are in `scenetok_core/captures`.
"""

from __future__ import annotations

from .cameractrl import from_cameractrl, from_realestate_text, to_cameractrl
from .depth_anything import from_depth_anything
from .keys import insert_key
from .matrices import from_matrices, to_matrices
from .threejs import VIEWER_FOV, from_load3d, place_at, to_load3d
from .viewer_fit import LAYOUTS, viewer_fit
from .wan import to_wan

__all__ = [
    "LAYOUTS",
    "VIEWER_FOV",
    "from_cameractrl",
    "from_depth_anything",
    "from_load3d",
    "from_matrices",
    "from_realestate_text",
    "insert_key",
    "place_at",
    "to_cameractrl",
    "to_load3d",
    "to_matrices",
    "to_wan",
    "viewer_fit",
]
