"""The transformer blocks of all models; those of SceneTok under the released parameter names."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import Attention, KeysValues, RMSNorm, Rope
from .layers import SwiGLU, modulate


def _modulation(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))


class Block(nn.Module):
    """Self attention and SwiGLU, each on a normalised input (3DRAE)."""

    def __init__(self, dim: int, heads: int, *, qk_norm: bool, ratio: float, eps: float | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(dim, eps), RMSNorm(dim, eps)
        self.attn = Attention(dim, heads, qk_norm=qk_norm, eps=eps)
        self.mlp = SwiGLU(dim, ratio)

    def keys_values(self, x: Tensor) -> KeysValues:
        """What others see of tokens [B, L, dim] before this block."""
        return self.attn.own_keys_values(self.norm1(x))

    def forward(
        self,
        x: Tensor,  # [B, L, dim]
        beside: KeysValues | None = None,  # what is seen beside x
        bias: Tensor | None = None,  # [B, 1, 1, Lk] on the scores of all that is seen
    ) -> Tensor:
        """[B, L, dim] -> [B, L, dim]."""
        x = x + self.attn(self.norm1(x), beside=beside, bias=bias)
        return x + self.mlp(self.norm2(x))


class DiTBlock(nn.Module):
    """adaLN self attention, cross attention to fixed keys and values, adaLN SwiGLU (decoder and scene generator).

    The cross attention's input is not normalised and only its queries carry positions: that is how the released models
    were trained. 3DDiT has none.
    """

    def __init__(
        self, dim: int, heads: int, *, qk_norm: bool, ratio: float, eps: float | None, cross: bool = True
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(dim, eps), RMSNorm(dim, eps)
        self.attn = Attention(dim, heads, qk_norm=qk_norm, eps=eps)
        if cross:
            self.attn2 = Attention(dim, heads, cross=True, qk_norm=qk_norm, eps=eps)
        self.mlp = SwiGLU(dim, ratio)
        self.adaLN_modulation = _modulation(dim)

    def forward(
        self,
        x: Tensor,  # [B, L, dim]
        cond: Tensor,  # [B, L or 1, dim]
        context: KeysValues | None = None,  # of the cross attention, where there is one
        rope: Rope | None = None,
        bias: Tensor | None = None,  # [B, 1, 1, Lk] on the scores of the context
    ) -> Tensor:
        """[B, L, dim] -> [B, L, dim]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(cond).chunk(6, dim=-1)
        x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1), rope=rope)
        if context is not None:
            x = x + self.attn2(x, context, rope=rope, bias=bias)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class PerceiverBlock(nn.Module):
    """View latents attend to themselves; scene tokens attend to themselves, then read the views (compressor).

    The tokens' reading query is not normalised and only its keys carry positions, as released. The last block does not
    update the views after they are read.
    """

    def __init__(self, dim: int, heads: int, *, last: bool, qk_norm: bool, ratio: float, eps: float | None) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm4 = RMSNorm(dim, eps), RMSNorm(dim, eps), RMSNorm(dim, eps)
        self.attn1 = Attention(dim, heads, qk_norm=qk_norm, eps=eps)
        self.attn2 = Attention(dim, heads, qk_norm=qk_norm, eps=eps)
        self.attn3 = Attention(dim, heads, cross=True, qk_norm=qk_norm, eps=eps)
        self.mlp2 = SwiGLU(dim, ratio)
        self.last = last
        if not last:
            self.norm3, self.mlp1 = RMSNorm(dim, eps), SwiGLU(dim, ratio)
        self.adaLN_modulation = _modulation(dim)

    def forward(
        self,
        tokens: Tensor,  # [B, N, dim]
        views: Tensor,  # [B, L, dim]
        cond: Tensor,  # [B, L, dim]
        rope: Rope | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Updated (tokens, views)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(cond).chunk(6, dim=-1)
        views = views + gate1 * self.attn1(modulate(self.norm1(views), shift1, scale1), rope=rope)
        tokens = tokens + self.attn2(self.norm2(tokens))
        tokens = tokens + self.attn3(tokens, self.attn3.keys_values(views, rope))
        if not self.last:
            views = views + gate2 * self.mlp1(modulate(self.norm3(views), shift2, scale2))
        return tokens + self.mlp2(self.norm4(tokens)), views


def compile_blocks(model: nn.Module) -> None:
    """Let torch.compile join the operations of every block of `model`, which all share one compiled form.

    Happens at the first call, takes about a minute and needs a C++ compiler (CPU) or Triton (GPU).
    """
    for module in model.modules():
        if isinstance(module, (Block, DiTBlock, PerceiverBlock)):
            module.compile()
