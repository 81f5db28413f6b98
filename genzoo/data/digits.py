"""`digits`: scikit-learn's 1,797 real handwritten digits. Nothing to download."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genzoo.config import Config
from genzoo.parts import Shape

NUM_IMAGES = {"train": 1437, "test": 360}


class Digits:
    """Optical digits (Alpaydin & Kaynak, UCI 1998): 8x8 pixels of 17 grey levels, enlarged by bicubic interpolation."""

    class Config(Config):
        size: int = Field(32, ge=8, le=256, description="height and width in pixels")

    splits = ("train", "test")

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (1, config.size, config.size)

    def locate(self) -> dict:
        return {
            "source": "sklearn.datasets.load_digits",
            "processing": "bicubic from 8x8; split by a permutation, RandomState(0)",
            "num_images": NUM_IMAGES,
        }

    def read(self, split: str) -> Iterator[np.ndarray]:
        from PIL import Image
        from sklearn.datasets import load_digits

        size = self.config.size
        # RandomState's streams are frozen: the split is the same with every version of NumPy.
        order = np.random.RandomState(0).permutation(sum(NUM_IMAGES.values()))
        chosen = order[: NUM_IMAGES["train"]] if split == "train" else order[NUM_IMAGES["train"] :]
        images = load_digits().images[chosen].astype(np.float32) * (255 / 16)
        resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
        yield np.stack(resized).clip(0, 255).round().astype(np.uint8)[..., None]
