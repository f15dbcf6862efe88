"""Nodes that make point clouds and show them."""

from __future__ import annotations

from comfy_api.latest import Types, io

from ..scenetok_core.points.axes import AXES, check_axes
from ..scenetok_core.points.files import load_trimesh, save_glb, save_ply
from ..scenetok_core.points.fusion import PointFilters, fuse_points
from ..scenetok_core.points.turntable import turntable
from . import folders
from .sockets import (
    GeometrySocket,
    NodeProgress,
    PointsSocket,
    SceneCamerasSocket,
    SceneTokensSocket,
    fault,
    fps_input,
    image_from_frames,
    known,
    read_geometry,
    read_points,
    read_tokens,
    video_of,
)

_CATEGORY = "SceneTok/depth"
_PREFIX = "points/SceneTok"
_STANDARD = PointFilters()
_FileSocket = getattr(io, "File3DPLY", io.String)  # ComfyUI 0.23 has it


def _share_input(name: str, default: float, step: float, tooltip: str) -> io.Float.Input:
    """A filter's setting between 0 and 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=step, tooltip=tooltip)


class MakePointCloud(io.ComfyNode):
    """Geometry -> point cloud and its file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_PointCloud",
            display_name="Point Cloud",
            category=_CATEGORY,
            description="Joins the depth of all frames to one coloured point cloud and saves it below the output "
            "folder. Takes the geometry of Depth Head and that of ComfyUI's Depth Anything 3.",
            inputs=[
                GeometrySocket.Input(
                    "geometry",
                    tooltip="From Depth Head, or from Run Depth Anything 3 (mode multiview, or one picture).",
                ),
                _share_input(
                    "min_confidence",
                    _STANDARD.min_confidence,
                    0.05,
                    "Pixels of less confidence are left out (0 to 1). That of Depth Anything 3 is stretched to 0 to 1, "
                    "picture by picture.",
                ),
                _share_input(
                    "edge",
                    _STANDARD.edge,
                    0.01,
                    "Leaves out pixels at the edges of things, where depth may lie between two surfaces (0 to 1): how "
                    "far inverse depth may lie from the line through its neighbours, as a share of it.\n- 0: off\n"
                    "- less: stricter",
                ),
                _share_input(
                    "agree",
                    _STANDARD.agree,
                    0.01,
                    "Keeps a point if another frame has the same depth there, up to this share of it (0 to 1).\n"
                    "- 0: off; a single picture is not asked",
                ),
                io.Float.Input(
                    "voxel",
                    default=_STANDARD.voxel,
                    min=0.0,
                    max=1.0,
                    step=0.0005,
                    round=False,
                    tooltip="Side of the cells whose points become one, as a share of the scene's extent (0 to 1).\n"
                    "- 0: every pixel is a point",
                ),
                io.Int.Input(
                    "max_points",
                    default=_STANDARD.max_points,
                    min=1,
                    max=20_000_000,
                    tooltip="Most points (1 to 20 million); of more, an even choice is kept.",
                    **known(io.Int.Input, advanced=True),
                ),
                io.Combo.Input(
                    "axes",
                    options=list(AXES),
                    default="upright",
                    tooltip="Axes of the file.\n- upright: glTF's, y up, the first camera looks along -z\n- flipped: y "
                    "and z of the cameras' world with the other sign, as ComfyUI's own geometry nodes do\n- input: the "
                    "world of the cameras unchanged",
                ),
                io.Boolean.Input(
                    "glb",
                    default=False,
                    tooltip="Write a GLB beside the PLY, for glTF viewers; needs `pip install trimesh`.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default=_PREFIX,
                    tooltip="Path below ComfyUI's output folder; a number and .ply are added.",
                ),
                SceneCamerasSocket.Input(
                    "cameras",
                    optional=True,
                    tooltip="Used instead of the geometry's cameras, one per picture: for depth whose cameras are "
                    "known better from elsewhere.",
                ),
            ],
            outputs=[
                PointsSocket.Output(display_name="points", tooltip="The point cloud, for Point Cloud Turntable."),
                io.String.Output(display_name="file", tooltip="Name of the PLY below the output folder."),
                _FileSocket.Output(
                    display_name="model_3d",
                    tooltip="The PLY for Preview Point Cloud and other 3D nodes; before ComfyUI 0.23, its path.",
                ),
                io.Int.Output(display_name="count", tooltip="Number of points."),
            ],
            is_output_node=True,
            **known(io.Schema, search_aliases=["pointcloud", "ply", "glb", "unproject", "3d", "export"]),
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None, axes: str | None = None) -> bool | str:
        """Refuse paths outside the output folder, and unknown axes, before anything runs."""
        known_axes = fault(check_axes, axes)
        if known_axes is not True:
            return known_axes
        return fault(lambda prefix: folders.inside(prefix, folders.output_folder()), filename_prefix)

    @classmethod
    def execute(
        cls,
        geometry: object,
        min_confidence: float,
        edge: float,
        agree: float,
        voxel: float,
        max_points: int,
        axes: str,
        glb: bool,
        filename_prefix: str,
        cameras: object = None,
    ) -> io.NodeOutput:
        """Fuse the frames, write the file and list it for the history."""
        writers = {".ply": save_ply}
        if glb:
            load_trimesh()  # before the work that its absence would waste
            writers[".glb"] = save_glb
        posed, path = read_geometry(geometry, cameras), folders.new_path(filename_prefix, ".ply")
        cloud = fuse_points(posed, PointFilters(min_confidence, edge, agree, voxel, max_points), NodeProgress())
        files = {suffix: path.with_suffix(suffix) for suffix in writers}
        for suffix, write in writers.items():
            write(files[suffix], cloud, axes)
        name = path.relative_to(folders.output_folder()).as_posix()
        model_3d = str(path) if _FileSocket is io.String else Types.File3D(str(path), "ply")
        listed = [folders.listing(file) for file in files.values()]
        return io.NodeOutput(cloud.to_dict(), name, model_3d, len(cloud), ui={"3d": listed})


