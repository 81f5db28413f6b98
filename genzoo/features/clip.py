"""CLIP's image features."""

from pathlib import Path

from pydantic import Field

from genzoo.backbones import weights_file
from genzoo.config import Config
from genzoo.features.tower import Tower

# With the activation it was trained with (QuickGELU), which timm's plain `vit_base_patch32_clip_224` has not.
MODEL = "vit_base_patch32_clip_quickgelu_224.openai"


class CLIP(Tower):
    """The 512 projected, unnormalised image features of OpenAI's CLIP ViT-B/32 (Radford et al., arXiv 2103.00020).

    timm's port of the image tower. Images are resized to a square with antialiased bicubic interpolation and not
    rounded, where clean-fid's `clip_vit_b_32` resizes the shorter side, crops the centre and rounds: the two agree on
    square images up to the rounding.
    """

    class Config(Config):
        weights: Path | None = Field(None, description="file of weights (safetensors or state_dict); null: timm's")

    def __init__(self, config: Config):
        super().__init__(MODEL, config.weights, head=True)

    @classmethod
    def fetch(cls, config: Config) -> None:
        weights_file(MODEL, config.weights)
