"""Draw the camera paths that docs/trajectories.md shows: `python -m scripts.trajectory_pictures`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scenetok_core.captures import open_capture
from scenetok_core.pictures.canvas import Canvas
from scenetok_core.pictures.path_glyphs import BACKGROUND, TEXT
from scenetok_core.pictures.path_preview import draw_path, draw_view
from scenetok_core.pictures.sheets import save_image
from scenetok_core.trajectories import make_trajectory

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
CAPTURE = ROOT / "workflows" / "example_capture" / "transforms.json"
FRAMES, SIZE = 49, 192
COLUMNS, WIDTH, HEADING, GAP = 5, 300, 34, 8
# What the row of small pictures shows: preset, its plane, its options.
PATHS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("follow", "Top", {}),
    ("loop", "Top", {}),
    ("orbit", "Top", {"degrees": 90.0}),
    ("arc", "Top", {"degrees": 60.0}),
    ("spiral", "Front", {"radius": 0.25}),
    ("dolly", "Top", {}),
    ("zoom", "Top", {"dolly_zoom": True, "zoom": 1.6}),
    ("pan", "Top", {"degrees": 60.0}),
    ("tilt", "Side", {"degrees": 45.0}),
    (
        "keyframes",
        "Top",
        {"keys": '[{"view": 0}, {"position": [0.3, 1.2, -0.7], "look_at": [-2, 1, -0.9]}, {"view": 7}]'},
    ),
)


def main() -> None:
    """Write both pictures."""
    views = open_capture(CAPTURE).load(size=SIZE)
    orbit = make_trajectory("orbit", views.cameras, FRAMES, degrees=-140.0)
    save_image(IMAGES / "path_preview.png", draw_path(orbit, views.cameras, views.rgb[0], width=960))
    tiles = []
    for preset, plane, options in PATHS:
        path = make_trajectory(preset, views.cameras, FRAMES, **options)
        tiles.append((preset, draw_view(path, views.cameras, plane, WIDTH)))
    save_image(IMAGES / "trajectories.png", _sheet(tiles))


def _sheet(tiles: list[tuple[str, Image.Image]]) -> Image.Image:
    height = max(tile.height for _, tile in tiles) + HEADING
    rows = -(-len(tiles) // COLUMNS)
    sheet = Canvas((COLUMNS * (WIDTH + GAP) + GAP, rows * (height + GAP) + GAP), BACKGROUND)
    for index, (name, tile) in enumerate(tiles):
        left, top = GAP + index % COLUMNS * (WIDTH + GAP), GAP + index // COLUMNS * (height + GAP)
        sheet.text((left + 2, top + 5), name, TEXT, 22)
        sheet.paste(tile, (left, top + HEADING))
    return sheet.image()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
