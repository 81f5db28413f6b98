"""A convolutional network for the velocity of maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.parts import Shape
from genzoo.samplers.velocity.times import TimeEmbedding

MAX_HALVINGS = 3


class UNetVelocity(nn.Module):
    """The U-Net of Ho et al. (arXiv 2006.11239, appendix B), with scale and shift by the time (arXiv 2105.05233).

    hidden_dim channels at full size, twice as many below; the map is halved, rounded up, until its shorter side is 4
    or less, at most three times; `num_layers` residual blocks at each size on the way down, and on the way up;
    attention at the smallest. b c h w and b -> b c h w; at first the velocity is zero.
    """

    def __init__(self, shape: Shape, hidden_dim: int, num_layers: int):
        super().__init__()
        side, dims = min(shape[1:]), [hidden_dim]
        while side > 4 and len(dims) <= MAX_HALVINGS:
            side, dims = -(-side // 2), [*dims, 2 * hidden_dim]
        embed_dim = 4 * hidden_dim
        self.time = TimeEmbedding(embed_dim)
        self.enter = nn.Conv2d(shape[0], hidden_dim, 3, padding=1)
        self.down, self.halve, skips, dim = nn.ModuleList(), nn.ModuleList(), [hidden_dim], hidden_dim
        for scale, wide in enumerate(dims):
            self.down.append(
                nn.ModuleList(ResBlock(dim if i == 0 else wide, wide, embed_dim) for i in range(num_layers))
            )
            skips += [wide] * num_layers
            dim = wide
            if scale < len(dims) - 1:
                self.halve.append(nn.Conv2d(dim, dim, 3, stride=2, padding=1))
                skips.append(dim)
        self.middle = nn.ModuleList([ResBlock(dim, dim, embed_dim), Attention(dim), ResBlock(dim, dim, embed_dim)])
        self.up = nn.ModuleList()
        for wide in reversed(dims):
            blocks = nn.ModuleList()
            for _ in range(num_layers + 1):
                blocks.append(ResBlock(dim + skips.pop(), wide, embed_dim))
                dim = wide
            self.up.append(blocks)
        self.leave = nn.Sequential(norm(dim), nn.SiLU(), nn.Conv2d(dim, shape[0], 3, padding=1))
        nn.init.zeros_(self.leave[-1].weight)
        nn.init.zeros_(self.leave[-1].bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = F.silu(self.time(t))
        h = self.enter(x)
        skips = [h]
        for scale, blocks in enumerate(self.down):
            for block in blocks:
                skips.append(h := block(h, time))
            if scale < len(self.halve):
                skips.append(h := self.halve[scale](h))
        first, attention, last = self.middle
        h = last(attention(first(h, time)), time)
        for blocks in self.up:
            for block in blocks:
                skip = skips.pop()
                if h.shape[2:] != skip.shape[2:]:
                    h = F.interpolate(h, skip.shape[2:])
                h = block(torch.cat([h, skip], 1), time)
        return self.leave(h)


class ResBlock(nn.Module):
    """x + [norm, SiLU, Conv3x3, norm scaled and shifted by the time, SiLU, Conv3x3]; b in h w, b embed -> b out h w."""

    def __init__(self, in_dim: int, out_dim: int, embed_dim: int):
        super().__init__()
        self.first = nn.Sequential(norm(in_dim), nn.SiLU(), nn.Conv2d(in_dim, out_dim, 3, padding=1))
        self.modulation = nn.Linear(embed_dim, 2 * out_dim)
        self.norm = norm(out_dim)
        self.last = nn.Conv2d(out_dim, out_dim, 3, padding=1)
        self.skip = nn.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(time)[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm(self.first(x)), 1 + scale)
        return self.skip(x) + self.last(F.silu(h))


class Attention(nn.Module):
    """x + one head of attention over the pixels; b c h w -> b c h w."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.qkv, self.out = norm(dim), nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(dim, dim, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)  # b (h w) c
        return x + self.out(F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(x.shape))


def norm(dim: int) -> nn.GroupNorm:
    """Of as many of 32 groups as divide the channels."""
    return nn.GroupNorm(next(groups for groups in (32, 16, 8, 4, 2, 1) if dim % groups == 0), dim)
