"""A posed photo capture on disk, and the one place where every format's frames become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from ..camera import crop_intrinsics, fit_image
from ..files import with_slashes
from ..types import Cameras, Views
from .distortion import Distortion, resample, undistorted_intrinsics, undistortion_grid
from .files import confined
from .images import find_picture, image_size, load_image, natural_key

_NAMES_IN_ERRORS = 5
_ASPECT_TOLERANCE = 0.01
_ROUNDING_PX = 1.5  # pictures downscaled by an integer lose up to a pixel per side


@dataclass(frozen=True, eq=False)
class Capture:
    """Posed pictures of one scene that stay on disk until `load`.

    Raises:
        ValueError: the per-view fields have different lengths.
    """

    images: tuple[Path, ...]  # V picture files
    c2w: Tensor  # [V, 4, 4] float64, OpenCV camera-to-world, in scene units
    K: Tensor  # [V, 3, 3] float64, of the pictures as stored (still distorted), row 0 divided by width, row 1 by height
    sizes: tuple[tuple[int, int], ...]  # V (height, width) in pixels of the files, after their EXIF orientation
    names: tuple[str, ...]  # V names, unique where the format allows
    root: Path  # the file or folder that was opened
    source: str  # name of the format
    unit: str = "relative"  # "metric" when the format says that scene units are metres
    lenses: tuple[Distortion | None, ...] = ()  # V lenses, None = pinhole; empty = all pinhole
    depths: tuple[Path | None, ...] = ()  # V depth pictures, or empty
    depth_scale: float = 1.0  # scene units per depth value
    camera_files: tuple[Path, ...] = ()  # what the cameras were read from

    def __post_init__(self) -> None:
        if not self.lenses:
            object.__setattr__(self, "lenses", (None,) * len(self.images))
        fields = ("images", "c2w", "K", "sizes", "names", "lenses")
        counts = {name: len(getattr(self, name)) for name in fields}
        if len(set(counts.values())) != 1 or len(self.depths) not in (0, len(self.images)):
            raise ValueError(
                f"a capture needs one entry per view in every field, got {counts}, depths {len(self.depths)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def cameras(self) -> Cameras:
        """The pinhole cameras of the straightened pictures at full size, as `load()` returns them."""
        pairs = zip(self.K, self.lenses, strict=True)
        K = torch.stack([K if lens is None else undistorted_intrinsics(K, lens) for K, lens in pairs])
        size = self.sizes[0] if len(set(self.sizes)) == 1 else None
        return Cameras(self.c2w, K, size, self.names, self.unit)

    def subset(self, indices: Sequence[int] | slice | Tensor) -> Capture:
        """The capture reduced to some views, in the order of `indices`; nothing is decoded.

        Raises:
            ValueError: no view or a view outside the capture is asked for.
        """
        try:
            picked = torch.arange(len(self))[indices].tolist()
        except IndexError as error:
            raise ValueError(f"{self.root} has the views 0 to {len(self) - 1}, asked for {indices}") from error
        if not picked:
            raise ValueError(f"no view of {self.root} was asked for; select at least one of its {len(self)} views")
        chosen = {
            name: tuple(values[i] for i in picked)
            for name in ("images", "sizes", "names", "lenses", "depths")
            if (values := getattr(self, name))
        }
        return dataclasses.replace(self, c2w=self.c2w[picked], K=self.K[picked], **chosen)

    def load(
        self,
        indices: Sequence[int] | slice | Tensor | None = None,
        size: tuple[int, int] | int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Views:
        """Decode pictures: EXIF orientation, straightening, resizing to cover `size` and centre crop.

        Args:
            indices: the views, in this order; all when None.
            size: (height, width) in pixels, or one number for a square; the files' own size when None.
            progress: called with (pictures done, all pictures) after each one; may raise to cancel.

        Returns:
            rgb [V, 3, H, W] in [0, 1] with the cameras of exactly these pictures.

        Raises:
            ValueError: a picture cannot be decoded, or sizes differ and `size` is None.
        """
        capture = self if indices is None else self.subset(indices)
        shared = capture._shared_size() if size is None else _as_size(size)
        rgb = torch.empty(len(capture), 3, *shared)
        order = range(len(capture))
        # Neighbours nearly always share their lens, so one sampling grid serves a whole run of views.
        for (lens, _, picture_size), run in groupby(order, key=capture._lens_key):
            grid: Tensor | None = None
            for i in run:
                picture = capture._decode(i)
                if lens is not None:
                    grid = undistortion_grid(capture.K[i], lens, picture_size) if grid is None else grid
                    picture = resample(picture, grid)
                rgb[i] = fit_image(picture, shared)
                if progress is not None:
                    progress(i + 1, len(capture))
        cameras = capture.cameras
        K = [crop_intrinsics(K, size_in, shared) for K, size_in in zip(cameras.K, capture.sizes, strict=True)]
        return Views(rgb, cameras.replace(K=torch.stack(K), size=shared))

    def _lens_key(self, i: int) -> tuple[Distortion | None, tuple[float, ...], tuple[int, int]]:
        return self.lenses[i], tuple(self.K[i].flatten().tolist()), self.sizes[i]

    def _shared_size(self) -> tuple[int, int]:
        other = next((i for i, size in enumerate(self.sizes) if size != self.sizes[0]), None)
        if other is not None:
            raise ValueError(
                f"the pictures of {self.root} have different sizes: {self.names[0]} is {_format_size(self.sizes[0])} "
                f"but {self.names[other]} is {_format_size(self.sizes[other])}; pass size= to bring them to one size"
            )
        return self.sizes[0]

    def _decode(self, i: int) -> Tensor:
        picture = load_image(self.images[i])
        if tuple(picture.shape[-2:]) != self.sizes[i]:
            raise ValueError(f"{self.images[i]} changed its size since the capture was opened; open {self.root} again")
        return picture


@dataclass(frozen=True, eq=False)
class Frame:
    """One view as a camera file describes it, before its picture was looked at."""

    name: str  # of the picture, relative to the picture folder
    c2w: Tensor  # [4, 4] OpenCV
    K: Tensor | Callable[[tuple[int, int]], Tensor]  # normalised [3, 3], or a function of the picture's (height, width)
    size: tuple[int, int] | None = None  # (height, width) the intrinsics were made for, None = any
    lens: Distortion | None = None
    depth: str | None = None  # name of the depth picture, relative to the picture folder


def assemble_capture(
    frames: Sequence[Frame],
    folder: Path,
    root: Path,
    source: str,
    *,
    within: Path | None = None,
    camera_files: tuple[Path, ...] = (),
    unit: str = "relative",
    depth_scale: float = 1.0,
    sort: bool = True,
) -> Capture:
    """Find and measure the pictures of `frames` below `folder` and check that the cameras belong to them.

    Args:
        frames: at least one.
        folder: where the frames' names start.
        root: the file or folder the user opened, for messages.
        source: name of the format.
        within: absolute folder that no picture may lie outside of; None = anywhere.
        camera_files: the files the frames were read from; empty = `root`.
        unit: "metric" or "relative".
        depth_scale: scene units per value of the depth pictures.
        sort: order the views naturally by name instead of keeping the file's order.

    Raises:
        ValueError: pictures outside `within`, missing or unreadable ones, another aspect than declared, broken poses or
            intrinsics.
    """
    if not frames:
        raise ValueError(f"{root} describes no views; expected at least one posed picture")
    frames = sorted(frames, key=lambda frame: natural_key(frame.name)) if sort else frames
    places = [_place(folder, frame.name, root, within) for frame in frames]
    depths = tuple(_place(folder, frame.depth, root, within) if frame.depth else None for frame in frames)
    images = _find_pictures(frames, places, folder, root)
    sizes = tuple(image_size(path) for path in images)
    for frame, path, size in zip(frames, images, sizes, strict=True):
        _check_aspect(frame, path, size)
    names = tuple(path.name for path in images)
    capture = Capture(
        images=images,
        c2w=torch.stack([frame.c2w.double() for frame in frames]),
        K=torch.stack([_intrinsics(frame, size).double() for frame, size in zip(frames, sizes, strict=True)]),
        sizes=sizes,
        names=names if len(set(names)) == len(names) else tuple(frame.name for frame in frames),
        root=root,
        source=source,
        unit=unit,
        lenses=tuple(None if frame.lens is None or frame.lens.is_pinhole else frame.lens for frame in frames),
        depths=depths if any(depths) else (),
        depth_scale=depth_scale,
        camera_files=camera_files or (root,),
    )
    check_cameras(lambda: capture.cameras, root)
    return capture


def check_cameras(build: Callable[[], Cameras], root: Path) -> Cameras:
    """Build cameras; their own errors get the name of the file they came from."""
    try:
        return build()
    except ValueError as error:
        raise ValueError(f"{root}: {error}") from error


def _as_size(size: tuple[int, int] | int) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width) in whole pixels, at least 1 each, got {size}")
    return int(height), int(width)


def _place(folder: Path, name: str, root: Path, within: Path | None) -> Path:
    return confined(folder / with_slashes(name), within, f"the picture {name!r} of {root}")


def _find_pictures(frames: Sequence[Frame], places: Sequence[Path], folder: Path, root: Path) -> tuple[Path, ...]:
    found = [find_picture(place) for place in places]
    missing = [frame.name for frame, path in zip(frames, found, strict=True) if path is None]
    if missing:
        listed = ", ".join(missing[:_NAMES_IN_ERRORS]) + (", ..." if len(missing) > _NAMES_IN_ERRORS else "")
        raise ValueError(
            f"{len(missing)} of {len(frames)} pictures of {root} are missing in {folder}: {listed}; put them there, or "
            "remove these frames from the camera file"
        )
    return tuple(path for path in found if path is not None)


def _intrinsics(frame: Frame, size: tuple[int, int]) -> Tensor:
    return frame.K if isinstance(frame.K, Tensor) else frame.K(size)


def _check_aspect(frame: Frame, path: Path, size: tuple[int, int]) -> None:
    """Pictures may be smaller or larger than declared, but must show the same field of view."""
    if frame.size is None or _same_aspect(frame.size, size):
        return
    turned = _same_aspect(frame.size, (size[1], size[0]))
    hint = (
        "its EXIF orientation turns it, the cameras seem to be made without: turn the stored pixels and remove the tag"
        if turned
        else "use the pictures the cameras were made for (resized is fine, cropped is not)"
    )
    raise ValueError(f"{path} is {_format_size(size)} but its camera was made for {_format_size(frame.size)}; {hint}")


def _same_aspect(declared: tuple[int, int], size: tuple[int, int]) -> bool:
    expected = declared[0] * size[1] / declared[1]
    return abs(size[0] - expected) <= max(_ROUNDING_PX, _ASPECT_TOLERANCE * expected)


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px (width x height)"
