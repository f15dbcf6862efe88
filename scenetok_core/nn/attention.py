"""The only attention of the package: self or cross, optional qk-norm, rotary positions as callables."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rope = Callable[[Tensor], Tensor]  # [B, H, L, D] -> [B, H, L, D]
Attend = Callable[..., Tensor]  # q, k, v [B, H, L, D] and, where keys carry a bias, that -> [B, H, L, D]
KeysValues = tuple[Tensor, Tensor]  # [B, H, L, D] each
_HALF = (torch.bfloat16, torch.float16)


@functools.cache
def _flash_attention() -> Callable[..., Tensor] | None:
    try:
        from flash_attn import flash_attn_func
    except (ImportError, OSError, RuntimeError):  # not installed, or built for another torch or CUDA
        return None
    return flash_attn_func


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: [B, H, Lq, D], [B, H, Lk, D], [B, H, Lk, D] -> [B, H, Lq, D].

    By flash-attn where it is installed and can (half precision on a GPU, no bias), else by torch; when training in half
    precision on a CPU, by plain products. `bias` [B, 1, 1, Lk]
    is added to the scores; it is rounded to the dtype of `q`, which torch's kernels ask for.
    """
    if bias is None and q.is_cuda and q.dtype in _HALF and (flash := _flash_attention()):
        return flash(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    if q.requires_grad and q.device.type == "cpu" and q.dtype in _HALF:  # forward and backward take half as long so
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return (scores if bias is None else scores + bias.to(q.dtype)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32; `eps=None` is torch's default (the float32 epsilon)."""

    def __init__(self, dim: int, eps: float | None = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension; keeps shape and dtype."""
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(x.dtype)


class Attention(nn.Module):
    """Self attention (fused `qkv`) or cross attention (`to_q`, `to_k`, `to_v`), under the released parameter names."""

    def __init__(
        self, dim: int, heads: int, *, cross: bool = False, qk_norm: bool = False, eps: float | None = 1e-6
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Attend = attend
        if cross:
            self.to_q, self.to_k, self.to_v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = RMSNorm(dim // heads, eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(dim // heads, eps) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def keys_values(self, context: Tensor, rope: Rope | None = None) -> KeysValues:
        """Keys and values of a cross-attention context [B, L, dim]; compute them once when the context stays."""
        k, v = self.k_norm(self._split(self.to_k(context))), self._split(self.to_v(context))
        return (rope(k) if rope else k), v

    def own_keys_values(self, x: Tensor) -> KeysValues:
        """Keys and values of `x` [B, L, dim] in a self attention, for others to attend to `beside` their own."""
        dim = x.shape[-1]
        k, v = F.linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)
        return self.k_norm(self._split(k)), self._split(v)

    def forward(
        self,
        x: Tensor,  # [B, L, dim]
        context: KeysValues | None = None,
        rope: Rope | None = None,
        bias: Tensor | None = None,  # [B, 1, 1, Lk] added to the scores
        beside: KeysValues | None = None,  # further keys and values of a self attention, behind those of `x`
    ) -> Tensor:
        """Self attention over `x` (`rope` on q and k), or cross attention to `context` (`rope` on q only)."""
        if context is None:
            q, k, v = (self._split(part) for part in self.qkv(x).chunk(3, dim=-1))
            q, k = self.q_norm(q), self.k_norm(k)
            k = rope(k) if rope else k
            if beside is not None:
                k, v = torch.cat([k, beside[0]], dim=2), torch.cat([v, beside[1]], dim=2)
        else:
            q, (k, v) = self.q_norm(self._split(self.to_q(x))), context
        q = rope(q) if rope else q
        out = self.attend(q, k, v) if bias is None else self.attend(q, k, v, bias)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def use_attention(model: nn.Module, function: Attend) -> None:
    """Let every attention of `model` call `function(q, k, v)` instead of torch's own.

    In the scene generator keys carry a bias: there it is `function(q, k, v, bias)`, as in `attend`.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = function
