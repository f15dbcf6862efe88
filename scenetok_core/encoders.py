"""The frozen 2-D encoders of 3DRAE (arXiv 2604.11331, section A.1): pictures -> one feature per patch.

Their weights lie in a folder named like their hub repository, `dinov2-base/config.json` and
`dinov2-base/model.safetensors`. Of what a network makes, patches are kept after its last LayerNorm; class and register
tokens are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from .weights.checkpoints import model_hash, read_tensors
from .weights.loading import assign_weights, check_shapes

FILES = ("config.json", "model.safetensors")
_PICTURES = 16  # encoded at once
_WIDEST = 11  # numbers per token and channel at the widest place; measured 9 to 10
_POSITIONS = 37**2  # in the largest table, which is interpolated in float32
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError)


@dataclass(frozen=True)
class EncoderSpec:
    """What differs between 2-D encoders."""

    repo: str  # on the hub
    patch: int  # pixels along an edge
    statistics: tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of pictures in [0, 1], RGB
    load: Callable[[Path], nn.Module]  # from a folder with `FILES`
    sizes: Callable[[nn.Module], tuple[int, int]]  # patch and width of what was loaded
    features: Callable[[nn.Module, Tensor], Tensor]  # normalised pictures [n, 3, H, W] -> [n, patches, width]

    @property
    def folder(self) -> str:
        """Name of the folder with its files."""
        return self.repo.rpartition("/")[2]


def _load_transformers(name: str, folder: Path) -> nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"the 2-D encoder in {folder.name} needs transformers, which ComfyUI brings: pip install transformers "
            f"({error})"
        ) from error
    with _quiet(transformers), torch.random.fork_rng(devices=[]):
        network, report = getattr(transformers, name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, {missing[0]} among them")
    return network


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the progress bars and reports of transformers."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _load_depth_anything(folder: Path) -> nn.Module:
    try:
        from depth_anything_3.model.dinov2.dinov2 import DinoV2  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"the 2-D encoder in {folder.name} needs the package depth_anything_3: pip install "
            f"git+https://github.com/ByteDance-Seed/Depth-Anything-3 ({error})"
        ) from error
    settings = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))["config"]["net"]
    with torch.random.fork_rng(devices=[]):  # it reads its own numbers, so the meta device will not do
        network = DinoV2(**{key: value for key, value in settings.items() if not key.startswith("__")})
    prefix, tensors = "model.backbone.", read_tensors(folder / FILES[1])[0]
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    check_shapes(state, {name: tensor.shape for name, tensor in network.state_dict().items()}, "other weights")
    assign_weights(network, state)
    return network


def _sizes_of_transformers(network: Any) -> tuple[int, int]:
    return network.config.patch_size, network.config.hidden_size


def _sizes_of_depth_anything(network: Any) -> tuple[int, int]:
    return network.pretrained.patch_size, network.pretrained.embed_dim


def _features_of_dinov2(network: nn.Module, pictures: Tensor) -> Tensor:
    return network(pixel_values=pictures).last_hidden_state[:, 1:]


def _features_of_siglip(network: nn.Module, pictures: Tensor) -> Tensor:
    return network(pixel_values=pictures, interpolate_pos_encoding=True).last_hidden_state


def _features_of_depth_anything(network: Any, pictures: Tensor) -> Tensor:
    trunk = network.pretrained  # every picture is a scene of one view
    ((features, _),), _ = trunk.get_intermediate_layers(pictures[:, None], n=1)
    return features[:, 0, :, -trunk.embed_dim :]  # before them, without the norm: those of the last layer per view


# By `RaeConfig.encoder`. SigLIP2's releases of fixed size are models of SigLIP's architecture, which take any size.
ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        "dinov2": EncoderSpec(
            repo="facebook/dinov2-base",
            patch=14,
            statistics=_IMAGENET,
            load=partial(_load_transformers, "Dinov2Model"),
            sizes=_sizes_of_transformers,
            features=_features_of_dinov2,
        ),
        "siglip2": EncoderSpec(
            repo="google/siglip2-base-patch16-256",
            patch=16,
            statistics=_HALVES,
            load=partial(_load_transformers, "SiglipVisionModel"),
            sizes=_sizes_of_transformers,
            features=_features_of_siglip,
        ),
        "depth_anything_3": EncoderSpec(
            repo="depth-anything/DA3-BASE",
            patch=14,
            statistics=_IMAGENET,
            load=_load_depth_anything,
            sizes=_sizes_of_depth_anything,
            features=_features_of_depth_anything,
        ),
    }
)


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """A loaded 2-D encoder for a 3DRAE."""

    network: nn.Module
    spec: EncoderSpec
    patch: int  # of the 3DRAE: pixels along an edge of what has one feature
    width: int  # numbers of a feature

    @torch.no_grad()
    def encode(self, rgb: Tensor) -> Tensor:
        """Features of patches, rows from the top and in each from the left.

        Pictures are brought to the size at which the encoder's own patches are as many.

        Args:
            rgb: pictures [n, 3, H, W] in [0, 1], n >= 1, on the network's device; sides are multiples of `patch`.

        Returns:
            [n, H / patch * W / patch, width] in the network's dtype.

        Raises:
            ValueError: a side is no multiple of `patch`.
        """
        height, width = rgb.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"sides of pictures must be multiples of {self.patch} pixels, got {height} x {width}")
        size = (height // self.patch * self.spec.patch, width // self.patch * self.spec.patch)
        mean, std = (rgb.new_tensor(values, dtype=torch.float32)[:, None, None] for values in self.spec.statistics)
        dtype, found = next(self.network.parameters()).dtype, []
        for pictures in rgb.float().split(_PICTURES):
            if size != (height, width):
                pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
            found.append(self.spec.features(self.network, ((pictures - mean) / std).to(dtype)))
        return torch.cat(found)

    def encode_bytes(self, pictures: int, patches: int) -> int:
        """Bytes to encode so many pictures of so many patches each, beside the weights."""
        itemsize, together = next(self.network.parameters()).dtype.itemsize, min(pictures, _PICTURES)
        features = 2 * pictures * patches * self.width * itemsize
        pixels = 3 * patches * (pictures * self.patch**2 + 2 * together * self.spec.patch**2)
        exact = (pixels + _POSITIONS * self.width) * torch.float32.itemsize
        return _WIDEST * together * (patches + 1) * self.width * itemsize + features + exact

    @property
    def hash(self) -> str:
        """16 hex digits that identify its weights in their dtype."""
        return model_hash(self.network.state_dict())


def load_encoder(
    name: str,
    folders: Sequence[Path],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    patch: int = 14,
    width: int | None = None,
) -> ImageEncoder:
    """The frozen 2-D encoder a configuration names.

    Args:
        name: a key of `ENCODERS`.
        folders: where the folder with its files may lie; the first one that holds both counts.
        device: of its weights.
        dtype: of its weights.
        patch: pixels along an edge of what has one feature, the 3DRAE's `patch`.
        width: numbers of a feature that are expected, the 3DRAE's `hidden`; None: any.

    Raises:
        ValueError: an unknown name, no such files in the folders, damaged ones or others than the encoder's, or
            features of another width.
        ImportError: a package that the encoder needs is missing.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown 2-D encoder {name!r}; choose one of {', '.join(ENCODERS)}, or none for image only")
    spec = ENCODERS[name]
    folder = _find(name, spec, folders)
    try:
        network = spec.load(folder)
        found_patch, found_width = spec.sizes(network)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{folder} does not hold the 2-D encoder {name!r} ({reason}); delete it and fetch it again: {_fetch(spec)}"
        ) from error
    if found_patch != spec.patch:
        raise ValueError(
            f"the 2-D encoder in {folder} has patches of {found_patch} pixels, {name!r} has {spec.patch}; fetch the "
            f"right one: {_fetch(spec)}"
        )
    if width is not None and found_width != width:
        raise ValueError(
            f"the 2-D encoder in {folder} makes features of {found_width} numbers, but the 3DRAE has hidden {width}, "
            "and its network adds them to tokens of that width: give it an encoder of this width, or train it with "
            f"hidden = {found_width}"
        )
    network.eval().requires_grad_(False)
    return ImageEncoder(network.to(device, dtype), spec, patch, found_width)


def _find(name: str, spec: EncoderSpec, folders: Sequence[Path]) -> Path:
    found = (Path(folder) / spec.folder for folder in folders)
    whole = next((folder for folder in found if all((folder / file).is_file() for file in FILES)), None)
    if whole is None:
        places = " or ".join(str(Path(folder) / spec.folder) for folder in folders)
        raise ValueError(
            f"the 2-D encoder {name!r} needs {' and '.join(FILES)} of {spec.repo} in {places}; fetch them: "
            f"{_fetch(spec, folders)}"
        )
    return whole


def _fetch(spec: EncoderSpec, folders: Sequence[Path] = ()) -> str:
    folder = str(folders[0]) if folders else "FOLDER"
    return f'`python -m scenetok_core download {spec.folder} --folder "{folder}"`'
