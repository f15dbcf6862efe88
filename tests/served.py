"""What tests of the nodes share: a capture on the server, node numbers of the main workflow, files that were saved."""

import json
import urllib.request

from scenetok_core.captures import write_transforms
from scenetok_core.pictures.sheets import save_image
from tests import small

VIEWS, FRAMES, STEPS = 6, 7, 3
LOAD, VIEW, ENCODE, PATH, RENDER, VIDEO, SAVE = "1", "2", "3", "4", "5", "6", "8"


def write_capture(folder, count=VIEWS, file_names=None, size=(small.IMAGE, small.IMAGE)):
    views = small.views(count, size)
    names = file_names or [f"images/{i:03}.png" for i in range(count)]
    for name, picture in zip(names, views.rgb, strict=True):
        save_image(folder / name, picture)
    write_transforms(folder / "transforms.json", views.cameras, names, size)


def saved_file(comfy, listed):
    return comfy.base / listed["type"] / listed["subfolder"] / listed["filename"]


def upload(comfy, path, **fields):
    """Send a file into the input folder, as the page does; what the server answers."""
    boundary = "scenetok-test-boundary"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
    body = "".join([*parts, head]).encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(f"{comfy.url}/upload/image", body, headers)) as answer:
        return json.load(answer)
