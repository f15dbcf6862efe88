"""The ComfyUI nodes: schemas and conversions around one call of `scenetok_core` each."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders
from .cameras import CameraTrajectory, SingleViewCamera, TransferTrajectory
from .check import LeaveOneOut
from .encode import EncodeViews, SaveSceneTokens
from .estimate import EstimateCameras, FramesFromVideo
from .generate import SceneGenSample, SceneGenSweep
from .loaders import LoadGenerator, LoadModel, LoadPhotograph, LoadSceneTokens, LoadViews
from .render import RenderTrajectory, RenderUncertainty
from .subsets import ContactSheet, TokenMask, TokenSweep

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    LoadViews,
    LoadPhotograph,
    EncodeViews,
    CameraTrajectory,
    TransferTrajectory,
    RenderTrajectory,
    RenderUncertainty,
    SaveSceneTokens,
    LoadSceneTokens,
    TokenMask,
    TokenSweep,
    ContactSheet,
    LoadGenerator,
    SingleViewCamera,
    SceneGenSample,
    SceneGenSweep,
    FramesFromVideo,
    EstimateCameras,
    LeaveOneOut,
]


class SceneTokExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes, after the pack's model folder is known to ComfyUI."""
        folders.register_model_folder()
        return NODES
