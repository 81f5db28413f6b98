"""Any timm backbone as the encoder."""

import torch
from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.errors import UserError, nearest
from genzoo.parts import Shape


class TimmEncoder(nn.Module):
    """A timm backbone by name, pooled, with or without pretrained weights; b c h w -> b features.

    Images go in as they are, in [0, 1]: with pretrained weights, colour images are normalised by the weights' own mean
    and std.
    """

    class Config(Config):
        model: str = Field("resnet18", description="timm model name, such as resnet18 or convnext_tiny.fb_in1k")
        pretrained: bool = Field(False, description="load timm's weights (a download the first time)")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        import timm  # seconds to import: only where it is used

        channels, height, width = in_shape
        if not timm.is_model(config.model):
            raise UserError(
                f"encoders/timm: timm {timm.__version__} has no model '{config.model}'"
                f"{nearest(config.model, timm.list_models())} (`timm.list_models()` lists them)"
            )
        options = {"pretrained": config.pretrained, "num_classes": 0, "in_chans": channels}
        try:  # transformers want the image size, convolutional networks refuse the argument
            self.backbone = timm.create_model(config.model, img_size=(height, width), **options)
        except TypeError:
            self.backbone = timm.create_model(config.model, **options)
        mean, std = (0.0,), (1.0,)
        if config.pretrained and channels == 3:
            mean, std = self.backbone.default_cfg["mean"], self.backbone.default_cfg["std"]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.out_shape = (self.backbone.head_hidden_size,)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone((x - self.mean) / self.std)
