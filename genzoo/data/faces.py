"""`faces`: portraits drawn by the program from parameters. No download: the stand-in for CelebA."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genzoo.config import Config
from genzoo.parts import Shape

CHUNK = 4  # portraits drawn at a time: few, to stay in the processor's cache
DRAWING = 1  # version of the drawing: raise it when pictures change
NUM_DRAWS = 160  # random numbers that a portrait takes, at most

# Palettes in sRGB, neighbours are mixed: skin from light to dark, hair, eyes.
SKINS = "f1d0bd e8bd9f dfab87 d29a73 bd8158 a06a45 825034 653d29 4a2d20 38231a"
HAIRS = "14100e 1e1714 2c1f18 3f2a1e 5a3a26 7a4f2f 8c3b1c a8763e c9a162 e0c48c a8a39c dcd8d2"
IRISES = "2f1b10 4a2c17 6a4a22 5f6b3a 3f6d73 4d7fae 8a9aa6"


class Faces:
    """Colour portraits: pose, skin, hair, eyes, brows, nose, mouth, beard, glasses, clothes, light and background vary.

    Every picture follows from the seed, the split and its index alone.
    """

    class Config(Config):
        size: int = Field(64, ge=32, le=256, multiple_of=8, description="height and width in pixels")
        num_train: int = Field(10_000, ge=1, description="number of training images")
        num_test: int = Field(2_000, ge=1, description="number of test images")
        seed: int = Field(0, ge=0, lt=2**32, description="another seed, other faces")

    splits = ("train", "test")

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (3, config.size, config.size)

    def locate(self) -> dict:
        return {
            "source": "drawn by genzoo",
            "drawing": DRAWING,
            "num_images": {"train": self.config.num_train, "test": self.config.num_test},
        }

    def read(self, split: str, start: int = 0) -> Iterator[np.ndarray]:
        from genzoo.data.images import in_order
        from genzoo.data.portrait import draw

        key = (self.config.seed, self.splits.index(split))
        num_images = self.locate()["num_images"][split]

        def draw_some(first: int) -> np.ndarray:
            indices = range(first, min(first + CHUNK, num_images))
            # SeedSequence's hash is documented to stay the same with every version of NumPy.
            draws = [np.random.SeedSequence((*key, index)).generate_state(NUM_DRAWS) for index in indices]
            return draw(parameters(np.stack(draws, axis=1) / 2**32), self.config.size)

        yield from in_order(draw_some, range(start, num_images, CHUNK))


def parameters(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Uniform numbers in [0, 1), NUM_DRAWS b -> parameters of b portraits, float32 b 1 1 (colours 3 b 1 1)."""
    columns = iter(draws.astype(np.float32)[:, :, None, None])

    def uniform(low: float = 0, high: float = 1) -> np.ndarray:
        return low + (high - low) * next(columns)

    def bell(center: float, spread: float) -> np.ndarray:
        return center + spread * (next(columns) + next(columns) - 1)

    def chance(probability) -> np.ndarray:
        return (next(columns) < probability).astype(np.float32)

    def palette(colours: str, at: np.ndarray) -> np.ndarray:
        """Colour of a palette at a place in [0, 1], between its neighbours; linear light."""
        table = np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in colours.split()]) / 255
        place = at[..., 0, 0] * (len(table) - 1)
        channels = [np.interp(place, np.arange(len(table)), table[:, channel]) for channel in range(3)]
        return np.square(np.stack(channels).astype(np.float32))[..., None, None]

    def any_colour(saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
        hue = uniform()
        ramp = [np.clip(np.abs((hue + shift) % 1 * 6 - 3) - 1, 0, 1) for shift in (0, 2 / 3, 1 / 3)]
        return np.square(value * (1 - saturation + saturation * np.stack(ramp)))

    masculine = uniform()
    tone = uniform()
    skin = palette(SKINS, tone) * bell(1, 0.08)
    age = uniform()
    long_hair = chance(0.75 - 0.65 * (masculine > 0.5))
    afro = chance(0.15 + 0.2 * (tone > 0.6))
    fringe = chance(0.3)
    has_hair = 1 - chance(0.12 * (masculine > 0.5))
    hair = palette(HAIRS, uniform() ** (0.9 + 5 * tone * tone))
    dyed = chance(0.04)
    hair = hair + dyed * (any_colour(np.float32(0.7), np.float32(0.7)) - hair)
    smile = np.clip(bell(0.4, 0.8), 0, 1)
    bearded = chance(0.5 * (masculine > 0.55)) * (1 - long_hair)
    warm = uniform(-1, 1)
    key = uniform(0.75, 1.25) * np.stack([1 + 0.08 * warm, 1 + 0 * warm, 1 - 0.12 * warm])
    background = any_colour(uniform(0.05, 0.5), uniform(0.2, 0.95))
    background_2 = background + uniform(0.2, 1) * (any_colour(uniform(0.05, 0.5), uniform(0.2, 1)) - background)
    angle = uniform(0, 2 * np.pi)
    made_up = chance(0.5 * (masculine < 0.5))
    lip_colour = skin * np.stack([bell(0.92, 0.08), bell(0.5, 0.1), bell(0.5, 0.1)])
    red = palette("8c1c2c b03a48 c0605c a04060", uniform())
    return {
        "x": bell(0, 0.08), "y": bell(0.05, 0.06), "scale": bell(1.14, 0.1),
        "yaw": bell(0, 0.6), "pitch": bell(0, 0.25), "roll": bell(0, 0.2),
        "masculine": masculine, "age": age,
        "width": 0.455 + 0.03 * masculine + bell(0, 0.04), "taper": bell(0.31, 0.1) - 0.08 * masculine,
        "jaw": 0.3 + masculine * 0.7, "neck": 0.2 + 0.08 * masculine,
        "skin": skin, "flush": np.array([1.02, 0.72, 0.7], np.float32)[:, None, None, None], "blush": uniform(0.3, 1.2),
        "sheen": uniform(0.1, 0.35) * (1 - 0.5 * tone), "freckles": chance(0.15) * (tone < 0.5),
        "hair": hair, "has_hair": has_hair, "volume": np.maximum(0.03, bell(0.08, 0.05)) + afro * 0.1,
        "length": -0.02 + long_hair * uniform(0.5, 1.4), "cropped": 1 - long_hair,
        "wave": long_hair * uniform(0, 0.35), "wave_rate": uniform(6, 14), "curl": afro * 0.05,
        "strands": uniform(0.12, 0.3), "gloss": uniform(0.2, 0.9) * (1 - 0.7 * afro), "phase": uniform(0, 6.28),
        "part": uniform(-0.25, 0.25), "sweep": (1 - fringe) * uniform(0, 0.35), "fringe": fringe,
        "hairline": -0.44 + fringe * uniform(0.12, 0.24) + bell(0, 0.05), "temple": uniform(0.3, 0.55),
        "sideburn": uniform(0.0, 0.2) + 0.1 * long_hair,
        "beard": bearded * uniform(0.15, 0.95), "moustache": bearded * chance(0.8) * uniform(0.3, 1),
        "brow_height": bell(0, 0.02), "brow_arch": bell(0.025, 0.025), "brow_slant": bell(0, 0.02),
        "brow": 0.014 + 0.012 * masculine + uniform(0, 0.008), "brow_colour": np.minimum(hair * 0.6, skin * 0.4),
        "eye_apart": bell(0.2, 0.02), "eye_width": bell(0.108, 0.015), "eye_open": bell(0.056, 0.016),
        "eye_slant": bell(0.006, 0.015), "gaze_x": bell(0, 0.03), "gaze_y": bell(0, 0.008),
        "iris": palette(IRISES, uniform() ** (1 + 2 * tone)), "lash": 0.01 + 0.012 * (1 - masculine),
        "lash_colour": skin * 0.08, "nose": bell(1.0, 0.25),
        "smile": smile, "mouth_width": bell(0.16, 0.025) + 0.04 * smile, "lip_upper": bell(0.036, 0.014),
        "lip_lower": bell(0.052, 0.018), "mouth_open": chance(0.2 + 0.35 * smile) * uniform(0.01, 0.06),
        "lips": lip_colour + made_up * 0.8 * (red - lip_colour),
        "light_x": bell(0, 1.1), "light_y": bell(-0.55, 0.4), "key": key, "sky": bell(0.32, 0.12) + 0 * key,
        "background": background, "background_2": background_2,
        "background_x": np.cos(angle), "background_y": np.sin(angle), "glow_x": bell(0, 0.8), "glow_y": bell(-0.2, 0.6),
        "cloth": any_colour(uniform(0, 0.8), uniform(0.08, 0.95)), "neckline": uniform(0.0, 0.28),
        "neckline_shape": uniform(0.9, 2.5), "stripes": chance(0.2) * 0.25,
        "has_glasses": chance(0.22), "lens_width": bell(0.145, 0.02), "lens_height": bell(0.105, 0.025),
        "lens_shape": uniform(2, 4), "rim": uniform(0.007, 0.016),
        "rim_colour": any_colour(uniform(0, 0.6), uniform(0.02, 0.4)),
        "tint": any_colour(uniform(0, 0.5), np.float32(0.12)), "tint_strength": chance(0.2) * 0.85,
    }  # fmt: skip
