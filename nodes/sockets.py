"""Socket types, and the conversions between what travels on sockets and the values of `scenetok_core`."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, get_args

import comfy.model_management
import comfy.utils
from comfy_api.latest import InputImpl, Types, io
from PIL import Image
from torch import Tensor

from ..scenetok_core import Cameras, SceneTokens, Views
from ..scenetok_core.configs import SolverName
from ..scenetok_core.pictures.sheets import to_image
from ..scenetok_core.points.fusion import PointCloud
from ..scenetok_core.points.geometry import PosedDepth, from_da3

SceneTokensSocket = io.Custom("SCENE_TOKENS")
SceneCamerasSocket = io.Custom("SCENE_CAMERAS")
ModelSocket = io.Custom("SCENETOK_MODEL")
GeneratorSocket = io.Custom("SCENEGEN_MODEL")
DepthHeadSocket = io.Custom("DEPTH_HEAD")
GeometrySocket = io.Custom("DA3_GEOMETRY")  # of ComfyUI's own Depth Anything 3 nodes
PointsSocket = io.Custom("SCENE_POINTS")

MODEL_SOLVER = "model"  # choice of `solver_input`
LARGEST_GUIDANCE = 30.0
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
LARGEST_FIRST_SEED = 0xFFFFFFFF  # where seeds count up from the first
_FINEST_FPS = 1001  # largest denominator of a frame rate, as in 30000/1001
_PREVIEW_PIXELS = 512
_PREVIEW_FRAMES = 9
_PREVIEW_EVERY_S = 0.3
_PREVIEW_SHARE = 0.1  # of the running time, at most
_ASPECT_TOLERANCE = 0.02


def known(make: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Those of `options` that the running ComfyUI accepts; newer ones would stop an older version."""
    parameters = inspect.signature(make).parameters
    return {name: value for name, value in options.items() if name in parameters}


def tokens_input() -> Any:
    """Scene tokens that are changed or saved."""
    return SceneTokensSocket.Input("tokens", tooltip="From Encode Views or Load Scene Tokens.")


def steps_input(tooltip: str) -> io.Int.Input:
    """Sampling steps; 0 stands for the model's own number."""
    return io.Int.Input("steps", default=0, min=0, max=1000, tooltip=tooltip)


def guidance_input(tooltip: str, advanced: bool = True) -> io.Float.Input:
    """Classifier-free guidance; 0 stands for the model's own value."""
    more = known(io.Float.Input, advanced=True) if advanced else {}
    return io.Float.Input("guidance", default=0.0, min=0.0, max=LARGEST_GUIDANCE, step=0.1, tooltip=tooltip, **more)


def scale_input(tooltip: str) -> io.Float.Input:
    """Scene scale; 0 stands for the automatic one."""
    return io.Float.Input(
        "scene_scale",
        default=0.0,
        min=0.0,
        max=10000.0,
        step=0.001,
        tooltip=tooltip,
        **known(io.Float.Input, advanced=True),
    )


def seed_input(tooltip: str, largest: int = LARGEST_SEED) -> io.Int.Input:
    """Seed of random numbers, which the page may change after every run."""
    return io.Int.Input("seed", default=0, min=0, max=largest, control_after_generate=True, tooltip=tooltip)


def solver_input() -> io.Combo.Input:
    """The choice of a solver; optional, so that workflows from before it was offered still run."""
    return io.Combo.Input(
        "solver",
        options=[MODEL_SOLVER, *get_args(SolverName)],
        default=MODEL_SOLVER,
        optional=True,
        tooltip="How a step follows the flow.\n- model: the model's own solver\n- euler: the reference\n- ab2: second "
        "order, as fast; closer to the result of many steps where a model's flow is smooth",
        **known(io.Combo.Input, advanced=True),
    )


def read_solver(choice: str) -> str | None:
    """The solver that `solver_input` chose; None: the model's own."""
    return None if choice == MODEL_SOLVER else choice


def fault(check: Callable[[str], object], value: str | None) -> bool | str:
    """What `validate_inputs` answers: True, or the message of the `ValueError` that `check(value)` raises.

    The value of a linked input is None, as it is not known yet; `execute` checks it.
    """
    try:
        if value is not None:
            check(value)
    except ValueError as error:
        return str(error)
    return True


def always_again() -> float:
    """What `fingerprint_inputs` answers for linked inputs: unequal to itself, so no earlier result counts."""
    return math.nan


