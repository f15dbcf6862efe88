"""What tests of the nodes share: a capture on the server, node numbers of the main workflow, files that were saved."""

from scenetok_core.captures import write_transforms
from scenetok_core.sheets import save_image
from tests import small

VIEWS, FRAMES, STEPS = 6, 7, 3
LOAD, VIEW, ENCODE, PATH, RENDER, VIDEO, SAVE = "1", "2", "3", "4", "5", "6", "8"


def write_capture(folder, count=VIEWS, file_names=None):
    views = small.views(count)
    names = file_names or [f"images/{i:03}.png" for i in range(count)]
    for name, picture in zip(names, views.rgb, strict=True):
        save_image(folder / name, picture)
    write_transforms(folder / "transforms.json", views.cameras, names, (small.IMAGE, small.IMAGE))


def saved_file(comfy, listed):
    return comfy.base / listed["type"] / listed["subfolder"] / listed["filename"]
