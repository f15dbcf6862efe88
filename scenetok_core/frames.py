"""Frames of latents that come one after the other, decoded as soon as that is possible and kept in main memory."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from .autoencoders import Autoencoder
from .autoencoders.tiles import fade
from .placement import Exhaustion, Place, decode_latents, no_memory

_PREVIEW_FRAMES = 9
_PREVIEW_AHEAD = 4  # of these, where there are finished frames too


class FrameWriter:
    """Takes the latents of a path in order and fills `frames`; when memory runs out it goes on with smaller tiles."""

    def __init__(
        self,
        tiled: Autoencoder,
        frames: Tensor,  # [T, 3, H, W], filled
        latents: int,
        place: Place,
        exhaustion: Exhaustion,
        *,
        whole: bool = False,
    ) -> None:
        """Decode `latents` latents in the tiles of an autoencoder, or if `whole`, in one piece."""
        self.frames, self.written = frames, 0
        self._tiled, self._autoencoder = tiled, tiled.seamless if whole else tiled
        self._latents, self._place, self._exhaustion = latents, place, exhaustion
        self._spans = deque(self._autoencoder.spans(latents))
        self._first = 0  # of the latents that wait; the frames of all before are written
        self._waiting: list[Tensor] = []
        self._tail: Tensor | None = None  # decoded frames that the next tile fades into
        self._halved = False

    def add(self, latents: Tensor) -> None:
        """Take the next latents [n, C, h, w] on the CPU; decode what can be.

        Raises:
            torch.cuda.OutOfMemoryError: there is too little memory for smaller tiles, too.
        """
        self._waiting.append(latents)
        while self._spans and self._spans[0].stop <= self._first + sum(map(len, self._waiting)):
            self._write(self._decode())

    def _decode(self) -> Tensor:
        """Frames of the next tile, on the CPU."""
        while True:
            span, failure = self._spans[0], False
            latents = torch.cat(self._waiting)
            try:
                piece = decode_latents(self._autoencoder, latents[None, : span.stop - span.start], self._place)[0].cpu()
            except self._exhaustion.errors as error:
                failure = True
                told = self._shorten()
                if told is None:
                    raise no_memory("decoding", error) from error
            if not failure:
                self._spans.popleft()
                return piece
            self._exhaustion.relieve(told)

    def _shorten(self) -> str | None:
        """Plan shorter tiles from the next one on, once; None if that is not possible."""
        spec, span = self._autoencoder.spec, self._spans[0]
        frames = spec.frames(span.stop - span.start)
        smaller = self._tiled.bounded(frames // 2)
        spans = [slice(span.start + s.start, span.start + s.stop) for s in smaller.spans(self._latents - span.start)]
        if self._halved or spans[0].stop >= span.stop:
            return None
        self._autoencoder, self._spans, self._halved = smaller, deque(spans), True
        shorter = spec.frames(spans[0].stop - spans[0].start)
        return f"out of memory while decoding {frames} frames in a piece; going on with {shorter}"

    def _write(self, piece: Tensor) -> None:
        """Write a tile's frames up to where the next one begins."""
        if self._tail is not None:
            shared = len(self._tail)
            piece = torch.cat([fade(self._tail, piece[:shared], 0), piece[shared:]])
        first = self._spans[0].start if self._spans else self._latents
        end = self._autoencoder.spec.frames(first)
        ready = end - self.written
        place = self.frames[self.written : end]
        place.copy_(piece[: len(place)].clamp(0, 1))
        self._tail = piece[ready:].clone() if ready < len(piece) else None
        self.written = end
        waiting = torch.cat(self._waiting)[first - self._first :]
        self._waiting, self._first = [waiting.clone()] if len(waiting) else [], first

    def preview(self, first: int, latents: Tensor) -> Tensor:
        """Up to nine frames of the path so far, in order: some of those written, the others of latents in the works.

        `latents` [n, C, h, w] are a clean estimate, the first of them is number `first` of the path.
        """
        spec, before = self._autoencoder.spec, first - self._first
        if before > 0:
            works = torch.cat([torch.cat(self._waiting)[:before].to(latents.device), latents])
        else:
            works = latents[-before:]
        groups = works.unflatten(0, (-1, spec.group_latents))
        most = _PREVIEW_AHEAD if self.written else _PREVIEW_FRAMES
        chosen = _spread(groups, max(1, most // spec.group_frames))
        ahead = _spread(decode_latents(self._autoencoder, chosen, self._place).flatten(0, 1).clamp(0, 1).cpu(), most)
        return torch.cat([_spread(self.frames[: self.written], _PREVIEW_FRAMES - len(ahead)), ahead])


def _spread(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, evenly spread from the first to the last."""
    count = min(most, len(rows))
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()] if count else rows[:0]
