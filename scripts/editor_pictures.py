"""Draw the pictures of the path editor: `python -m scripts.editor_pictures` (needs a browser, see `make test-browser`).

It opens the shipped workflow in a running ComfyUI, works in the editor, and saves what is to be seen.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect

from scenetok_core.files import replacing
from scripts import help_pictures
from tests.browser.editor import Editor
from tests.browser.page import ComfyPage, chromium
from tests.engine import ComfyServer, find_comfy
from tests.engine.workflows import WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
_TITLE, _EDGE = 140, 12  # pixels of the node above and beside its editor
_SHARPNESS = 1.5  # pixels of the picture per pixel of the page
_THUMBNAIL = (640, 640)


def node_picture(editor: Editor) -> Image.Image:
    """The whole node, as the page shows it."""
    box = editor.box(".st-editor")
    x, y = box["x"] - _EDGE, box["y"] - _TITLE
    width, height = box["width"] + 2 * _EDGE, box["height"] + _TITLE + _EDGE
    clip: FloatRect = {"x": x, "y": y, "width": width, "height": height}
    return Image.open(io.BytesIO(editor.comfy.page.screenshot(clip=clip))).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a JPEG."""
    with replacing(path) as partial:
        picture.save(partial, format="JPEG", quality=88)


def main() -> int:
    """Run the command line; returns the exit status."""
    workflow = json.loads((WORKFLOWS / "path_editor.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="scenetok_pictures_") as folder:
        engine = find_comfy(Path(folder))
        server = ComfyServer(engine, Path(folder) / "base", {"scenetok": ROOT}, ("--cpu",))
        with server, chromium() as browser:
            page = browser.new_page(viewport={"width": 1600, "height": 1000}, device_scale_factor=_SHARPNESS)
            editor = Editor.open(
                ComfyPage.open(page, server.url, "pictures", {"Comfy.VueNodes.Enabled": False}), workflow
            )
            editor.fill()
            editor.press("3")
            page.wait_for_timeout(1500)
            shown = node_picture(editor)
    save(shown, ROOT / "docs" / "images" / "path_editor.jpg")
    shown.thumbnail(_THUMBNAIL)
    save(shown, WORKFLOWS / "path_editor.jpg")
    help_pictures.save(shown, help_pictures.ASSETS / "SceneTok_PathEditor_page.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
