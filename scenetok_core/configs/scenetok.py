"""Configurations of SceneTok models, scene generators and depth heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..autoencoders import LatentSpec
from .base import require, require_positive
from .sampling import Prediction, SamplingConfig

RayOrder = Literal["t ph pw c", "ph pw t c"]
TemporalTiles = Literal["auto", "on", "off"]  # auto: off where memory allows
DepthUnits = Literal["scene", "relative"]
DepthMapping = Literal["inverse", "log"]


def _require_network(section: str, config: NetworkConfig, more: str) -> None:
    shared = "hidden heads token_dim latent_channels patch ray_map ray_patch mlp_ratio norm_eps"
    require_positive(section, config, f"{shared} {more}")
    require(config.hidden % config.heads == 0, f"{section}hidden {config.hidden} must divide by heads {config.heads}")
    require(
        config.ray_map % config.ray_patch == 0,
        f"{section}ray_map {config.ray_map} must be a multiple of ray_patch {config.ray_patch}",
    )


@dataclass(frozen=True)
class CompressorConfig:
    """The perceiver that turns view latents and rays into scene tokens (SceneTok, section 3.1)."""

    hidden: int = 768
    depth: int = 12  # 0 compresses nothing: every patch of the views, with its rays, is a token (for comparison)
    heads: int = 12
    tokens: int = 512  # scene tokens N; with depth 0 the patches of all context_views
    token_dim: int = 64
    latent_channels: int = 32
    patch: int = 2  # latent cells per token side
    ray_map: int = 128  # side of the ray map in rays
    ray_patch: int = 16  # rays per token side
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    norm_eps: float | None = None  # None: the epsilon of float32, in which norms are computed; as released
    ray_input: bool = False  # add the ray embedding to the view tokens too, not only to adaLN
    posterior: Literal["gaussian", "normalised"] = "gaussian"  # normalised: unit-variance points, no sampling

    def __post_init__(self) -> None:
        _require_network("compressor.", self, "tokens")
        require(self.depth >= 0, f"compressor.depth must be >= 0, got {self.depth}")
        require(
            self.depth > 0 or self.ray_input,
            "compressor.depth 0 needs compressor.ray_input = true: patches tell where they are by nothing else",
        )


@dataclass(frozen=True)
class DecoderConfig:
    """The rectified-flow transformer that renders target latents from scene tokens (SceneTok, section 3.2)."""

    hidden: int = 1024
    depth: int = 24
    heads: int = 16
    token_dim: int = 64
    latent_channels: int = 128
    patch: int = 1
    ray_map: int = 128
    ray_patch: int = 16
    frames_per_latent: int = 4  # ray maps packed into one latent
    ray_order: RayOrder = "t ph pw c"  # feature order of a packed ray patch
    rope_group: int | None = None  # temporal positions restart every so many latents; None: never
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    norm_eps: float | None = 1e-6
    prediction: Prediction = "v"  # what the network predicts: velocity or clean latent
    ray_input: bool = False  # add the ray embedding to the input tokens too, not only to adaLN
    null_tokens: bool = True  # learnt unconditional token, needed for guidance

    def __post_init__(self) -> None:
        _require_network("decoder.", self, "depth frames_per_latent rope_group")


@dataclass(frozen=True)
class GeneratorConfig:
    """The rectified-flow transformer that draws scene tokens from one to three views (SceneTok, section 3.3)."""

    hidden: int = 1536
    depth: int = 24
    heads: int = 24
    tokens: int = 512  # scene tokens N
    token_dim: int = 64
    latent_channels: int = 32  # of the conditioning views
    patch: int = 1  # latent cells per token side
    ray_map: int = 128
    ray_patch: int = 8
    cond_views: int = 3  # conditioning views of training; those not given are masked
    anchors: int = 12  # cameras spread over the wanted path
    token_scale: float = 0.1  # the network works with scene tokens times this
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    norm_eps: float | None = 1e-6

    def __post_init__(self) -> None:
        _require_network("generator.", self, "depth tokens cond_views anchors token_scale")
        require(self.hidden % 4 == 0, f"generator.hidden must be a multiple of 4, got {self.hidden}")


NetworkConfig = CompressorConfig | DecoderConfig | GeneratorConfig


@dataclass(frozen=True)
class SceneTokConfig:
    """A whole SceneTok model: autoencoders, networks, sampling defaults and the quirks of its training."""

    family: ClassVar[str] = "scenetok"
    name: str
    image_size: int = 256  # side of the square pictures, in pixels
    context_views: int = 12  # most input views
    scene_extent: float = 1.4  # camera extent (network units) that scene scale "auto" aims at
    context_autoencoder: str = "va-vae"
    target_autoencoder: str = "videodcae"
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    context_focal: tuple[float, float] = (1.0, 1.0)  # factors on fx, fy of the context ray maps, as trained
    target_focal: tuple[float, float] = (1.0, 1.0)  # factors on fx, fy of the target ray maps, as trained

    def __post_init__(self) -> None:
        require(
            self.compressor.token_dim == self.decoder.token_dim,
            f"compressor.token_dim {self.compressor.token_dim} and decoder.token_dim {self.decoder.token_dim} differ",
        )
        require_positive("", self, "image_size context_views scene_extent")
        compressor = self.compressor
        patches = self.context_views * (compressor.ray_map // compressor.ray_patch) ** 2
        require(
            compressor.depth > 0 or compressor.tokens == patches,
            f"compressor.depth 0 keeps the {patches} patches of {self.context_views} views, so compressor.tokens must "
            f"say so, got {compressor.tokens}",
        )
        factors = (*self.context_focal, *self.target_focal)
        require(all(f > 0 for f in factors), f"context_focal and target_focal must be positive, got {factors}")

    def check_latents(self, context: LatentSpec, target: LatentSpec) -> None:
        """Check that pictures, autoencoders, patches and ray maps give both networks matching grids.

        Args:
            context: latents of the input views.
            target: latents of the rendered frames.

        Raises:
            ValueError: sizes that do not fit together; the message gives the numbers.
        """
        _check_grid("compressor", self.compressor, self.image_size, self.context_autoencoder, context)
        _check_grid("decoder", self.decoder, self.image_size, self.target_autoencoder, target)
        require(
            self.decoder.frames_per_latent == target.frames_per_latent,
            f"decoder.frames_per_latent {self.decoder.frames_per_latent} differs from the {target.frames_per_latent} "
            f"of {self.target_autoencoder!r}",
        )


@dataclass(frozen=True)
class SceneGenConfig:
    """A whole scene generator: its autoencoder, its network and its sampling defaults."""

    family: ClassVar[str] = "scenegen"
    name: str
    scene_model: str = "va-videodc_re10k_scene"  # the SceneTok model whose tokens it draws, and which renders them
    image_size: int = 256  # side of the square conditioning pictures, in pixels
    scene_extent: float = 1.4  # camera extent (network units) that scene scale "auto" aims at
    context_autoencoder: str = "va-vae"
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(steps=150, guidance=3.0, window=1, clean_targets=0)
    )

    def __post_init__(self) -> None:
        require_positive("", self, "image_size scene_extent")

    def check_latents(self, context: LatentSpec) -> None:
        """Check that pictures, autoencoder, patches and ray maps of the conditioning views fit together.

        Raises:
            ValueError: sizes that do not fit together; the message gives the numbers.
        """
        _check_grid("generator", self.generator, self.image_size, self.context_autoencoder, context)


@dataclass(frozen=True)
class DepthConfig:
    """A depth head for a SceneTok model: a decoder of its own, or a low-rank update of the model's, and its units.

    Depth is rendered as a grey picture through the model's own target autoencoder (SceneTok, section 4). The picture
    shows inverse depth between `1 / far` and `1 / near`; `depth.depth_pictures` and `depth.read_depth` do and undo it.
    """

    family: ClassVar[str] = "depth"
    name: str
    scene_model: str  # the SceneTok model whose tokens it reads; the checkpoint has the hash of its weights, too
    image_size: int = 256  # side of the square pictures, in pixels
    rank: int | None = 16  # of the update of every linear layer that `layers` names; None: a whole decoder
    layers: tuple[str, ...] = ("blocks",)  # parts of the names of these layers; the output layer is always its own
    # scene: metric. Inverse depth in units of the scene's frame (input units times the scene scale).
    # relative: inverse depth is known up to a factor and an offset; every window is stretched to the whole range.
    units: DepthUnits = "scene"
    mapping: DepthMapping = "log"  # what grows evenly with brightness: inverse depth, or its logarithm
    near: float = 0.1  # nearest and farthest depth that a picture can show, in units of the scene's frame
    far: float = 30.0
    steps: int = 1  # sampling steps when the caller does not say otherwise; 1 is the posterior mean
    # One more token says how many units of the scene's frame a metre is, or that nobody knows. The frame is as large as
    # the cameras' path, so the size of things in it has else to be found in what moved between the views.
    size_token: bool = False

    def __post_init__(self) -> None:
        require_positive("", self, "image_size rank near far steps")
        require(
            self.units == "scene" or not self.size_token,
            "size_token = true needs units = 'scene': relative depth knows no size",
        )
        require(self.near < self.far, f"near must be less than far, got {self.near} and {self.far}")
        require(self.rank is None or bool(self.layers), "a low-rank update needs layers, for example ['blocks']")


def _check_grid(section: str, network: NetworkConfig, image_size: int, autoencoder: str, spec: LatentSpec) -> None:
    require(
        network.latent_channels == spec.channels,
        f"{section}.latent_channels {network.latent_channels} differs from the {spec.channels} channels of "
        f"{autoencoder!r}",
    )
    pixels, rays = spec.spatial * network.patch, network.ray_map // network.ray_patch
    require(
        pixels * rays == image_size,
        f"image_size {image_size} does not fit the {section}: {autoencoder!r} makes latent cells of "
        f"{spec.spatial} pixels and {section}.patch is {network.patch}, so a token covers {pixels} pixels, but "
        f"{section}.ray_map {network.ray_map} in patches of {network.ray_patch} gives {rays} tokens a side, "
        f"{pixels * rays} pixels",
    )
