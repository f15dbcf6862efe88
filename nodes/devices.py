"""A loaded model under ComfyUI's memory management."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management as management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..scenetok_core import SceneTok
from ..scenetok_core.nn.attention import Attend, attend, use_attention

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_log = logging.getLogger("SceneTok")


@dataclass(frozen=True, eq=False)
class ManagedModel:
    """What travels on a SCENETOK_MODEL socket."""

    pipeline: SceneTok
    patcher: ModelPatcher

    def on_device(self, frames: int) -> SceneTok:
        """The pipeline with its networks wholly on the compute device, with room to work on `frames` pictures."""
        needed = self.pipeline.memory_estimate(frames)
        management.load_models_gpu([self.patcher], memory_required=needed, force_full_load=True)
        return self.pipeline


def load_managed(path: Path, dtype: str) -> ManagedModel:
    """Load a checkpoint in main memory; it moves to the compute device when a node needs it.

    Raises:
        ValueError: an unknown dtype, or a file that is no usable checkpoint.
    """
    device = management.get_torch_device()
    pipeline = SceneTok.load(path, device="cpu", dtype=_choose_dtype(dtype, device))
    use_attention(pipeline.networks, _attention(device))
    patcher = ModelPatcher(pipeline.networks, load_device=device, offload_device=management.unet_offload_device())
    _log.info("loaded %s (%s) for %s", path.name, pipeline.config.name, device)
    return ManagedModel(pipeline, patcher)


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

    def cancellable(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        management.throw_exception_if_processing_interrupted()
        if management.is_device_cpu(device):
            return attend(q, k, v)
        return optimized_attention(q, k, v, heads=q.shape[1], skip_reshape=True, skip_output_reshape=True)

    return cancellable
