"""`faces`: portraits drawn by the program from random numbers. No download: the stand-in for CelebA."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from genzoo.config import Config
from genzoo.data.size import pixels, sides
from genzoo.parts import Shape

CHUNK = 4  # portraits drawn at a time: few, to stay in the processor's cache
DRAWING = 2  # version of the drawing: raise it when pictures change
NUM_DRAWS = 58  # random numbers that a portrait takes

# Palettes, between whose neighbours is mixed: skin from light to dark, hair, eyes, lips.
SKINS = "f1d0bd e8bd9f dfab87 d29a73 bd8158 a06a45 825034 653d29 4a2d20 38231a"
HAIRS = "14100e 1e1714 2c1f18 3f2a1e 5a3a26 7a4f2f 8c3b1c a8763e c9a162 e0c48c a8a39c dcd8d2"
IRISES = "2f1b10 4a2c17 6a4a22 5f6b3a 3f6d73 4d7fae 8a9aa6"
LIPS = "8c1c2c b03a48 c0605c a04060"

Array = np.ndarray


class Faces:
    """Colour portraits: pose, skin, hair, eyes, brows, mouth, beard, glasses, clothes, light and background vary.

    Every picture follows from the seed, the split and its index alone, but for single pixels, a level apart, on another
    kind of processor (NumPy's sines and powers of float32 differ in their last bits).
    """

    class Config(Config):
        size: pixels(32, 256) = Field(64, description="height and width in pixels, or [height, width]")
        num_train: int = Field(10_000, ge=1, le=10**8, description="number of training images")
        num_test: int = Field(2_000, ge=1, le=10**8, description="number of test images")
        seed: int = Field(0, ge=0, lt=2**32, description="another seed, other faces")

    splits = ("train", "test")

    def __init__(self, config: Config):
        self.config = config
        self.image_shape: Shape = (3, *sides(config.size))

    def locate(self) -> dict:
        return {
            "source": "drawn by genzoo",
            "drawing": DRAWING,
            "num_images": {"train": self.config.num_train, "test": self.config.num_test},
        }

    def read(self, split: str, start: int = 0) -> Iterator[Array]:
        key = (self.config.seed, self.splits.index(split))
        num_images = self.locate()["num_images"][split]
        for first in range(start, num_images, CHUNK):
            indices = range(first, min(first + CHUNK, num_images))
            # SeedSequence's hash is documented to stay the same with every version of NumPy.
            draws = [np.random.SeedSequence((*key, index)).generate_state(NUM_DRAWS) for index in indices]
            yield draw(np.stack(draws, axis=1) / 2**32, *self.image_shape[1:])


def draw(uniform: Array, height: int, width: int) -> Array:
    """Numbers in [0, 1), NUM_DRAWS b -> uint8 b height width 3.

    Layer is laid on layer, from the background to the glasses. Masks and coordinates are b h w, parameters b 1 1,
    colours 3 b 1 1. The shorter side spans [-1, 1], y points down; the head's own frame is centred, upright, and as
    large as that. Features are painted where a bulging surface shows them (p, q), so a turned head foreshortens them.
    """
    columns = iter(uniform.astype(np.float32)[:, :, None, None])
    px = np.float32(2 / min(height, width))

    def number(low: float = 0.0, high: float = 1.0) -> Array:
        return np.float32(low) + np.float32(high - low) * next(columns)

    def chance(probability) -> Array:
        return (next(columns) < probability).astype(np.float32)

    def mixed(palette: str, at: Array) -> Array:
        table = np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in palette.split()]) / 255
        place = at * (len(table) - 1)
        channels = [np.interp(place, np.arange(len(table)), table[:, channel]) for channel in range(3)]
        return np.stack(channels).astype(np.float32)

    def any_colour(saturation: Array, value: Array) -> Array:
        hue = number()
        ramp = [np.clip(np.abs((hue + shift) % 1 * 6 - 3) - 1, 0, 1) for shift in (0, 2 / 3, 1 / 3)]
        return (value * (1 - saturation + saturation * np.stack(ramp))).astype(np.float32)

    def over(colour: Array, mask: Array) -> None:
        nonlocal rgb
        rgb = rgb + mask * (colour - rgb)

    def below(distance: Array) -> Array:
        """Antialiased mask of a distance < 0."""
        return np.clip(0.5 - distance / soft, 0, 1)

    def ellipse(x: Array, y: Array, a: Array | float, b: Array | float) -> Array:
        return below((np.sqrt(np.square(x / a) + np.square(y / b)) - 1) * np.minimum(a, b))

    def bump(x: Array, y: Array, a: Array | float, b: Array | float) -> Array:
        """A smooth hill at the origin, 0 beyond an ellipse of these half axes."""
        return np.square(np.maximum(0, 1 - np.square(x / a) - np.square(y / b)))

    X = ((np.arange(width, dtype=np.float32) + 0.5) * px - width * px / 2)[None, None, :]
    Y = ((np.arange(height, dtype=np.float32) + 0.5) * px - height * px / 2)[None, :, None]

    # The background: from one colour to another, in a direction.
    one = any_colour(number(0.05, 0.6), number(0.15, 0.95))
    other = any_colour(number(0.05, 0.6), number(0.15, 1))
    angle = number(0, 2 * np.pi)
    rgb = one + np.clip(0.5 + 0.5 * (X * np.cos(angle) + Y * np.sin(angle)), 0, 1) * (other - one)

    # The head's frame, its surface, and the light on it.
    scale, roll, yaw, pitch = number(0.95, 1.3), number(-0.22, 0.22), number(-0.55, 0.55), number(-0.22, 0.22)
    soft = px / scale
    x, y = (X - number(-0.12, 0.12)) / scale, (Y - number(-0.03, 0.13)) / scale
    x, y = x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll)
    masculine, half = number(), number(0.42, 0.5)
    half = half + 0.03 * masculine
    taper = (1 - (0.36 - 0.14 * masculine) * np.square(np.maximum(y, 0) / 0.66)) * half
    u, v = x / taper, y / 0.66
    radius = np.sqrt(u * u + np.abs(v) ** (2 + 0.6 * masculine))
    z = np.sqrt(np.maximum(1 - radius * radius, 0))
    p, q = x + 0.5 * z * yaw, y + 0.5 * z * pitch
    light = np.stack([number(-1, 1), number(-0.9, 0.1), np.full_like(roll, 0.8)])
    light = light / np.sqrt(np.square(light).sum(0))
    warm = number(-0.1, 0.1)
    lamp = number(0.75, 1.15) * np.stack([1 + warm, 1 + 0 * warm, 1 - warm])
    along = (u * light[0] + v * light[1] + (z + 0.15) * light[2]) / np.sqrt(u * u + v * v + np.square(z + 0.15))
    shade = lamp * (0.45 + 0.6 * np.maximum(along, 0))

    tone = number()
    skin = mixed(SKINS, tone)
    hair = mixed(HAIRS, number() ** (0.9 + 5 * tone * tone))
    long = chance(0.75 - 0.65 * (masculine > 0.5))
    hairy = np.maximum(long, 1 - chance(0.15 * (masculine > 0.5)))
    volume, length, waves = number(0.02, 0.13), long * number(0.3, 1.2), number(0, 0.05)
    strands = 1 + number(0.05, 0.25) * np.sin(40 * p / (1.2 + q) + 5 * np.sin(6 * q)) + 0.3 * bump(u, v + 0.6, 0.8, 0.4)

    # Hair behind, neck, shoulders and clothes, ears.
    edge = half + volume + long * (0.04 + waves * np.sin(11 * y))
    mass = np.sqrt(np.square(x / edge) + np.square(np.minimum(y + 0.02, 0) / (0.68 + volume))) - 1
    over(hair * strands * 0.6 * lamp, below(np.maximum(mass * half, y - length)) * hairy)
    over(skin * 0.6 * lamp, below(np.abs(x) - 0.2 - 0.07 * masculine) * (y > 0))
    cloth = any_colour(number(0, 0.8), number(0.1, 0.95))
    shoulders = 0.8 + 0.35 * np.abs(X / scale) ** 1.5
    neckline = shoulders + number(0, 0.25) * np.maximum(0, 1 - np.square(X / scale / 0.36))
    over(skin * 0.8 * lamp, below(shoulders - y))
    over(cloth * lamp * (1 + number(0, 0.15) * np.sin(26 * y)), below(neckline - y))
    for side in (-1, 1):
        over(skin * 0.8 * lamp, ellipse(x - side * half * 0.97, y - 0.05, 0.08, 0.13) * (1 - long))

    # The face: skin, shadows of its relief, beard.
    over(skin * shade, below((radius - 1) * half))
    relief = bump(np.abs(p) - 0.2, q, 0.16, 0.1) + 0.8 * bump(p - 0.05 * np.sign(light[0]), q - 0.15, 0.07, 0.2)
    cheeks = bump(np.abs(p) - 0.25, q - 0.2, 0.18, 0.15) * number(0, 0.25)
    rgb = rgb * (1 - 0.18 * relief) * (1 - cheeks * np.float32([0, 1, 1])[:, None, None, None])
    over(skin * shade * 0.45, ellipse(np.abs(p) - 0.05, q - 0.22, 0.025, 0.014))
    bearded = chance(0.5 * (masculine > 0.55)) * (1 - long) * number(0.3, 0.95)
    jaw = np.clip((np.abs(p) + q - 0.38) / 0.1, 0, 1) * np.clip((q - 0.22) / 0.08, 0, 1)
    over(hair * 0.9 * shade, bearded * np.clip(jaw - bump(p, q - 0.36, 0.2, 0.1), 0, 1) * below((radius - 1) * half))

    # Mouth, eyes, brows.
    smile, mouth = number(-0.2, 1), number(0.13, 0.19)
    lips = skin * np.float32([0.9, 0.6, 0.6])[:, None, None, None]
    lips = lips + chance(0.5 * (masculine < 0.5)) * 0.8 * (mixed(LIPS, number()) - lips)
    bow = np.maximum(0, 1 - np.square(p / mouth))
    line = q - 0.37 + 0.06 * smile * np.square(p / mouth)
    over(lips * shade, below(np.maximum(-line - 0.035 * bow, line - number(0.03, 0.06) * bow)) * (bow > 0))
    gap = chance(0.2 + 0.35 * smile) * number(0.008, 0.035) * bow
    over(np.float32(0.93) * (0.4 + 0.6 * (line < 0.3 * gap)), below(np.abs(line) - gap) * (gap > 0))
    over(lips * 0.4, below(np.abs(line) - 0.006) * (bow > 0) * (gap == 0))
    apart, wide, opened, gaze = number(0.185, 0.215), number(0.095, 0.12), number(0.03, 0.07), number(-0.035, 0.035)
    iris, brow, arch = mixed(IRISES, number() ** (1 + 2 * tone)), number(0.012, 0.034), number(0, 0.05)
    for side in (-1, 1):
        dx, dy = p - side * apart, q
        lid = np.maximum(0, 1 - np.square(dx / wide))
        eye = below(np.maximum(-dy - opened * lid, dy - 0.7 * opened * lid)) * (lid > 0)
        over(np.float32(0.9) * shade, eye)
        disc = np.sqrt(np.square(dx - gaze) + np.square(dy))
        over(iris, eye * below(disc - 0.05))
        over(np.float32(0.03), eye * below(disc - 0.024))
        over(np.float32(1.0), eye * ellipse(dx - gaze - 0.018, dy + 0.018, 0.013, 0.013))
        over(skin * 0.2, below(np.abs(dy + opened * lid + 0.006) - 0.008 - 0.008 * (1 - masculine)) * (lid > 0))
        t = (np.abs(p) - 0.2) / 0.14  # -1 at the nose, 1 at the temple
        over(np.minimum(hair, skin) * 0.6, below(np.abs(q + 0.13 + arch * (1 - t * t)) - brow) * (np.abs(t) < 1))

    # Hair in front, glasses.
    hairline = number(-0.5, -0.25) + 0.5 * np.square(p) * number(0.2, 1)
    front = below(q - hairline + 0.02 * np.sin(30 * p)) * below(mass * half)
    over(
        hair * strands * shade,
        np.maximum(front, long * below(half * 0.88 - np.abs(x)) * (mass < 0) * (y < length)) * hairy,
    )
    glasses = chance(0.22)
    lens = np.sqrt(np.square((np.abs(p) - 0.2) / number(0.13, 0.17)) + np.square((q - 0.01) / number(0.09, 0.13)))
    over(np.float32(0.1), glasses * chance(0.2) * 0.8 * below((lens - 1) * 0.1))
    bridge = below(np.maximum(np.abs(q + 0.01) - 0.01, np.abs(p) - 0.07))
    over(
        any_colour(number(0, 0.7), number(0.02, 0.5)),
        glasses * np.maximum(below(np.abs(lens - 1) * 0.12 - 0.012), bridge),
    )
    return np.ascontiguousarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 3, 0))
