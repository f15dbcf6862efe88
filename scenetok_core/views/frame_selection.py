"""Frames of a video as pictures of one place: sharp ones, spread over what the camera saw, turned upright.

The video is decoded twice, one frame at a time: first small, to see which frames are sharp and which repeat the one
before, then to keep those that were chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from av.container import InputContainer
from torch import Tensor

from ..camera import fit_image
from ..configs import require
from .selection import sharpness

_JUDGED_SIDE = 640  # pixels along the longer side of the copies whose sharpness is measured
_GLANCE = 24  # side of the copies that tell whether two frames show the same
_SAME = 0.01  # root mean square difference of these below which they do
_AROUND = 4  # picked frames to either side that sharpness is compared with
_TICKS_PER_S = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PickedFrames:
    """Frames of a video."""

    rgb: Tensor  # [N, 3, H, W] in [0, 1], upright
    times_s: tuple[float, ...]  # from the start of the video


@dataclass(frozen=True)
class _Glance:
    """What is kept of a frame when it is judged."""

    index: int  # among the frames of the asked part
    sharpness: float
    small: Tensor  # [side, side] grey, without its mean


def pick_frames(
    video: str | Path | BytesIO,
    count: int,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    min_sharpness: float = 0.5,
    max_side: int | None = None,
    progress: Progress | None = None,
) -> PickedFrames:
    """Pick sharp, well spread frames of a video.

    Frames that repeat the one before are left out, so that a pause counts once. What remains is divided into `count`
    equal parts, and of each the sharpest frame is taken.

    Args:
        video: a file, or its bytes.
        count: most frames, at least 1.
        start_s: seconds from the start before which nothing is taken.
        end_s: seconds after which nothing is taken; None is the end.
        min_sharpness: a picked frame is dropped when it is less sharp than this share (0 to 1) of the median of those
            around it; 0 keeps all.
        max_side: longest side of the pictures in pixels, larger ones are reduced; None keeps their size.
        progress: called with (done, total) after every frame; may raise to cancel.

    Raises:
        ValueError: no video, nothing between `start_s` and `end_s`, or a setting out of range.
    """
    require(count >= 1, f"count must be at least 1 frame, got {count}")
    require(0 <= min_sharpness <= 1, f"min_sharpness must be a share from 0 to 1, got {min_sharpness}")
    require(max_side is None or max_side >= 3, f"max_side must be at least 3 pixels, got {max_side}")
    require(start_s >= 0, f"start_s must not be negative, got {start_s}")
    require(end_s is None or end_s > start_s, f"end_s must be after start_s ({start_s} s), got {end_s}")
    glances: list[_Glance] = []
    for index, (_, frame) in enumerate(_frames(video, start_s, end_s, progress, 0)):
        glance = _look(index, frame)
        if not glances or float((glance.small - glances[-1].small).square().mean().sqrt()) >= _SAME:
            glances.append(glance)
    if not glances:
        until = "its end" if end_s is None else f"{end_s} s"
        raise ValueError(f"the video has no frames between {start_s} s and {until}; choose a part inside it")
    chosen = _drop_blurred(_sharpest(glances, count), min_sharpness)
    kept = {glance.index for glance in chosen}
    pictures = [
        (time_s, _upright(frame, max_side))
        for index, (time_s, frame) in enumerate(_frames(video, start_s, end_s, progress, 1))
        if index in kept
    ]
    return PickedFrames(torch.stack([picture for _, picture in pictures]), tuple(time_s for time_s, _ in pictures))


def _frames(
    video: str | Path | BytesIO, start_s: float, end_s: float | None, progress: Progress | None, passed: int
) -> Iterator[tuple[float, av.VideoFrame]]:
    """The frames of a part with their times in seconds; `passed` of two passes are done."""
    with _opened(video) as (container, stream):
        last = _length_s(container, stream)
        last = last if end_s is None else min(end_s, last or end_s)
        total = max(1, math.ceil((last - start_s) * _TICKS_PER_S))
        for time_s, frame in _from(container, stream, start_s):
            if end_s is not None and time_s > end_s:
                break
            yield time_s, frame
            if progress is not None:
                progress(passed * total + min(total, round((time_s - start_s) * _TICKS_PER_S)), 2 * total)


@contextmanager
def _opened(video: str | Path | BytesIO) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    if isinstance(video, BytesIO):
        video.seek(0)
    elif not Path(video).is_file():
        raise ValueError(f"no such video: {video}; check the path")
    try:
        with av.open(video if isinstance(video, BytesIO) else str(video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, IndexError) as error:
        name = "the video" if isinstance(video, BytesIO) else video
        raise ValueError(f"{name} cannot be decoded as a video ({error}); expected e.g. an mp4") from error


def _from(container: InputContainer, stream: av.VideoStream, start_s: float) -> Iterator[tuple[float, av.VideoFrame]]:
    tick, rate = float(stream.time_base or 0), float(stream.average_rate or 1)
    first = stream.start_time or 0
    if start_s > 0 and tick:
        container.seek(first + int(start_s / tick), stream=stream)
    for i, frame in enumerate(container.decode(stream)):
        time_s = i / rate if frame.pts is None else (frame.pts - first) * tick
        if time_s >= start_s - tick:
            yield time_s, frame


def _length_s(container: InputContainer, stream: av.VideoStream) -> float:
    """0 where the file does not tell."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _look(index: int, frame: av.VideoFrame) -> _Glance:
    shrink = min(1.0, _JUDGED_SIDE / max(frame.width, frame.height))
    width, height = max(3, round(frame.width * shrink)), max(3, round(frame.height * shrink))
    grey = torch.from_numpy(frame.reformat(width, height, format="gray").to_ndarray()).float() / 255
    small = F.adaptive_avg_pool2d(grey[None], _GLANCE)[0]
    return _Glance(index, float(sharpness(grey.expand(1, 3, -1, -1))), small - small.mean())


def _sharpest(glances: list[_Glance], count: int) -> list[_Glance]:
    edges = [len(glances) * i // count for i in range(count + 1)]
    parts = [glances[a:b] for a, b in itertools.pairwise(edges) if b > a]
    return [max(part, key=lambda glance: glance.sharpness) for part in parts]


def _drop_blurred(chosen: list[_Glance], min_sharpness: float) -> list[_Glance]:
    values = torch.tensor([glance.sharpness for glance in chosen])
    around = [values[max(0, i - _AROUND) : i + _AROUND + 1].median() for i in range(len(values))]
    return [glance for glance, median in zip(chosen, around, strict=True) if glance.sharpness >= min_sharpness * median]


def _upright(frame: av.VideoFrame, max_side: int | None) -> Tensor:
    """RGB [3, H, W] in [0, 1], turned as the video's metadata say."""
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0).float() / 255
    picture = torch.rot90(picture, round(frame.rotation / 90), (1, 2))
    height, width = picture.shape[1:]
    if max_side is None or max(height, width) <= max_side:
        return picture.contiguous()
    shrink = max_side / max(height, width)
    return fit_image(picture, (max(1, round(height * shrink)), max(1, round(width * shrink))))
