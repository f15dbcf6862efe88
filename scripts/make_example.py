"""Make the example capture of the repository: `python -m scripts.make_example`.

A room that no training run has seen (its seed is below `HELD_OUT_SEEDS`). Input views from a walk, and as held-out
truth the frames of a path that swings away from that walk, both as pictures with nerfstudio's `transforms.json`; one
photograph, and the walk as a video, without poses; the scene that the shipped model makes of the input views.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import ExifTags, Image
from torch import Tensor

from scenetok_core import SceneTok, open_capture
from scenetok_core.camera import fit_views
from scenetok_core.captures import write_transforms
from scenetok_core.pictures.sheets import to_image
from scenetok_core.pictures.video import write_video
from scenetok_core.scene_info import annotate
from scenetok_core.types import Cameras
from scenetok_core.weights.checkpoints import save_scene
from training.data.rooms import Rooms, RoomsConfig
from training.data.scenes import Scenes
from training.data.walks import WalkStyle, clearance

ROOT = Path(__file__).resolve().parent.parent
FOLDER, CHECKPOINT = ROOT / "workflows" / "example_capture", ROOT / "checkpoints" / "scenetok-tiny.safetensors"
SEED = 307
SIZE = 192
FRAMES = 24
INPUTS = 8
SIDEWAYS_M, UPWARDS_M, TURN_DEGREES = 0.45, 0.25, 14.0
QUALITY = 88
LEAST_CLEARANCE_M = 0.2
PHOTOGRAPH_SIZE = (384, 512)  # (height, width) in pixels
WALK_SIZE, WALK_FRAMES, WALK_FPS = (288, 384), 48, 12
FOCAL_ON_FILM_MM = 28  # of the photograph, as its EXIF data say
FILM_DIAGONAL_MM = math.hypot(36, 24)


def main() -> None:
    """Render and write both captures, and one photograph."""
    rooms = Rooms(RoomsConfig(image_size=SIZE, supersample=3, walk=WalkStyle(length_m=(1.8, 3.0))))
    scene = rooms.scenes(SEED, 1)
    walk = rooms.walk(scene, SEED, FRAMES)
    swung = walk.replace(c2w=swing(walk.c2w))
    chosen = torch.linspace(0, FRAMES - 1, INPUTS).round().long().tolist()
    for file, folder, cameras in (("transforms.json", "images", walk[chosen]), ("heldout.json", "heldout", swung)):
        frames, depth = rooms.render(scene, cameras)
        free = float(clearance(scene, cameras.centers[:, None, :, ::2]))
        assert free > LEAST_CLEARANCE_M and float(depth.min()) > 0, f"the path comes within {free:.2f} m of things"
        write_capture(file, folder, frames[0], Cameras(cameras.c2w[0], cameras.K[0], (SIZE, SIZE), unit="metric"))
    write_photograph(rooms, scene, walk.c2w[:, :1])
    write_walk(rooms, scene)
    write_scene()


def write_photograph(rooms: Rooms, scene: Scenes, c2w: Tensor) -> None:
    """Write what the first camera [1, 1, 4, 4] sees as a JPEG file that tells its focal length, and no pose."""
    height, width = PHOTOGRAPH_SIZE
    focal = FOCAL_ON_FILM_MM / FILM_DIAGONAL_MM * math.hypot(height, width) / width
    K = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1.0]])
    frames, _ = rooms.render(scene, Cameras(c2w, K[None, None], (width, width)), width)
    top = (width - height) // 2
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = FOCAL_ON_FILM_MM
    picture = to_image(frames[0, 0, :, top : top + height])
    picture.save(FOLDER / "photograph.jpg", quality=QUALITY, exif=exif)


def write_walk(rooms: Rooms, scene: Scenes) -> None:
    """Write the walk as a video whose pictures are large enough for features."""
    height, width = WALK_SIZE
    frames, _ = rooms.render(scene, rooms.walk(scene, SEED, WALK_FRAMES), width)
    top = (width - height) // 2
    write_video(FOLDER / "walk.mp4", frames[0, :, :, top : top + height], WALK_FPS)


def write_scene() -> None:
    """Write what the shipped model makes of the input views, with the first of them as its thumbnail."""
    model = SceneTok.load(CHECKPOINT)
    views = open_capture(FOLDER / "transforms.json").load()
    side = model.config.image_size
    scene = model.encode(fit_views(views, (side, side)))
    notes = "The example room of this pack, from eight pictures."
    save_scene(FOLDER / "room.safetensors", annotate(scene, title="Example room", notes=notes, picture=views.rgb[0]))


def swing(c2w: Tensor) -> Tensor:
    """The walk [1, V, 4, 4] with one sideways and vertical wave around it and the gaze turned against it."""
    phase = torch.linspace(0, 2 * math.pi, c2w.shape[1])
    turn = math.radians(TURN_DEGREES) * -phase.sin()
    yaw = torch.eye(4).repeat(1, len(phase), 1, 1)
    yaw[..., 0, 0] = yaw[..., 2, 2] = turn.cos()
    yaw[..., 0, 2], yaw[..., 2, 0] = turn.sin(), -turn.sin()
    moved = c2w @ yaw
    moved[..., :3, 3] += c2w[..., :3, 0] * (SIDEWAYS_M * phase.sin())[:, None]
    moved[..., :3, 3] -= c2w[..., :3, 1] * (UPWARDS_M * (1 - phase.cos()) / 2)[:, None]
    return moved


def write_capture(file: str, folder: str, frames: Tensor, cameras: Cameras) -> None:
    """Write the frames [V, 3, H, W] as JPEG files and their cameras beside them."""
    (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{folder}/{i:03d}.jpg" for i in range(len(frames))]
    for frame, name in zip(frames, names, strict=True):
        to_image(frame).save(FOLDER / name, quality=QUALITY)
    write_transforms(FOLDER / file, cameras, names, (SIZE, SIZE))


if __name__ == "__main__":
    main()
