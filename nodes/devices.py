"""Loaded models under ComfyUI's memory management."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import comfy.model_management as management
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..scenetok_core import DepthHead, LatentGenerator, Rae, SceneGenerator, SceneModel, SceneTok
from ..scenetok_core.nn.attention import Attend, attend, use_attention
from ..scenetok_core.nn.blocks import compile_blocks
from ..scenetok_core.placement import Exhaustion, free_memory, stay
from .folders import weight_folders

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_log = logging.getLogger("SceneTok")

P = TypeVar("P", bound=SceneTok | Rae | SceneGenerator | LatentGenerator)


def load_managed(open_file: Callable[..., P], path: Path, dtype: str, compiled: bool) -> P:
    """Load a checkpoint in main memory; its networks move to the compute device when a stage needs them.

    Args:
        open_file: `open_model` or `open_generator`.
        path: of the checkpoint.
        dtype: a key of `DTYPES`.
        compiled: let torch.compile join the operations of a block.

    Raises:
        ValueError: an unknown dtype, a file that is no usable checkpoint of this kind, or missing weights of a part.
    """
    device, offload = management.get_torch_device(), management.unet_offload_device()
    pipeline = open_file(path, device="cpu", dtype=_choose_dtype(dtype, device), folders=weight_folders())
    use_attention(pipeline.networks, _attention(device))
    if compiled:
        compile_blocks(pipeline.networks)
    _log.info("loaded %s (%s) for %s", path.name, pipeline.config.name, device)
    return managed(pipeline, device, offload)


def managed(pipeline: P, device: torch.device, offload: torch.device) -> P:
    """`pipeline` with every network under ComfyUI's management: on `device` for its stage, else there or on `offload`.

    What else is on the device makes room as far as the stage needs it.
    """
    # In a shell, as ComfyUI sets `device` on what it manages; on diffusers' models that cannot be set.
    patchers = {network: ModelPatcher(nn.Sequential(network), device, offload) for network in pipeline.modules}

    def place(network: nn.Module, needed: int) -> torch.device:
        management.load_models_gpu([patchers[network]], memory_required=needed, force_full_load=True)
        return stay(network, needed)

    def room(network: nn.Module) -> int:
        if management.is_device_cpu(device):
            return free_memory(network)
        kept = patchers[network].model_size() + management.minimum_inference_memory()
        return management.get_total_memory(device) - kept

    def relieve(told: str) -> None:
        _log.warning(told)
        management.soft_empty_cache()

    placed = replace(pipeline, place=place)
    if isinstance(placed, (SceneTok, Rae)):
        placed = replace(placed, exhaustion=Exhaustion((management.OOM_EXCEPTION,), relieve))
    return replace(placed, room=room) if isinstance(placed, SceneTok) else placed


def load_managed_head(path: Path, model: SceneModel) -> DepthHead:
    """Load a depth head for a model of `load_managed`; its decoder is managed like the model's networks.

    Raises:
        ValueError: an unusable file, no depth head, or one for another model.
    """
    device, offload = management.get_torch_device(), management.unet_offload_device()
    head = DepthHead.load(path, model)
    network, elsewhere = head.model.networks.denoiser.to(offload), head.model.place
    patcher = ModelPatcher(nn.Sequential(network), device, offload)

    def place(stage: nn.Module, needed: int) -> torch.device:
        if stage is not network:
            return elsewhere(stage, needed)
        management.load_models_gpu([patcher], memory_required=needed, force_full_load=True)
        return stay(stage, needed)

    _log.info("loaded depth head %s (%s) for %s", path.name, head.config.name, device)
    return replace(head, model=replace(head.model, place=place))


def _choose_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """None: as `default_dtype` of the core says."""
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; choose one of {', '.join(DTYPES)}")
    if name != "auto" or management.is_device_cpu(device):
        return DTYPES[name]
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
