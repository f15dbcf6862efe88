"""The 3DDiT pipeline: no, one or several posed pictures and a camera path -> latent tokens for a 3DRAE.

arXiv 2604.11331, section 3.3. The 3DRAE itself encodes what conditions the drawing: the given views, and cameras along
the path of which nothing is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from .camera import fit_cameras, fit_views, reference_scale
from .configs import Dit3dConfig, RaeConfig
from .memory import dit3d_bytes
from .models.dit3d import Dit3dNetworks, sample_latents
from .pipeline import or_seeded
from .placement import Place, stay
from .rae import Rae
from .sampling import Progress
from .token_generator import TokenGenerator, check_scene_model_of, whole_schedule
from .types import Cameras, SceneTokens, Views
from .weights.checkpoints import load_networks
from .weights.loading import default_dtype


@dataclass(frozen=True, eq=False)
class PreparedLatents:
    """What scenes are drawn from, as the 3DRAE encodes it."""

    condition: Tensor  # [1, N, D] of the views and the cameras
    unconditional: Tensor | None  # [1, N, D] of the cameras alone; None where there is no view
    reference_c2w: Tensor  # [4, 4]
    scale: float
    cameras: Cameras  # of the views, or where there is none, those along the path
    views: int
    family: str  # of the model that will render the tokens, with its name and hash
    preset: str
    model_hash: str


def conditioning_cameras(views: Cameras | None, path: Cameras, count: int) -> Cameras:
    """Cameras of the views, and of a path so many that there are `count` together: evenly spread, with both ends.

    Raises:
        ValueError: more views than can be, where at least one camera is left to the path.
    """
    given = 0 if views is None else len(views)
    if given >= count:
        raise ValueError(f"the generator takes 0 to {count - 1} views beside the path, got {given}; choose some")
    spread = torch.linspace(0, len(path) - 1, count - given).round().long().tolist()
    anchors = path[spread]
    if views is None:
        return anchors.replace(names=())
    c2w, K = (torch.cat([getattr(part, name) for part in (views, anchors)]) for name in ("c2w", "K"))
    return Cameras(c2w, K, size=views.size, unit=views.unit)


@dataclass
class LatentGenerator(TokenGenerator):
    """A loaded 3DDiT, with the methods of `SceneGenerator`.

    `generate` leaves the caller's tensors and the global random state alone. `place` as in `SceneTok`.
    """

    kind: ClassVar[type[Dit3dConfig]] = Dit3dConfig
    config: Dit3dConfig
    networks: Dit3dNetworks
    hash: str
    place: Place = stay
    scene_model_hash: str | None = None  # of the model whose tokens are drawn; None: nobody noted it

    @classmethod
    def assemble(
        cls,
        state: Mapping[str, Tensor],
        config: Dit3dConfig,
        metadata: Mapping[str, str],
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> LatentGenerator:
        """As `Loaded.assemble`."""
        dtype = dtype or default_dtype(device, state)
        networks = load_networks(state, config, dtype).to(device)
        return cls(config, networks, metadata["model_hash"], scene_model_hash=metadata.get("scene_model_hash"))

    @property
    def modules(self) -> list[nn.Module]:
        """What is placed."""
        return [self.networks.generator]

    def prepare(
        self, views: Views | None, cameras: Cameras, model: Rae, *, scale: str | float = "auto"
    ) -> PreparedLatents:
        """As `TokenGenerator.prepare`, of any number of views that leaves a camera to the path.

        Without a view the scene is drawn from the path alone, whose first camera is the origin then.
        """
        self.check_model(model)
        size = model.picture_size(cameras.size if views is None else views.cameras.size)
        seen = None if views is None else fit_views(views.to("cpu"), size)
        path = fit_cameras(cameras.to("cpu"), size)
        asked = conditioning_cameras(None if seen is None else seen.cameras, path, self.config.cond_views)
        reference_c2w = asked.c2w[0]
        factor = reference_scale(asked.centers, reference_c2w[:3, 3], scale)
        condition = model.tokens_of(seen, asked, reference_c2w, factor).cpu()
        unconditional = None if seen is None else model.tokens_of(None, asked, reference_c2w, factor).cpu()
        return PreparedLatents(
            condition,
            unconditional,
            reference_c2w,
            factor,
            asked if views is None else views.cameras.to("cpu"),
            0 if views is None else len(views),
            model.config.family,
            model.config.name,
            model.hash,
        )

    def draw(
        self,
        prepared: PreparedLatents,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """As `TokenGenerator.draw`."""
        config, sampling = self.config, self.config.sampling
        schedule = whole_schedule(sampling, steps, shift)
        guidance = sampling.guidance if guidance is None else guidance
        unconditional = None if guidance == 1.0 else prepared.unconditional
        noise = torch.randn((1, config.tokens, config.token_dim), generator=or_seeded(generator))
        network = self.networks.generator
        guided = unconditional is not None
        device = self.place(network, dit3d_bytes(config, guided=guided, itemsize=self._itemsize))
        tokens = sample_latents(
            network,
            prepared.condition.to(device),
            None if unconditional is None else unconditional.to(device),
            noise.to(device),
            schedule,
            guidance=guidance,
            solver=solver or sampling.solver,
            progress=progress,
        )
        return SceneTokens(
            tokens=tokens[0].float().cpu(),
            reference_c2w=prepared.reference_c2w,
            scene_scale=prepared.scale,
            cameras=prepared.cameras,
            preset=prepared.preset,
            model_hash=prepared.model_hash,
            family=prepared.family,
            meta={"generator": config.name, "generator_hash": self.hash, "views_given": prepared.views},
        )

    def check_model(self, model: Rae) -> None:
        """Raise `ValueError` unless this was trained to draw the tokens of `model`."""
        config, shape = self.config, (self.config.tokens, self.config.token_dim)
        check_scene_model_of(config.name, RaeConfig.family, config.scene_model, self.scene_model_hash, model)
        found = (model.config.tokens, model.config.token_dim)
        if found != shape:
            raise ValueError(
                f"{config.name!r} draws {shape[0]} tokens of {shape[1]} numbers, {model.config.name!r} has {found[0]} "
                f"of {found[1]}; load the {config.scene_model!r} it was trained on"
            )
