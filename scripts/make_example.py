"""Make the example capture of the repository: `python -m scripts.make_example`.

A room that no training run has seen (its seed is below `HELD_OUT_SEEDS`): a few input views, and the frames of a path
between them as held-out truth, both as pictures with nerfstudio's `transforms.json`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from scenetok_core.captures import write_transforms
from scenetok_core.sheets import to_image
from scenetok_core.types import Cameras
from training.data.rooms import Rooms, RoomsConfig

FOLDER = Path(__file__).resolve().parent.parent / "workflows" / "example_capture"
SEED = 307
SIZE = 192
FRAMES = 36
INPUTS = [0, 5, 10, 15, 20, 25, 30, 35]
QUALITY = 88


def main() -> None:
    """Render and write both captures."""
    rooms = Rooms(RoomsConfig(image_size=SIZE, supersample=3, walk_length_m=(1.8, 3.0)))
    scene = rooms.scenes(SEED, 1)
    walk = rooms.walk(scene, SEED, FRAMES)
    frames = rooms.render(scene, walk)[0][0]
    cameras = Cameras(walk.c2w[0], walk.K[0], size=(SIZE, SIZE), unit="metric")
    held_out = [i for i in range(FRAMES) if i not in INPUTS]
    write_capture("transforms.json", "images", frames, cameras, INPUTS)
    write_capture("heldout.json", "heldout", frames, cameras, held_out)


def write_capture(file: str, folder: str, frames: Tensor, cameras: Cameras, chosen: list[int]) -> None:
    """Write the chosen frames as JPEG files and their cameras beside them."""
    (FOLDER / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{folder}/{i:03d}.jpg" for i in chosen]
    for i, name in zip(chosen, names, strict=True):
        picture: Image.Image = to_image(frames[i])
        picture.save(FOLDER / name, quality=QUALITY)
    write_transforms(FOLDER / file, cameras[chosen], names, (SIZE, SIZE))


if __name__ == "__main__":
    main()