class Turntable(io.ComfyNode):
    """Point cloud -> pictures and video from all around."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs of the node."""
        return io.Schema(
            node_id="SceneTok_PointCloudTurntable",
            display_name="Point Cloud Turntable",
            category=_CATEGORY,
            description="One turn around a point cloud, with the cameras that saw it in blue and those that the scene "
            "was encoded from in red. Surfaces are drawn on the side that was seen, so walls do not hide a room.",
            inputs=[
                PointsSocket.Input("points", tooltip="From Point Cloud."),
                io.Int.Input("frames", default=64, min=1, max=1024, tooltip="Pictures of the turn (1 to 1024)."),
                io.Int.Input(
                    "size",
                    default=512,
                    min=16,
                    max=2048,
                    step=16,
                    tooltip="Side of the pictures in pixels (16 to 2048).",
                ),
                io.Float.Input(
                    "elevation",
                    default=30.0,
                    min=-90.0,
                    max=90.0,
                    step=5.0,
                    tooltip="How far above the points the viewer is, in degrees (-90 to 90).",
                ),
                io.Boolean.Input("frustums", default=True, tooltip="Draw the cameras; of many, an even choice of 12."),
                fps_input(),
                SceneTokensSocket.Input(
                    "tokens", optional=True, tooltip="The scene: the cameras that it was encoded from are drawn in red."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures as a batch; values 0 to 1."),
                io.Video.Output(display_name="video", tooltip="The same as a video, for Save Video."),
            ],
            **known(io.Schema, search_aliases=["point cloud preview", "orbit", "frustum"]),
        )

    @classmethod
    def execute(
        cls,
        points: object,
        frames: int,
        size: int,
        elevation: float,
        frustums: bool,
        fps: float,
        tokens: object = None,
    ) -> io.NodeOutput:
        """Draw the pictures."""
        inputs = None if tokens is None else read_tokens(tokens).cameras
        pictures = turntable(
            read_points(points),
            inputs,
            frames=frames,
            size=size,
            elevation=elevation,
            frustums=frustums,
            progress=NodeProgress(),
        )
        images = image_from_frames(pictures)
        return io.NodeOutput(images, video_of(images, fps))
