"""A transformer for the velocity of maps."""

import torch
from timm.layers import Mlp, build_sincos2d_pos_embed
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from genzoo.parts import Shape
from genzoo.samplers.velocity.times import TimeEmbedding


class DiTVelocity(nn.Module):
    """The diffusion transformer with adaLN-Zero, Peebles & Xie (arXiv 2212.09748); b c h w and b -> b c h w.

    Its tokens are patches of patch_size^2 pixels. At first every block is the identity, and the velocity zero.
    ValueError where the patches do not cover the map, or the heads do not share the width.
    """

    def __init__(self, shape: Shape, hidden_dim: int, num_layers: int, num_heads: int, patch_size: int):
        super().__init__()
        channels, height, width = shape
        if height % patch_size or width % patch_size:
            raise ValueError(f"patches of {patch_size}x{patch_size} do not cover a map of {height}x{width}")
        if hidden_dim % num_heads or hidden_dim % 4:
            raise ValueError(f"hidden_dim {hidden_dim} must be a multiple of num_heads {num_heads}, and of 4")
        self.grid, self.patch_size = (height // patch_size, width // patch_size), patch_size
        self.enter = nn.Conv2d(channels, hidden_dim, patch_size, patch_size)
        self.register_buffer("positions", build_sincos2d_pos_embed(list(self.grid), hidden_dim), persistent=False)
        self.time = TimeEmbedding(hidden_dim)
        self.blocks = nn.ModuleList(Block(hidden_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False, eps=1e-6)
        self.modulation = zeroed(nn.Linear(hidden_dim, 2 * hidden_dim))
        self.leave = zeroed(nn.Linear(hidden_dim, channels * patch_size**2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        tokens = self.enter(x).flatten(2).transpose(1, 2) + self.positions  # b (h w) d
        condition = nn.functional.silu(self.time(t))
        for block in self.blocks:
            tokens = block(tokens, condition)
        patches = self.leave(modulated(self.norm(tokens), *self.modulation(condition).chunk(2, 1)))
        return nn.functional.fold(patches.transpose(1, 2), x.shape[2:], self.patch_size, stride=self.patch_size)


class Block(nn.Module):
    """Attention and an MLP, each scaled, shifted and gated by the condition: b n d and b d -> b n d."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.attention = Attention(dim, num_heads, qkv_bias=True)
        self.mlp = Mlp(dim, 4 * dim, act_layer=lambda: nn.GELU(approximate="tanh"))
        self.modulation = zeroed(nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(condition).chunk(6, 1)
        x = x + gate[:, None] * self.attention(modulated(self.norms[0](x), shift, scale))
        return x + gate_mlp[:, None] * self.mlp(modulated(self.norms[1](x), shift_mlp, scale_mlp))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """b n d, by b d."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
