"""The ComfyUI nodes: schemas and conversions around one call of `scenetok_core` each."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders
from .cameras import CameraTrajectory, SingleViewCamera, TransferTrajectory
from .check import LeaveOneOut
from .depth import LoadDepthHead, MeasureDepth
from .encode import EncodeViews
from .estimate import EstimateCameras, FramesFromVideo, LoadPictures
from .generate import SceneGenSample, SceneGenSweep
from .interchange import CamerasFromCameraCtrl, CamerasFromDA3, CamerasFromExtrinsics
from .interchange_out import CamerasToCameraCtrl, CamerasToExtrinsics, CamerasToLoad3D, CamerasToWan, SaveCameras
from .loaders import LoadGenerator, LoadModel, LoadPhotograph, LoadViews
from .path_editor import PathEditor
from .path_tools import EditTrajectory, JoinTrajectories, PathPreview
from .points import MakePointCloud, Turntable
from .render import RenderTrajectory, RenderUncertainty
from .scenes import LoadSceneTokens, SaveSceneTokens, SceneInfo
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
    SceneInfo,
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
    LoadDepthHead,
    MeasureDepth,
    MakePointCloud,
    Turntable,
    FramesFromVideo,
    LoadPictures,
    EstimateCameras,
    LeaveOneOut,
]


class SceneTokExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes, after the pack's model folder is known to ComfyUI."""
        folders.register_model_folder()
        return NODES
