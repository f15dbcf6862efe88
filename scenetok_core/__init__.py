"""SceneTok: posed pictures to compressed scene tokens, and pictures along any camera path from them.

from scenetok_core import SceneTok, open_capture, make_trajectory
"""

from .captures import open_capture
from .configs import DepthConfig, Dit3dConfig, RaeConfig, SceneGenConfig, SceneTokConfig
from .depth import DepthHead
from .families import SceneModel, open_generator, open_model
from .generation import SceneGenerator
from .latent_generation import LatentGenerator
from .pipeline import SceneTok
from .rae import Rae
from .trajectories import make_trajectory
from .types import Cameras, SceneTokens, Views
from .weights.checkpoints import load_scene, save_scene

__all__ = [
    "Cameras",
    "DepthConfig",
    "DepthHead",
    "Dit3dConfig",
    "LatentGenerator",
    "Rae",
    "RaeConfig",
    "SceneGenConfig",
    "SceneGenerator",
    "SceneModel",
    "SceneTok",
    "SceneTokConfig",
    "SceneTokens",
    "Views",
    "load_scene",
    "make_trajectory",
    "open_capture",
    "open_generator",
    "open_model",
    "save_scene",
]
