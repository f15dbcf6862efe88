"""The node of the camera path editor; its page is `web/js/path_editor.js`."""

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor

from ..scenetok_core.pictures.path_editor import edited_path, editor_scene, thumbnails
from ..scenetok_core.trajectories import read_keyed_path
from ..scenetok_core.views.seen import describe_seen
from .path_inputs import limit_input
from .path_tools import check_path, report_output
from .sockets import SceneCamerasSocket, fault, image_from_frames, known, read_cameras, views_from_sockets

_KEYFRAMES_HELP = """The path, as the editor writes it: a JSON list of keys, or {"keys": [...], "loop": false, \
"easing": "linear"}, in the capture's unit (axes: x right, y down, z forward).
- {"view": 3}: input camera 3 (0 = first)
- {"position": [x, y, z], "look_at": [x, y, z]}
- {"c2w": 4 x 4 matrix}
Each may have "fov": vertical field of view in degrees, and "speed": pace at the key, 1 = as the rest (0.05 to 20). \
Easing: linear, ease-in, ease-out, ease-in-out. Empty: along \
the input cameras."""


class PathEditor(io.ComfyNode):
    """Input cameras and the editor's text -> camera path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_PathEditor",
            display_name="Path Editor",
            category="SceneTok/cameras",
            description="A camera path made by hand: place, drag and order keys among the input cameras, play the "
            "path, see drafts of it. All of it is the text keyframes, so it works without the page, too.",
            inputs=[
                SceneCamerasSocket.Input("cameras", tooltip="The input cameras, from Load Views."),
                io.Int.Input(
                    "frames", default=48, min=1, max=4096, tooltip="Number of cameras, so of frames (1 to 4096)."
                ),
                io.String.Input("keyframes", default="", multiline=True, tooltip=_KEYFRAMES_HELP),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The input pictures, one per camera, to be shown in the editor. Unconnected: empty frames.",
                ),
                limit_input(),
            ],
            outputs=[
                SceneCamerasSocket.Output(
                    display_name="cameras",
                    tooltip="One camera per frame: OpenCV camera-to-world poses in the capture's unit.",
                ),
                report_output(),
            ],
            is_output_node=True,
            **known(io.Schema, search_aliases=["camera path", "keyframes", "spline editor", "camera animation"]),
        )

    @classmethod
    def validate_inputs(cls, keyframes: str | None = None) -> bool | str:
        """Refuse a broken text before anything runs."""
        return fault(read_keyed_path, keyframes)

    @classmethod
    def execute(
        cls,
        cameras: object,
        frames: int,
        keyframes: str,
        images: Tensor | None = None,
        limit_to_seen: bool = False,
    ) -> io.NodeOutput:
        """Compute the path, and what the page shows of it."""
        inputs = read_cameras(cameras)
        views = None if images is None else views_from_sockets(images, cameras)
        path, seen = check_path(edited_path(keyframes, inputs, frames), inputs, limit_to_seen)
        report = describe_seen(seen)
        scene = editor_scene(keyframes, inputs, path, seen) | {"report": report, "pictures": []}
        if views is not None:
            small, numbers = thumbnails(views.rgb)
            saved = ui.PreviewImage(image_from_frames(small)).as_dict()["images"]
            scene["pictures"] = [{"view": number, **file} for number, file in zip(numbers, saved, strict=True)]
        return io.NodeOutput(path.to_dict(), report, ui={"path_editor": [scene]})
