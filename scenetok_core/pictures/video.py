"""H.264 videos through PyAV."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..files import replacing
from ..types import check_shape
from .sheets import enlarge, to_bytes

_ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_videotoolbox", "h264_mf", "h264_qsv", "h264_vaapi")
_QUALITY = "16"  # CRF: visually lossless
_SMALLEST_SIDE = 256
_BT709 = 1  # the number of BT.709 among color primaries, transfer functions and matrices


def _find_encoder() -> str:
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise RuntimeError(
        f"this installation of PyAV ({av.__version__}) has no H.264 encoder (looked for {', '.join(_ENCODERS)}); "
        "install the wheel from PyPI: pip install --force-reinstall av"
    )


def _playable(frame: Tensor) -> Tensor:
    """A picture [3, H, W] at a size every player accepts: small ones enlarged, odd sides padded by their last pixel."""
    frame = enlarge(frame, max(1, -(-_SMALLEST_SIDE // min(frame.shape[-2:]))))
    height, width = frame.shape[-2:]
    return F.pad(frame[None], (0, width % 2, 0, height % 2), mode="replicate")[0]


def write_video(
    path: Path | str,
    frames: Tensor,  # [T, 3, H, W] in [0, 1]; values outside are clipped
    fps: float,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write an H.264 mp4 (yuv420p, BT.709) that plays everywhere; the file is complete or absent.

    Pictures whose shorter side is below 256 pixels are enlarged by a whole factor with hard pixel edges, which also
    keeps their colours from being averaged in pairs; an odd width or height gets one more column or row.

    Args:
        path: file to write; missing folders are made.
        frames: the pictures.
        fps: frames per second, > 0.
        progress: called with (written, total) after every frame; may raise to cancel.

    Raises:
        ValueError: no frames, wrong shape, values that are not finite, or fps that is not positive.
        RuntimeError: PyAV has no H.264 encoder.
    """
    check_shape("frames", frames, (None, 3, None, None))
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(
            f"a video needs frames of shape [T, 3, H, W] with at least one frame, got {list(frames.shape)}"
        )
    if not bool(torch.isfinite(frames).all()):
        raise ValueError("frames hold NaN or infinite values; expected RGB in [0, 1]")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    encoder = _find_encoder()
    height, width = _playable(frames[0]).shape[-2:]
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        _tag_colours(stream.codec_context)
        if encoder == "libx264":
            stream.options = {"crf": _QUALITY}
        for index, picture in enumerate(frames):
            container.mux(stream.encode(_encodable(picture)))
            if progress is not None:
                progress(index + 1, len(frames))
        container.mux(stream.encode())


def _encodable(picture: Tensor) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(to_bytes(_playable(picture)).contiguous().numpy(), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def _tag_colours(codec: av.VideoCodecContext) -> None:
    # Untagged, players guess the matrix from the picture size and shift the colours of small videos.
    codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
    codec.color_range = int(ColorRange.MPEG)


def read_video_frames(path: Path | str) -> tuple[Tensor, float]:
    """All frames of a video, in their stored orientation.

    Args:
        path: any file that PyAV can decode.

    Returns:
        frames [T, 3, H, W] float32 in [0, 1], and the average number of frames per second.

    Raises:
        ValueError: no such file, or one without decodable video.
    """
    if not Path(path).is_file():
        raise ValueError(f"no such video: {path}; check the path")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            pictures = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} holds no video that PyAV can decode ({error}); expected e.g. an mp4") from error
    if not pictures:
        raise ValueError(f"{path} holds no frames; the file may be truncated")
    return torch.stack(pictures).movedim(-1, -3).float() / 255, float(rate or 0)
