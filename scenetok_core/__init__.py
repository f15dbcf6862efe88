"""SceneTok: posed pictures to compressed scene tokens, and pictures along any camera path from them.

from scenetok_core import SceneTok, open_capture, make_trajectory
"""

from .captures import open_capture
from .checkpoints import load_scene, save_scene
from .configs import DepthConfig, SceneGenConfig, SceneTokConfig
from .depth import DepthHead
from .generation import SceneGenerator
from .pipeline import SceneTok
from .trajectories import make_trajectory
from .types import Cameras, SceneTokens, Views

__all__ = [
    "Cameras",
    "DepthConfig",
    "DepthHead",
    "SceneGenConfig",
    "SceneGenerator",
    "SceneTok",
    "SceneTokConfig",
    "SceneTokens",
    "Views",
    "load_scene",
    "make_trajectory",
    "open_capture",
    "save_scene",
]
