"""A ConvNeXt, trained from scratch."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from genzoo.config import Config
from genzoo.layers import padded
from genzoo.parts import Shape


class ConvNeXtEncoder(nn.Module):
    """timm's ConvNeXt, stopped after some stages: Liu et al., "A ConvNet for the 2020s" (arXiv 2201.03545).

    No BatchNorm, and no layer scale, which suits deep networks on long schedules. Any image size, bordered with zeros
    up to whole pixels of the map; b c h w -> b dim h' w', the sides halved num_scales + 1 times, or its mean b dim.
    """

    class Config(Config):
        base_dim: int = Field(64, ge=1, le=4096, description="channels of the first stage; doubled at every other")
        num_scales: int = Field(
            3, ge=1, le=4, description="stages; the first one's map has a pixel for 4x4 of the image's"
        )
        depth: int = Field(2, ge=1, le=64, description="blocks in each stage")
        kernel_size: Literal[3, 5, 7, 9, 11] = Field(7, description="of the depthwise convolutions, in pixels")
        out: Literal["vector", "map"] = Field("vector", description="the last map, or the vector of its means")

    def __init__(self, config: Config, in_shape: Shape):
        super().__init__()
        import timm  # seconds to import: only where it is used
        from timm.layers import LayerNorm2d

        channels, *sides = in_shape
        dims = [config.base_dim * 2**k for k in range(config.num_scales)]
        missing = 4 - config.num_scales  # timm builds four stages and drops those behind the one that is asked for
        self.backbone = timm.create_model(
            "convnext_atto",  # every size of it is given here
            features_only=True,
            out_indices=(config.num_scales - 1,),
            in_chans=channels,
            depths=(*[config.depth] * config.num_scales, *[0] * missing),
            dims=(*dims, *[1] * missing),
            patch_size=2,  # 2x2 at the stem and 2x2 before the first stage: small images keep more of their detail
            kernel_sizes=config.kernel_size,
            ls_init_value=None,
        )
        self.norm = LayerNorm2d(dims[-1])
        stride = 2 ** (config.num_scales + 1)
        grid = [-(-side // stride) for side in sides]
        self.size = tuple(num * stride for num in grid)
        self.pooled = config.out == "vector"
        self.out_shape = (dims[-1],) if self.pooled else (dims[-1], *grid)

    def forward(self, x: Tensor) -> Tensor:
        [made] = self.backbone(padded(x, *self.size))
        made = self.norm(made)
        return made.mean((2, 3)) if self.pooled else made
