"""A loaded model under ComfyUI's memory management."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import comfy.model_management as management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..scenetok_core import SceneTok
from ..scenetok_core.generation import SceneGenerator
from ..scenetok_core.nn.attention import Attend, attend, use_attention
from .folders import weight_folders

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_log = logging.getLogger("SceneTok")


P = TypeVar("P", SceneTok, SceneGenerator)


@dataclass(frozen=True, eq=False)
class Managed(Generic[P]):
    """What travels on a SCENETOK_MODEL or SCENEGEN_MODEL socket."""

    pipeline: P
    patchers: tuple[ModelPatcher, ...]

    def on_device(self, frames: int) -> P:
        """The pipeline with all its weights on the compute device, with room to work on `frames` pictures."""
        needed = self.pipeline.memory_estimate(frames)
        management.load_models_gpu(list(self.patchers), memory_required=needed, force_full_load=True)
        return self.pipeline


ManagedModel = Managed[SceneTok]
ManagedGenerator = Managed[SceneGenerator]


def load_managed(kind: type[P], path: Path, dtype: str) -> Managed[P]:
    """Load a checkpoint in main memory; it moves to the compute device when a node needs it.

    Raises:
        ValueError: an unknown dtype, a file that is no usable checkpoint of this kind, or missing autoencoder weights.
    """
    device, offload = management.get_torch_device(), management.unet_offload_device()
    pipeline = kind.load(path, device="cpu", dtype=_choose_dtype(dtype, device), folders=weight_folders())
    use_attention(pipeline.networks, _attention(device))
    patchers = (ModelPatcher(module, load_device=device, offload_device=offload) for module in pipeline.modules)
    _log.info("loaded %s (%s) for %s", path.name, pipeline.config.name, device)
    return Managed(pipeline, tuple(patchers))


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; choose one of {', '.join(DTYPES)}")
    if name != "auto":
        return DTYPES[name] or torch.float32
    if management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if management.should_use_fp16(device) else torch.float32


def _attention(device: torch.device) -> Attend:
    """ComfyUI's attention, so that its command line options hold; on a CPU torch's own is faster."""

    def cancellable(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        management.throw_exception_if_processing_interrupted()
        if bias is not None or management.is_device_cpu(device):
            return attend(q, k, v, bias)
        return optimized_attention(q, k, v, heads=q.shape[1], skip_reshape=True, skip_output_reshape=True)

    return cancellable
