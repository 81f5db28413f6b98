"""The transformer behind densities on codes."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.samplers.learned import TrainingConfig

Cache = list[tuple[Tensor, Tensor]]  # of each block: keys and values, b heads t d


class TransformerConfig(TrainingConfig):
    """Options of samplers that are a transformer."""

    hidden_dim: int = Field(128, ge=2, le=16384, description="width of the transformer, shared out among its heads")
    num_layers: int = Field(4, ge=1, le=256, description="its blocks")
    num_heads: int = Field(4, ge=1, le=256, description="heads of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the embeddings and of every residual branch, in training")
    positions: Literal["learned", "rotary"] = Field(
        "learned", description="a learned vector for each code of the grid, or rotations by the distance of two"
    )


class Transformer(nn.Module):
    """Tokens b t -> logits b t num_out.

    Pre-norm blocks as in GPT-2 (Radford et al., 2019); positions learned, or rotary (Su et al., arXiv 2104.09864,
    eq. 34). The levels of a residual quantiser have a learned vector each, wherever the positions come from.
    """

    def __init__(self, config: TransformerConfig, num_tokens: int, num_out: int, length: int, num_levels: int = 1):
        super().__init__()
        dim = config.hidden_dim
        if dim % (2 * config.num_heads):
            raise ValueError(f"hidden_dim must be a multiple of 2 * num_heads = {2 * config.num_heads}; got {dim}")
        self.tokens = nn.Embedding(num_tokens, dim)
        self.place = nn.Parameter(torch.zeros(length, dim)) if config.positions == "learned" else None
        self.level = nn.Parameter(torch.zeros(num_levels, dim)) if num_levels > 1 else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(dim, config.num_heads, config.dropout) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, num_out)
        angles = rotations(length, dim // config.num_heads) if config.positions == "rotary" else None
        self.register_buffer("angles", angles, persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:  # the sum of all branches starts as wide as one
            for last in (block.join, block.mlp[-1]):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * config.num_layers))

    def forward(self, tokens: Tensor, causal: bool = False, cache: Cache | None = None) -> Tensor:
        """cache: keys and values of the tokens before these, which are added to it; then one token at a time."""
        start = cache[0][0].shape[2] if cache else 0
        where = slice(start, start + tokens.shape[1])
        x = self.tokens(tokens)
        if self.place is not None:
            x = x + self.place[where]
        if self.level is not None:
            x = x + self.level[torch.arange(where.start, where.stop, device=x.device) % len(self.level)]
        x = self.dropout(x)
        angles = None if self.angles is None else self.angles[where]
        for n, block in enumerate(self.blocks):
            x = block(x, causal, angles, cache, n)
        return self.out(self.norm(x))


class Block(nn.Module):
    """Attention, then two layers, each added to what came in; b t d -> b t d."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.norm_of_attention, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values, self.join = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, causal: bool, angles: Tensor | None, cache: Cache | None, n: int) -> Tensor:
        heads = self.queries_keys_values(self.norm_of_attention(x)).unflatten(2, (3, self.num_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # b heads t d each
        if angles is not None:
            q, k = rotated(q, angles), rotated(k, angles)
        before = 0
        if cache is not None:
            if n < len(cache):
                before = cache[n][0].shape[2]
                k, v = torch.cat([cache[n][0], k], 2), torch.cat([cache[n][1], v], 2)
                cache[n] = k, v
            else:
                cache.append((k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal and not before)
        x = x + self.dropout(self.join(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm(x)))


def rotations(length: int, dim: int) -> Tensor:
    """length dim/2: the angle by which each pair of numbers is turned at each position."""
    return torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """b heads t d, the halves of whose d numbers are the pairs."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