def views_from_sockets(images: Tensor, cameras: object) -> Views:
    """An IMAGE batch [V, H, W, 3 or 4] and SCENE_CAMERAS as views.

    Raises:
        ValueError: no SCENE_CAMERAS, another number of cameras than pictures, or pictures of another shape than those
            the cameras were made for.
    """
    posed = read_cameras(cameras)
    height, width = images.shape[1:3]
    if posed.size is not None and abs(height * posed.size[1] / (width * posed.size[0]) - 1) > _ASPECT_TOLERANCE:
        raise ValueError(
            f"the cameras belong to pictures of {posed.size[1]}x{posed.size[0]}, got {width}x{height}: cropping or "
            "stretching between Load Views and this node breaks their field of view; resize with equal proportions"
        )
    return Views(images[..., :3].movedim(-1, -3).float(), posed.replace(size=(height, width)))


def image_from_frames(frames: Tensor) -> Tensor:
    """Frames [T, 3, H, W] as an IMAGE batch [T, H, W, 3] where ComfyUI keeps intermediate results."""
    return frames.movedim(-3, -1).contiguous().to(comfy.model_management.intermediate_device())


def read_cameras(value: object) -> Cameras:
    """Cameras from a SCENE_CAMERAS socket. Raises `ValueError` for something else."""
    return Cameras.from_dict(_mapping("SCENE_CAMERAS", value))


def read_tokens(value: object) -> SceneTokens:
    """Scene tokens from a SCENE_TOKENS socket. Raises `ValueError` for something else."""
    return SceneTokens.from_dict(_mapping("SCENE_TOKENS", value))


def read_geometry(value: object, cameras: object) -> PosedDepth:
    """Posed depth from a DA3_GEOMETRY socket; SCENE_CAMERAS, where not None, replace its cameras.

    Raises:
        ValueError: something else, or what `from_da3` refuses.
    """
    return from_da3(_mapping("DA3_GEOMETRY", value), None if cameras is None else read_cameras(cameras))


def read_points(value: object) -> PointCloud:
    """A point cloud from a SCENE_POINTS socket. Raises `ValueError` for something else."""
    return PointCloud.from_dict(_mapping("SCENE_POINTS", value))


def video_of(images: Tensor, fps: float) -> Any:
    """An IMAGE batch [T, H, W, 3] as a VIDEO."""
    rate = Fraction(fps).limit_denominator(_FINEST_FPS)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=rate))


def fps_input() -> io.Float.Input:
    """Frames per second of a video."""
    tooltip = "Frames per second of the video (1 to 240)."
    return io.Float.Input("fps", default=24.0, min=1.0, max=240.0, step=1.0, tooltip=tooltip)


def _mapping(socket: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected {socket}, got {type(value).__name__}; connect a SceneTok node's output")
    return value


class NodeProgress:
    """Progress of the running node: its bar, preview pictures, and an exception as soon as the user cancels.

    Fits every progress callback of `scenetok_core`: (done, total) and (done, total, preview). A preview waits the
    longer, the longer the one before took, so that they slow down long work by about a tenth at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._clock = clock  # seconds
        self._next_preview_s = -math.inf

    def __call__(self, done: int, total: int, preview: Callable[[], Tensor] | None = None) -> None:
        """Report `done` of `total`; raises ComfyUI's interruption when the user cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        picture, began = None, self._clock()
        if preview is not None and began >= self._next_preview_s:
            picture = ("JPEG", mosaic(preview()), _PREVIEW_PIXELS)
            ended = self._clock()
            self._next_preview_s = ended + max(_PREVIEW_EVERY_S, (ended - began) * (1 / _PREVIEW_SHARE - 1))
        self._bar.update_absolute(done, total, picture)


def mosaic(frames: Tensor) -> Image.Image:
    """Up to nine evenly spaced frames of [T, 3, H, W] as one picture."""
    count = min(len(frames), _PREVIEW_FRAMES)
    chosen = [to_image(frames[i * (len(frames) - 1) // max(count - 1, 1)]) for i in range(count)]
    columns = next(side for side in (1, 2, 3) if side * side >= count)
    width, height = chosen[0].size
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height))
    for i, picture in enumerate(chosen):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet.resize((sheet.width * 2, sheet.height * 2)) if max(sheet.size) < _PREVIEW_PIXELS else sheet
