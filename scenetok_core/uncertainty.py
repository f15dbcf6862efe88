"""Where a scene's tokens leave open what a picture shows: the spread of several samples (SceneTok, section 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .families import SceneModel
from .sampling import Preview, Progress
from .types import Cameras, SceneTokens

# Evenly spaced colours, from certain to uncertain.
_RAMP = torch.tensor(
    [[0.02, 0.02, 0.10], [0.30, 0.07, 0.42], [0.72, 0.21, 0.33], [0.96, 0.54, 0.14], [1.00, 0.98, 0.78]]
)


def render_uncertainty(
    model: SceneModel,
    scene: SceneTokens,
    cameras: Cameras,
    samples: int = 4,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    views_per_pass: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and spread of several renderings of one path that differ in their noise alone.

    Args:
        model: made the tokens.
        scene: the scene.
        cameras: T cameras, as for `SceneTok.render`.
        samples: renderings, at least 2.
        steps: sampling steps of each; None: the model's default. With 1 all samples are near the posterior mean.
        guidance: classifier-free guidance; None: the model's default.
        views_per_pass: as for `SceneTok.render`.
        seed: of the first rendering; the others count up from it.
        progress: called after every step of every rendering; may raise to cancel.

    Returns:
        mean [T, 3, H, W] in [0, 1], and standard deviation [T, H, W] in units of brightness (at most about 0.5), the
        root mean square over the colours; float32 on the CPU.

    Raises:
        ValueError: fewer than 2 samples, a model whose pictures are no samples, or what `SceneTok.render` refuses.
    """
    if model.steps is None:
        raise ValueError(
            f"{model.config.name!r} ({model.config.family}) renders the same picture from any noise, so its samples "
            "never differ; uncertainty needs a model that samples, such as a SceneTok"
        )

    def render(generator: torch.Generator, report: Progress | None) -> Tensor:
        return model.render(
            scene,
            cameras,
            steps=steps,
            guidance=guidance,
            views_per_pass=views_per_pass,
            generator=generator,
            progress=report,
        )

    mean, variance = spread_of_samples(render, samples, seed, progress)
    return mean, variance.mean(1).sqrt()


def spread_of_samples(
    render: Callable[[torch.Generator, Progress | None], Tensor],
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance of what `render` makes of the noise of several seeds, value by value.

    Args:
        render: one fresh sample, any shape, from a CPU generator; it reports its steps to the callback. Its memory is
            used again: beside one sample, only mean and variance are held.
        samples: at least 2.
        seed: of the first sample; the others count up from it.
        progress: called after every step of every sample.

    Raises:
        ValueError: fewer than 2 samples.
    """
    if samples < 2:
        raise ValueError(f"uncertainty needs at least 2 samples, got {samples}")
    mean = squares = torch.zeros(())
    for index in range(samples):
        generator = torch.Generator().manual_seed(seed + index)
        change = render(generator, progress and _part(progress, index, samples))
        if index == 0:
            mean, squares = change, torch.zeros_like(change)
            continue
        change -= mean
        mean.add_(change, alpha=1 / (index + 1))
        squares.addcmul_(change, change, value=index / (index + 1))
    return mean, squares.div_(samples - 1)


def _part(progress: Progress, index: int, parts: int) -> Callable[[int, int, Preview | None], None]:
    return lambda done, total, preview: progress(index * total + done, parts * total, preview)


def as_mask(
    spread: Tensor,  # [...] standard deviation, from `render_uncertainty`
    white: float,
) -> Tensor:
    """Spread as a mask in [0, 1]: 1 where it is `white` or more."""
    return (spread / white).clamp(0, 1)


def heat_map(
    values: Tensor,  # [..., H, W] in [0, 1]; values outside are clipped
) -> Tensor:
    """Values as colours from dark blue over red to pale yellow: [..., 3, H, W] in [0, 1]."""
    place = values.clamp(0, 1) * (len(_RAMP) - 1)
    below = place.floor().long().clamp(max=len(_RAMP) - 2)
    share = (place - below)[..., None]
    ramp = _RAMP.to(values.device)
    return torch.lerp(ramp[below], ramp[below + 1], share).movedim(-1, -3)
