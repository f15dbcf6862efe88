"""The settings of a run that trains a 3DRAE (3DRAE, sections 3.2 and A)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scenetok_core.configs import RaeConfig, require
from training.config import DataConfig, TrainConfig
from training.discriminators import DiscriminatorName
from training.perceptual import PerceptualName
from training.tasks.shared import require_shares
from training.tasks.views import CurriculumConfig, check_curriculum

_LAST = "generator.decoder.to_rgb.weight"  # as `optim.freeze` calls it where there is an adversary


@dataclass(frozen=True)
class RaeTaskConfig(CurriculumConfig):
    """How a 3DRAE is trained."""

    kind: Literal["rae"] = "rae"
    mask_probability: float = 0.1  # of a scene of which some views are invisible ...
    mask_share: tuple[float, float] = (0.6, 0.9)  # ... so much of them; section A.4 (table 5 says 0.1 to 0.6)
    token_noise: float = 0.8  # tau: noise on tokens has a standard deviation |N(0, tau^2)| (arXiv 2510.11690)
    noise_from: float = 0.0  # share of the run from which on there is noise
    aspects: tuple[float, float] = (0.7, 1.8)  # width / height of pictures
    reference: Literal["first", "random"] = "first"  # the input view that becomes the origin
    gradient_weight: float = 0.0  # of the L1 loss between picture gradients
    picture_weight: float = 1.0
    points_weight: float = 1.0
    points_alpha: float = 0.2  # the error, relative to the mean distance of points, at which confidence ends
    attention_gain: float = 1.0  # of the queries at the start, where they are normalised
    perceptual_weight: float = 0.0  # lambda_1 of the paper, 0: no such loss
    perceptual: PerceptualName = "auto"  # the network: lpips where its weights are at hand, else efficientnet-lite0
    adversary_weight: float = 0.0  # lambda_2, times the adaptive omega_G; 0: no discriminator
    discriminator: DiscriminatorName = "dinov2-small"  # heads on that frozen network, or on patches of pixels
    adversary_from_disc: float = 50 / 120  # share of the run from which on the discriminator is trained ...
    adversary_from: float = 0.5  # ... and from which on its judgement is a loss of the pictures
    # Videos alone: batches of random sizes and numbers of views, with as many scenes, at most data.scenes, as have so
    # many tokens. None: of data.context_views and data.target_views, cut from squares.
    tokens_per_batch: int | None = None
    least_targets: int | None = None  # then, targets vary from here to data.target_views; None: no less than that

    @property
    def spares_weights(self) -> bool:
        """Points without depth and a discriminator before its time give their weights no gradient."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shares(self, "mask_probability noise_from adversary_from_disc adversary_from")
        low, high = self.mask_share
        require(0 <= low <= high <= 1, f"task.mask_share must rise within [0, 1], got {self.mask_share}")
        low, high = self.aspects
        require(0 < low <= high, f"task.aspects must rise from above 0, got {self.aspects}")
        require(self.points_alpha > 0, f"task.points_alpha must be positive, got {self.points_alpha}")
        weights = "picture_weight gradient_weight points_weight perceptual_weight adversary_weight"
        for name in ("token_noise", *weights.split()):
            require(getattr(self, name) >= 0, f"task.{name} must be >= 0, got {getattr(self, name)}")
        require(
            max(self.picture_weight, self.points_weight) > 0,
            "task.picture_weight and points_weight are both 0: there is nothing to learn",
        )
        for name in ("gradient_weight", "perceptual_weight", "adversary_weight"):
            require(
                self.picture_weight > 0 or getattr(self, name) == 0,
                f"task.{name} is a loss of pictures, of which task.picture_weight = 0 makes none; set it to 0",
            )
        require(
            self.adversary_from_disc <= self.adversary_from,
            f"task.adversary_from_disc {self.adversary_from_disc} must not come after adversary_from "
            f"{self.adversary_from}: only a trained discriminator is of use",
        )
        for name in ("tokens_per_batch", "least_targets"):
            count = getattr(self, name)
            require(count is None or count >= 1, f"task.{name} must be >= 1, got {count}")
        require(
            self.least_targets is None or self.tokens_per_batch is not None,
            "task.least_targets needs task.tokens_per_batch, which makes batches of mixed numbers of views",
        )


@dataclass(frozen=True)
class RaeTrainConfig(TrainConfig):
    """A complete run that trains a 3DRAE."""

    model: RaeConfig
    task: RaeTaskConfig = field(default_factory=RaeTaskConfig)

    @property
    def picture_size(self) -> None:
        """Any: pictures are brought to sizes drawn anew for every batch."""
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        data, task = self.data, self.task
        require(
            data.context_views <= self.model.context_views,
            f"data.context_views {data.context_views} is more than model.context_views {self.model.context_views}",
        )
        require(
            task.adversary_weight == 0 or not self.run.compile_model,
            "run.compile_model excludes task.adversary_weight, whose factor takes gradients of its own; leave out one",
        )
        require(
            task.adversary_weight == 0 or not _LAST.startswith(self.optim.freeze),
            f"optim.freeze {list(self.optim.freeze)} holds the layer that makes pictures, whose gradients set the "
            "factor of task.adversary_weight; freeze other parts, or set that to 0",
        )
        if task.tokens_per_batch is not None:
            check_mixed(data, task.least_context, task.least_targets or data.target_views)
        check_curriculum(data, task)
        if data.videos is not None:
            self._check_videos()

    def check_sharding(self) -> None:
        """Raise `ValueError` unless every step runs the same parts of the networks, through one `forward`."""
        instead = "let Accelerate copy them (MULTI_GPU)"
        require(
            self.task.adversary_weight == 0,
            f"task.adversary_weight is not possible with sharded weights; {instead}",
        )
        known = [each.depth is not None for each in self.data.videos.sets] if self.data.videos is not None else []
        require(
            not self._wants_points or len(set(known)) < 2,
            f"data sets with and without depth are not possible with sharded weights; {instead}, or set "
            "task.points_weight = 0",
        )

    @property
    def _wants_points(self) -> bool:
        return self.model.points is not None and self.task.points_weight > 0

    def _check_videos(self) -> None:
        videos = self.data.videos
        assert videos is not None
        require(videos.kind != "latents", "data.videos.kind 'latents' holds no pictures, which a 3DRAE reads")
        for depth in (videos.depth, *(each.depth for each in videos.sets)):
            require(
                depth is None or not self._wants_points or depth.values == "depth",
                f"points need depth in units of the cameras, but {depth and depth.root} holds values 'inverse', known "
                "up to a factor and an offset; set values = 'depth', leave it out, or set task.points_weight = 0",
            )


def check_mixed(data: DataConfig, least_context: int, least_targets: int) -> None:
    """Raise `ValueError` unless batches of mixed sizes and numbers of views can be drawn."""
    videos = data.videos
    require(videos is not None, "task.tokens_per_batch is for data.kind 'videos'; leave it out")
    assert videos is not None
    require(
        least_context <= data.context_views and least_targets <= data.target_views,
        f"task.least_context {least_context} and least_targets {least_targets} must not be more than "
        f"data.context_views {data.context_views} and data.target_views {data.target_views}",
    )
    pieces = videos.views.target_windows
    require(
        pieces in (1, videos.views.target_groups),
        f"with task.tokens_per_batch the number of targets varies, so data.videos.views.target_windows must be 1 "
        f"or target_groups {videos.views.target_groups}, got {pieces}",
    )
