"""Weights into networks: names and shapes are checked first, and nothing is initialised in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_LISTED = 5
_LARGE = 100_000_000  # numbers in the weights of a large network


def default_dtype(device: torch.device | str, state: Mapping[str, Tensor]) -> torch.dtype:
    """What the weights `state` are kept in unless told otherwise (docs/speed.md).

    bfloat16 on a GPU. On a CPU float32, but bfloat16 for a large network, whose time goes into products, where the
    processor multiplies such numbers.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    able = getattr(torch.cpu, "get_capabilities", dict)()
    fast = able.get("amx_bf16") or able.get("avx512_bf16")
    return torch.bfloat16 if fast and sum(tensor.numel() for tensor in state.values()) >= _LARGE else torch.float32


def check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], what: str) -> None:
    """Raise `ValueError` unless `state` has exactly the names and shapes of `expected`.

    Args:
        state: tensors by name.
        expected: shapes by name.
        what: start of the message, for example "checkpoint does not fit the configuration 'tiny'".

    Raises:
        ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named.
    """
    faults = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "mis-shaped": [
            f"{name} is {list(state[name].shape)}, expected {list(shape)}"
            for name, shape in expected.items()
            if name in state and list(state[name].shape) != list(shape)
        ],
    }
    text = "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:_LISTED])}{' ...' if len(names) > _LISTED else ''}"
        for fault, names in faults.items()
        if names
    )
    if text:
        raise ValueError(f"{what}: {text}")


def assign_weights(network: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Make `state`, already checked, the weights of a network built on the meta device; ready for inference.

    Args:
        network: changed in place.
        state: tensors under the network's names; not changed, but shared where the dtype stays.
        dtype: dtype of the floating-point weights; None keeps theirs. Buffers, such as statistics and frequencies, stay
            as they are: a network is not used to rounded ones.
    """
    buffers = {name for name, _ in network.named_buffers()}
    cast = {k: v.to(dtype) if dtype and v.is_floating_point() and k not in buffers else v for k, v in state.items()}
    network.load_state_dict(cast, strict=True, assign=True)
    network.eval().requires_grad_(False)
