"""The ComfyUI nodes: schemas and conversions around one call of `scenetok_core` each."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders
from .cameras import CameraTrajectory, SingleViewCamera, TransferTrajectory
from .encode import EncodeViews, SaveSceneTokens
from .generate import SceneGenSample, SceneGenSweep
from .interchange import CamerasFromCameraCtrl, CamerasFromDA3, CamerasFromExtrinsics
from .interchange_out import CamerasToCameraCtrl, CamerasToExtrinsics, CamerasToLoad3D, CamerasToWan, SaveCameras
from .loaders import LoadGenerator, LoadModel, LoadPhotograph, LoadSceneTokens, LoadViews
from .path_editor import PathEditor
from .path_tools import EditTrajectory, JoinTrajectories, PathPreview
from .render import RenderTrajectory, RenderUncertainty
from .subsets import ContactSheet, TokenMask, TokenSweep
from .viewers import AddKeyframe, CamerasFromLoad3D

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    LoadViews,
    LoadPhotograph,
    EncodeViews,
    CameraTrajectory,
    PathEditor,
    TransferTrajectory,
    EditTrajectory,
    JoinTrajectories,
    PathPreview,
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
    CamerasFromLoad3D,
    AddKeyframe,
    CamerasFromExtrinsics,
    CamerasFromCameraCtrl,
    CamerasFromDA3,
    CamerasToLoad3D,
    CamerasToExtrinsics,
    CamerasToCameraCtrl,
    CamerasToWan,
    SaveCameras,
]


class SceneTokExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes, after the pack's model folder is known to ComfyUI."""
        folders.register_model_folder()
        return NODES
