"""Blocks that several parts share. Sizes are explicit; nothing here is chosen by a recipe."""

import itertools
from math import prod

from torch import Tensor, nn

from genzoo.parts import Shape


class ResBlock(nn.Module):
    """`depth` x [BatchNorm, SiLU, Conv3x3] plus a 3x3 convolution as the skip; b in h w -> b out h w.

    The pre-activation residual block of Dai & Wipf, "Diagnosing and enhancing VAE models" (2019), as in the Split VAE.
    """

    def __init__(self, in_dim: int, out_dim: int, depth: int = 2):
        super().__init__()
        dims = [in_dim] + [out_dim] * depth
        self.body = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise(dims)
                for layer in (nn.BatchNorm2d(a), nn.SiLU(), nn.Conv2d(a, b, 3, padding=1))
            )
        )
        self.skip = nn.Conv2d(in_dim, out_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class ResFcBlock(nn.Module):
    """`ResBlock` with dense layers; b in -> b out."""

    def __init__(self, in_dim: int, out_dim: int, depth: int = 2):
        super().__init__()
        dims = [in_dim] + [out_dim] * depth
        self.body = nn.Sequential(
            *(layer for a, b in itertools.pairwise(dims) for layer in (nn.BatchNorm1d(a), nn.SiLU(), nn.Linear(a, b)))
        )
        self.skip = nn.Linear(in_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class FromFeatures(nn.Module):
    """Dense layer from features of any shape to any other; b *in_shape -> b *out_shape."""

    def __init__(self, in_shape: Shape, out_shape: Shape):
        super().__init__()
        self.out_shape = out_shape
        self.linear = nn.Linear(prod(in_shape), prod(out_shape))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.flatten(1)).unflatten(1, self.out_shape)


def doublings(height: int, width: int) -> tuple[int, int, int]:
    """(start height, start width, n): the image is `n` doublings of a start of 4 to 7 by at most 28 pixels.

    ValueError when halving the sides, while both are even, leads to no such start.
    """
    num = 0
    while min(height, width) >= 8 and height % 2 == 0 and width % 2 == 0:
        height, width, num = height // 2, width // 2, num + 1
    size = f"{height << num}x{width << num}"
    if not 4 <= min(height, width) <= 7:
        raise ValueError(
            f"{size} images cannot be reached by doubling a start whose shorter side is 4 to 7 pixels; "
            "sizes such as 28, 32, 48, 64, 80, 96, 112, 128 can"
        )
    if max(height, width) > 28:
        raise ValueError(
            f"{size} images are too long: doubling makes them from a start of {height}x{width} pixels, "
            "whose longer side may be 28 at most"
        )
    return height, width, num
