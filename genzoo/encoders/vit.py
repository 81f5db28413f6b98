"""A vision transformer, trained from scratch."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import padded
from genzoo.parts import Shape


class ViTEncoder(nn.Module):
    """timm's ViT without a class token: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929).

    Any image size, bordered with zeros up to whole patches; b c h w -> b embed_dim, the mean of the tokens, or their
    map b embed_dim h' w' with a pixel a patch.
    """

    class Config(Config):
        patch_size: int = Field(4, ge=1, le=64, description="height and width of a patch in pixels")
        embed_dim: int = Field(192, ge=1, le=8192, description="width of a token, and features handed to the latent")
        depth: int = Field(6, ge=1, le=128, description="transformer blocks")
        num_heads: int = Field(3, ge=1, le=256, description="attention heads; must divide embed_dim")
        mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden width of a block's dense layers, over embed_dim")
        out: Literal["vector", "map"] = Field("vector", description="the mean of the tokens, or their map")

        @model_validator(mode="after")
        def _heads_divide_embed_dim(self):
            if self.embed_dim % self.num_heads:
                raise ValueError(f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}")
            return self

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        import timm  # seconds to import: only where it is used

        channels, *sides = in_shape
        self.grid = tuple(-(-side // config.patch_size) for side in sides)
        self.size = tuple(num * config.patch_size for num in self.grid)
        self.backbone = timm.create_model(
            "vit_tiny_patch16_224",  # every size of it is given here
            img_size=self.size,
            patch_size=config.patch_size,
            in_chans=channels,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            class_token=False,
            global_pool="",
            num_classes=0,
        )
        self.pooled = config.out == "vector"
        self.out_shape = (config.embed_dim,) if self.pooled else (config.embed_dim, *self.grid)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.backbone.forward_features(padded(x, *self.size))  # b (h' w') embed_dim, normalised
        return tokens.mean(1) if self.pooled else tokens.transpose(1, 2).unflatten(2, self.grid)
