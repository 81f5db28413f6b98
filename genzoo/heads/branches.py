"""The decoders under a head that mixes several images: one shared trunk, or a decoder for each."""

import torch
from torch import Tensor, nn

from genzoo.config import Config, build
from genzoo.parts import Shape
from genzoo.registry import DECODERS


def decode(decoder: nn.Module, features: Tensor, out_shape: Shape) -> Tensor:
    """b *in_shape -> b *out_shape in float32; ValueError when the decoder makes something else."""
    logits = decoder(features)
    made = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if made != out_shape:
        raise ValueError(f"the decoder {type(decoder).__name__} makes {made}, but its out_shape is {out_shape}")
    # float32 from here on: in half precision a sigmoid near 0 or 1 has too few steps for 256 grey levels
    return logits.float()


def with_decoder(values: dict) -> dict:
    """Options of a head with one `decoder`: resnet where it is not named, also where options of it alone are given."""
    decoder = values.get("decoder") or {}
    return {**values, "decoder": {"name": "resnet", **decoder} if isinstance(decoder, dict) else decoder}


class Branches(nn.Module):
    """Decoders whose outputs, side by side, are the map logits (`num_maps` channels) and then each branch's logits.

    One config: a shared trunk makes all channels. One config a branch: the first also makes the maps. One more than
    that: the first makes the maps alone.
    """

    def __init__(self, configs: list[Config], num_branches: int, num_maps: int, in_shape: Shape, image_shape: Shape):
        super().__init__()
        channels, height, width = image_shape
        self.splits = [num_maps] + [channels] * num_branches
        if len(configs) == 1:
            out_channels = [sum(self.splits)]
        elif len(configs) == num_branches:
            out_channels = [num_maps + channels, *self.splits[2:]]
        else:
            out_channels = self.splits
        self.out_shapes = [(n, height, width) for n in out_channels]
        self.decoders = nn.ModuleList(
            build(DECODERS, config, in_shape=in_shape, out_shape=out_shape)
            for config, out_shape in zip(configs, self.out_shapes, strict=True)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """b *in_shape -> map logits (b num_maps h w), then the logits of each branch (b c h w); float32."""
        pairs = zip(self.decoders, self.out_shapes, strict=True)
        outputs = [decode(decoder, features, out_shape) for decoder, out_shape in pairs]
        return torch.cat(outputs, dim=1).split(self.splits, dim=1)
