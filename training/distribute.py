"""Networks that do not fit one device: weights sharded over processes, activations computed again.

Sharded weights are `DTensor`s, of which every process holds a slice. `whole` and `placed_like` translate between these
and the plain tensors that files hold, so a state does not tell how many processes wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scenetok_core.nn.blocks import Block, DiTBlock, PerceiverBlock


def network_blocks(model: nn.Module) -> Iterator[Block | DiTBlock | PerceiverBlock]:
    """The transformer blocks of `model`, which hold nearly all of its weights and activations."""
    return (module for module in model.modules() if isinstance(module, (Block, DiTBlock, PerceiverBlock)))


def recompute_blocks(model: nn.Module) -> None:
    """Let every block keep only its inputs for the backward pass, which computes the rest again."""
    for block in network_blocks(model):
        block.forward = _recomputed(block.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **named: Any) -> Any:  # a function, since torch.compile would skip a partial
        # blocks draw no random numbers, so none have to be drawn again
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

    return run


def sharding_wanted() -> bool:
    """Whether `accelerate launch` was told to shard, by `distributed_type: FSDP`, and several processes run.

    Raises:
        ValueError: FSDP of version 1.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true" or not torch.distributed.is_initialized():
        return False
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise ValueError(
            f"sharding needs fsdp_version: 2 in the accelerate configuration, got {version}; "
            "see training/accelerate/eight_gpus_fsdp.yaml"
        )
    return True


def shard(model: nn.Module, device: torch.device) -> None:
    """Shard the weights of `model`, in place, over all processes: every block by itself, the rest together.

    Weights, gradients and moments stay in float32; `run.mixed_precision` acts as without sharding. Afterwards all
    processes must run the same blocks, and only through the model's `forward`.

    Raises:
        ValueError: this torch has no `fully_shard`.
    """
    try:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    except ImportError as error:
        raise ValueError(f"sharding needs torch 2.6 or newer, got {torch.__version__}; update it") from error
    mesh = torch.distributed.init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in network_blocks(model):
        # keys and values are computed before the block runs
        if isinstance(block, DiTBlock):
            fully_shard(block.attn2, mesh=mesh)
            register_fsdp_forward_method(block.attn2, "keys_values")
        fully_shard(block, mesh=mesh)
        if isinstance(block, Block):
            register_fsdp_forward_method(block, "keys_values")
    fully_shard(model, mesh=mesh)


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor, without a copy."""
    return [tensor.to_local() if _is_sharded(tensor) else tensor for tensor in tensors]  # type: ignore[operator]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; where it is sharded, all processes must call this."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[operator]


def placed_like(
    value: Tensor,  # whole, the same on every process
    example: Tensor,  # same shape
) -> Tensor:
    """`value` on the device of `example`, and sharded as that is."""
    value = value.to(example.device)
    if not _is_sharded(example):
        return value
    from torch.distributed.tensor import distribute_tensor  # torch may be older where nothing is sharded

    return distribute_tensor(value, example.device_mesh, example.placements, src_data_rank=None)  # type: ignore[arg-type]


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "device_mesh")
