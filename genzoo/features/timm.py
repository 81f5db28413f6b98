"""Features of any pretrained timm network, DINOv2 among them."""

from pathlib import Path

from pydantic import Field

from genzoo.backbones import weights_file
from genzoo.config import Config
from genzoo.features.tower import Tower


class TimmFeatures(Tower):
    """The pooled features of a timm network by name; in a recipe `timm:NAME`, or `timm:NAME@SIZE`, for short.

    With DINOv2's ViT-L/14 at 224 pixels (the default) their Frechet distance is FD-DINOv2: Stein et al., "Exposing
    flaws of generative model evaluation metrics" (arXiv 2306.04675); the features are the normalised class token.
    """

    class Config(Config):
        model: str = Field(
            "vit_large_patch14_dinov2.lvd142m", description="timm name with the tag of its weights: resnet50.a1_in1k"
        )
        size: int | None = Field(
            None, ge=16, le=2048, description="images are resized to so many pixels; null: 224 for DINOv2, else its own"
        )
        weights: Path | None = Field(None, description="file of weights (safetensors or state_dict); null: timm's")

    def __init__(self, config: Config):
        # DINOv2's own size is its last, short training stage's; 224 is what FD-DINOv2 is defined at.
        size = config.size or (224 if "dinov2" in config.model else None)
        super().__init__(config.model, config.weights, size=size)

    @classmethod
    def fetch(cls, config: Config) -> None:
        weights_file(config.model, config.weights)
