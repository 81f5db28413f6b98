"""The Split VAE's composition head."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.config import Config, part
from genzoo.heads.branches import Branches, with_decoder
from genzoo.parts import Composition, Shape
from genzoo.registry import DECODERS


class SplitHead(nn.Module):
    """`y = sigma * y1 + (1 - sigma) * y2` with a learned map sigma; the loss sees y alone.

    Asperti, Bugo, Filippini, "Enhancing variational generation through self-decomposition" (arXiv 2202.02738).
    """

    class Config(Config):
        trunk: Literal["shared", "pair"] = Field(
            "shared", description="shared: one decoder makes sigma, y1 and y2; pair: a decoder for each of y1 and y2"
        )
        decoder: part(DECODERS) | None = Field(None, description="the shared decoder (trunk: shared); null: resnet")
        decoders: list[part(DECODERS)] | None = Field(
            None, min_length=2, max_length=2, description="the two decoders, of any kinds (trunk: pair)"
        )
        sigma_decoder: part(DECODERS) | None = Field(
            None, description="trunk: pair: a third decoder for sigma; null: one more channel of the first decoder"
        )
        sigma_per_color: bool = Field(False, description="a sigma for each colour channel instead of one for all")
        sigma_bias: float = Field(0.0, ge=-10, le=10, description="added to sigma's logits, so that it starts there")

        @model_validator(mode="before")
        @classmethod
        def _default_decoder(cls, values: dict) -> dict:
            shared = isinstance(values, dict) and values.get("trunk", "shared") == "shared"
            return with_decoder(values) if shared else values

        @model_validator(mode="after")
        def _one_way(self):
            if self.trunk == "pair" and (self.decoders is None or self.decoder is not None):
                raise ValueError("trunk: pair needs `decoders: [{...}, {...}]` and no `decoder`")
            if self.trunk == "shared" and (self.decoders or self.sigma_decoder):
                raise ValueError("trunk: shared takes `decoder` alone; `decoders` and `sigma_decoder` need trunk: pair")
            return self

    def __init__(self, config: Config, in_shape: Shape, image_shape: Shape):
        super().__init__()
        decoders = [config.decoder] if config.trunk == "shared" else list(config.decoders)
        if config.sigma_decoder:
            decoders.insert(0, config.sigma_decoder)
        num_maps = image_shape[0] if config.sigma_per_color else 1
        self.sigma_bias = config.sigma_bias
        self.branches = Branches(decoders, 2, num_maps, in_shape, image_shape)

    def forward(self, features: Tensor) -> Composition:
        sigma, y1, y2 = self.branches(features)
        sigma, y1, y2 = (sigma + self.sigma_bias).sigmoid(), y1.sigmoid(), y2.sigmoid()
        # lerp is y2 + sigma * (y1 - y2) rounded such that it never leaves [min(y1, y2), max(y1, y2)]
        image = torch.lerp(y2, y1, sigma)
        return Composition(image, branches={"y1": y1, "y2": y2}, maps={"sigma": sigma})
