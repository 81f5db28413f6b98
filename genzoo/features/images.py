"""What every feature extractor does to images first."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genzoo.errors import UserError

LARGE = 32 << 20  # values of an image


class Normalized(nn.Module):
    """uint8 b c h w -> float32 b dim: `net` on (x - mean) * scale, squares of `size` pixels. A subclass sets these."""

    def forward(self, images: Tensor) -> Tensor:
        # On a CPU, batches of 32: smaller ones take a slower path for 1x1 convolutions, larger ones leave the cache.
        chunk = 32 if images.device.type == "cpu" else len(images)
        return torch.cat([self.of_resized(self.resized(part)) for part in images.split(chunk)])

    @torch.inference_mode()
    def resized(self, images: Tensor) -> Tensor:
        return resize(images, self.size).sub(self.mean).mul_(self.scale)

    @torch.inference_mode()
    def of_resized(self, x: Tensor) -> Tensor:
        return self.net(x.contiguous(memory_format=torch.channels_last)).flatten(1).float()

    def maps(self, x: Tensor, size: int | None = None) -> list[Tensor]:
        """b 1|3 h w in [0, 1], with gradients -> feature maps b c' h' w' from shallow to deep; of squares of `size`."""
        size = size or self.size
        x = F.interpolate(x.float(), size=(size, size), mode="bicubic", antialias=True).expand(-1, 3, -1, -1)
        x = (255 * x - self.mean) * self.scale
        return self.net.forward_intermediates(x.contiguous(memory_format=torch.channels_last), intermediates_only=True)


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 b c h w -> float32 b 3 size size in [0, 255], as clean-fid resizes.

    Antialiased bicubic on floats, clamped and never rounded: PIL's filter on mode "F" images (Parmar, Zhang, Zhu, "On
    Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022). Grey is repeated to three channels; an
    alpha channel is dropped, as PIL's convert("RGB") does.
    """
    x = color(images)
    if x[0].numel() > LARGE:  # its floats would take gigabytes
        x = torch.cat([_resize(channel, size) for channel in x.split(1, dim=1)], dim=1)
    else:
        x = _resize(x, size)
    return x.expand(-1, 3, -1, -1)  # after the resize: a grey image needs it once


def _resize(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True).clamp_(0, 255)


def color(images: Tensor) -> Tensor:
    """uint8 b c h w without its alpha channel: b 1|3 h w. UserError for more than four channels."""
    channels = images.shape[1]
    if channels > 4:
        raise UserError(f"feature extractors take images of 1 to 4 channels (grey or RGB, with alpha), not {channels}")
    return images[:, :3] if channels > 2 else images[:, :1]
