"""StyleGAN2's synthesis network as a decoder."""

import itertools
from math import prod

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.config import Config
from genzoo.layers import FromFeatures, cropped, doublings, is_map
from genzoo.parts import Shape


class StyleGANDecoder(nn.Module):
    """Style-modulated convolutions on a learned constant, noise inputs, and images summed over scales.

    Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (arXiv 1912.04958), figures 2 d and
    7 b. The features are the style; of a map, its mean is, and the map stands in the constant's place. Noise is drawn
    anew for every image in training and is a fixed pattern in evaluation, so that a latent has one image. Any image
    from 8x8 up: a start of 4 to 7 pixels, or the map, doubled until they enclose it.
    """

    class Config(Config):
        base_dim: int = Field(32, ge=1, le=4096, description="channels at full size; doubled at every halving")
        max_dim: int = Field(256, ge=1, le=8192, description="upper bound of the channels")
        style_dim: int = Field(128, ge=1, le=8192, description="width of the mapping network and of the style")
        mapping_layers: int = Field(2, ge=1, le=32, description="dense layers from features to style")
        noise: bool = Field(True, description="noise inputs, each with a learned strength that starts at 0")

    def __init__(self, config: Config, in_shape: Shape, out_shape: Shape):
        super().__init__()
        channels, height, width = out_shape
        self.size = (height, width)
        start_height, start_width, num = doublings(height, width, in_shape)
        dims = [min(config.base_dim * 2**k, config.max_dim) for k in range(num, -1, -1)]
        self.from_map = is_map(in_shape)
        widths = [in_shape[0] if self.from_map else prod(in_shape)] + [config.style_dim] * config.mapping_layers
        self.mapping = nn.Sequential(
            nn.Flatten(),
            *(layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))),
        )
        start = (dims[0], start_height, start_width)
        self.start = FromFeatures(in_shape, start) if self.from_map else nn.Parameter(torch.randn(start))
        self.scales = nn.ModuleList()
        for k, dim in enumerate(dims):
            size = (start_height << k, start_width << k)
            before = dims[max(k - 1, 0)]
            first = StyledConv(before, dim, config, size, enlarge=k > 0)
            second = StyledConv(dim, dim, config, size)
            self.scales.append(nn.ModuleList([first, second, ToImage(dim, channels, config.style_dim)]))

    def forward(self, features: Tensor) -> Tensor:
        """b *in_shape -> b c h w, logits."""
        if self.from_map:
            style, x = self.mapping(features.mean((2, 3))), self.start(features)
        else:
            style, x = self.mapping(features), self.start.expand(len(features), -1, -1, -1)
        image = None
        for first, second, to_image in self.scales:
            x = second(first(x, style), style)
            layer = to_image(x, style)
            image = layer if image is None else layer + enlarged(image)
        return cropped(image, *self.size)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by the style, and whose output is scaled back to unit variance.

    Equations 1 and 3: w'_oi = s_i w_oi / |s w_o|. Scaling input and output instead of the weights gives the same
    result with one convolution for the whole batch.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel: int, style_dim: int, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim, kernel, kernel) / (in_dim * kernel**2) ** 0.5)
        self.scale = nn.Linear(style_dim, in_dim)
        nn.init.ones_(self.scale.bias)
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.scale(style)  # b in
        x = F.conv2d(x * scale[:, :, None, None], self.weight.to(x.dtype), padding="same")
        if self.demodulate:
            device = "cpu" if x.is_meta else x.device.type  # the meta device has no autocast
            with torch.autocast(device, enabled=False):  # it would cast the sides of @, and float16's squares overflow
                norm = scale.float().square() @ self.weight.float().square().sum((2, 3)).T  # b out
                norm = (norm + 1e-8).rsqrt()
            x = x * norm[:, :, None, None].to(x.dtype)
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and LeakyReLU; b in h w -> b out h w (or 2h 2w)."""

    def __init__(self, in_dim: int, out_dim: int, config: Config, size: tuple[int, int], enlarge: bool = False):
        super().__init__()
        self.enlarge = enlarge
        self.conv = ModulatedConv(in_dim, out_dim, 3, config.style_dim)
        self.bias = nn.Parameter(torch.zeros(out_dim, 1, 1))
        self.strength = nn.Parameter(torch.zeros(())) if config.noise else None
        if config.noise:
            self.register_buffer("pattern", torch.randn(1, *size))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.conv(enlarged(x) if self.enlarge else x, style)
        if self.strength is not None:
            noise = torch.randn_like(x[:, :1]) if self.training else self.pattern
            x = x + (self.strength * noise).to(x.dtype)
        return F.leaky_relu(x + self.bias.to(x.dtype), 0.2) * 2**0.5


class ToImage(nn.Module):
    """Modulated 1x1 convolution to image channels, not demodulated."""

    def __init__(self, dim: int, channels: int, style_dim: int):
        super().__init__()
        self.conv = ModulatedConv(dim, channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.conv(x, style) + self.bias


def enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
