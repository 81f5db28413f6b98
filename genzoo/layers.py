"""Blocks that several parts share. Sizes are explicit; nothing here is chosen by a recipe."""

import itertools
from contextlib import AbstractContextManager, nullcontext
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

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


class SpectralNorm(nn.Module):
    """A weight over its largest singular value, the matrix being out x all else: Miyato et al. (arXiv 1802.05957).

    PyTorch's own keeps both singular vectors as buffers and multiplies them out as they are: of moving averages of them
    (train.ema), shorter than 1, the value is too small. Here the one that is kept is given its length at each use.
    """

    def __init__(self, weight: Tensor, out_axis: int = 0, num_iterations: int = 15):
        super().__init__()
        self.out_axis = out_axis
        self.register_buffer("u", torch.randn(weight.shape[out_axis]))
        for _ in range(num_iterations):
            self._iterate(self._matrix(weight))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        if self.training:  # one step of the power iteration
            self._iterate(matrix)
        with torch.no_grad():
            u = F.normalize(self.u, dim=0)
            v = F.normalize((matrix * u[:, None]).sum(0), dim=0)  # no matrix product: autocast would round it
        return weight / (u * (matrix * v).sum(1)).sum()

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.out_axis, 0).flatten(1)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        v = F.normalize((matrix * self.u[:, None]).sum(0), dim=0)
        self.u.copy_(F.normalize((matrix * v).sum(1), dim=0))


def normalise_spectra(module: nn.Module) -> None:
    """Put every dense and convolutional layer within under `SpectralNorm`."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            out_axis = int(isinstance(layer, nn.ConvTranspose2d))
            register_parametrization(layer, "weight", SpectralNorm(layer.weight, out_axis))


MAX_DENSE = 2**26  # weights of a dense layer from a map: what lies beyond was meant to be a convolution


class FromFeatures(nn.Module):
    """Features of any shape to any other; b *in_shape -> b *out_shape.

    A map (c h w) of the height and width that are due, or a pixel less of either, goes through a 1x1 convolution (the
    pixel that lacks is zeros); all else through a dense layer. ValueError where that would be too large for a map.
    """

    def __init__(self, in_shape: Shape, out_shape: Shape):
        super().__init__()
        self.out_shape = out_shape
        self.pads: tuple[int, ...] | None = None  # right and below, in pixels
        if is_map(in_shape) and len(out_shape) == 3:
            below, right = (b - a for a, b in zip(in_shape[1:], out_shape[1:], strict=True))
            self.pads = (0, right, 0, below) if {below, right} <= {0, 1} else None
        num_weights = prod(in_shape) * prod(out_shape)
        if self.pads is not None:
            self.conv = nn.Conv2d(in_shape[0], out_shape[0], 1)
        elif is_map(in_shape) and num_weights > MAX_DENSE:
            raise ValueError(
                f"a dense layer from a map of {'x'.join(map(str, in_shape))} to {'x'.join(map(str, out_shape))} would "
                f"have {num_weights / 1e6:,.0f} million weights; a map whose sides are the image's halved any number "
                "of times goes through a 1x1 convolution, and a smaller map or a vector through a small dense layer"
            )
        else:
            self.linear = nn.Linear(prod(in_shape), prod(out_shape))

    def forward(self, features: Tensor) -> Tensor:
        if self.pads is None:
            return self.linear(features.flatten(1)).unflatten(1, self.out_shape)
        made = self.conv(features)
        return F.pad(made, self.pads) if any(self.pads) else made


def is_map(shape: Shape) -> bool:
    """Whether features are c h w with more than a pixel: what is 1x1 is as good as a vector."""
    return len(shape) == 3 and prod(shape[1:]) > 1


def doublings(height: int, width: int, features: Shape = ()) -> tuple[int, int, int]:
    """(start height, start width, n): a start whose `n` doublings enclose the image; `cropped` cuts out its centre.

    features: the shape that `FromFeatures` makes the start from. A map whose sides are the image's halved some times,
    rounded up or down, is a start as it is; else the shorter side of the start is 4 to 7 pixels. ValueError for images
    below 8x8, but for those that are such a start themselves, by at most 28 pixels.
    """
    shorter, longer = sorted((height, width))
    if shorter < 4 or (shorter < 8 and longer > 28):
        raise ValueError(f"images of {height}x{width} are too small: at least 8x8")
    starts = [(-(-height >> n), -(-width >> n), n) for n in range(longer.bit_length() + 1)]
    if is_map(features):
        exact = [start for start in starts if start[:2] == features[1:]]
        near = [
            start
            for start in starts
            if height >> start[2] <= features[1] <= start[0] and width >> start[2] <= features[2] <= start[1]
        ]
        if exact or near:
            return (exact or near)[0]
    return next(start for start in starts if min(start[:2]) <= 7)


def cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The centre of b c h w."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def padded(x: Tensor, height: int, width: int) -> Tensor:
    """b c h w in the centre of zeros."""
    below, right = height - x.shape[2], width - x.shape[3]
    return F.pad(x, (right // 2, right - right // 2, below // 2, below - below // 2)) if below or right else x


def in_float32(x: Tensor) -> AbstractContextManager:
    """Autocast off on the device of x: sums over thousands of pixels, and exp(), need float32."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


def per_image(nats: Tensor) -> Tensor:
    """b *any -> 0-d: the sum over each image's elements, the mean over the batch."""
    return nats.reshape(len(nats), -1).sum(1).mean()


@torch.no_grad()
def mean_of_processes(mean: Tensor) -> Tensor:
    """A mean over this process's images -> over those of all processes that train together."""
    mean = mean.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean, op=torch.distributed.ReduceOp.SUM)
        mean = mean / torch.distributed.get_world_size()
    return mean
