"""What generators of scene tokens share, whatever they draw from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import torch

from .configs import RaeConfig, SamplingConfig, SceneTokConfig
from .loaded import Loaded
from .sampling import Progress, Schedule, make_schedule
from .types import Cameras, SceneTokens, Views


class TokenGenerator(Loaded):
    """Draws the tokens of whole scenes for a scene model: `SceneGenerator`, `LatentGenerator`."""

    config: Any  # with its `sampling`
    scene_model_hash: str | None

    def generate(
        self,
        views: Views | None,
        cameras: Cameras,
        model: Any,
        *,
        scale: str | float = "auto",
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """Draw the tokens of a scene; another seed is another scene that shows the same views.

        Args:
            views: pictures of the scene, as many as the generator takes; the camera of the first one becomes the
                scene's origin. None, where it takes that, draws the scene from the path alone.
            cameras: the path that will be rendered, in the coordinates of the views.
            model: the scene model that will render the tokens.
            scale: scene scale, "auto" (from the cameras), "none" or network units per input unit.
            steps: sampling steps. None: the generator's default.
            guidance: classifier-free guidance, 1 is off. None: the generator's default.
            shift: timestep shift. None: the generator's default.
            solver: "euler" or "ab2" (`sampling.denoise`). None: the generator's default.
            generator: CPU generator of the noise; None is a fresh one with seed 0.
            progress: called after every step with a preview of the tokens [1, N, D]; may raise to cancel.

        Raises:
            ValueError: too few or too many views, a model whose tokens this is not trained to draw, or impossible
                settings.
        """
        whole_schedule(self.config.sampling, steps, shift)  # refuses impossible settings before any work
        return self.draw(
            self.prepare(views, cameras, model, scale=scale),
            steps=steps,
            guidance=guidance,
            shift=shift,
            solver=solver,
            generator=generator,
            progress=progress,
        )

    @abstractmethod
    def prepare(self, views: Views | None, cameras: Cameras, model: Any, *, scale: str | float = "auto") -> Any:
        """The part of `generate` that neither seeds nor settings change, for any number of `draw`s.

        Arguments and errors as `generate`.
        """

    @abstractmethod
    def draw(
        self,
        prepared: Any,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """The tokens of one scene, from what `prepare` made. Settings and errors as `generate`."""


class NamedModel(Protocol):
    """A scene model, as far as generators must tell which one it is."""

    hash: str

    @property
    def config(self) -> SceneTokConfig | RaeConfig:
        """Its configuration, with its name."""
        ...


def check_scene_model_of(generator: str, family: str, wanted: str, wanted_hash: str | None, model: NamedModel) -> None:
    """Raise `ValueError` unless `model` is the one whose tokens a generator draws; a hash of None fits all weights."""
    if model.config.family != family:
        raise ValueError(
            f"{generator!r} draws tokens of family {family!r} (model {wanted!r}), and {model.config.name!r} is a model "
            f"of family {model.config.family!r}; load {wanted!r}, or a generator for {model.config.name!r}"
        )
    if model.config.name != wanted:
        raise ValueError(
            f"{generator!r} draws tokens of model {wanted!r}, not of {model.config.name!r}; load {wanted!r}"
        )
    if wanted_hash not in (None, model.hash):
        raise ValueError(
            f"{generator!r} draws tokens of {wanted!r} with weights {wanted_hash}, not with {model.hash}; load those "
            "weights, or a generator that was trained on these"
        )


def whole_schedule(sampling: SamplingConfig, steps: int | None, shift: float | None) -> Schedule:
    """The schedule of all tokens of a scene together; None takes what `sampling` says."""
    return make_schedule(
        "full_sequence",
        horizon=1,
        steps=sampling.steps if steps is None else steps,
        window=1,
        clean_targets=0,
        shift=sampling.shift if shift is None else shift,
    )
