"""Rectified flow as pure functions: x_t = (1 - t) x0 + t noise, velocity v = noise - x0, t from 1 (noise) to 0."""

from __future__ import annotations

from torch import Tensor

_SMALLEST_T = 0.05


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Timestep shift t -> s t / (1 + (s - 1) t): more steps (or training draws) at high noise for s > 1."""
    if shift <= 0:
        raise ValueError(f"timestep shift must be positive, got {shift}")
    return shift * t / (1 + (shift - 1) * t)


def interpolate(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Noisy latents at level `t`, which broadcasts against the latents."""
    return (1 - t) * clean + t * noise


def to_velocity(prediction: Tensor, kind: str, noisy: Tensor, t: Tensor) -> Tensor:
    """The velocity that a network's output means; `kind` is "v" or "x" (clean latents, JiT arXiv 2511.13720)."""
    return prediction if kind == "v" else (noisy - prediction) / t.clamp_min(_SMALLEST_T)


def to_clean(prediction: Tensor, kind: str, noisy: Tensor, t: Tensor) -> Tensor:
    """The clean latents that a network's output means."""
    return noisy - t * prediction if kind == "v" else prediction


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: u + g (c - u)."""
    return unconditional + guidance * (conditional - unconditional)
