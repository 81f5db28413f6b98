"""Kernel Inception Distance, on any features."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from genzoo.config import Config
from genzoo.extractors import EXTRACTOR, Extractor
from genzoo.parts import Side

MAX_HELD = 2**24  # values of the kernel at once, whatever the subsets' size


class KID:
    """Kernel distance: unbiased also for few images, with a standard error."""

    class Config(Config):
        features: Extractor = EXTRACTOR
        num_subsets: int = Field(100, ge=1, le=10**5, description="subsets that the distance is averaged over")
        subset_size: int = Field(1000, ge=2, description="images of each side in a subset, at most")

    needs: ClassVar[str] = "features"
    lower: ClassVar[dict[str, bool]] = {"kid": True}

    def __init__(self, config: Config):
        self.config = config

    def score(self, real: Side, fake: Side, seed: int) -> dict[str, dict]:
        num, size = self.config.num_subsets, self.config.subset_size
        return {"kid": kernel_distance(real.features, fake.features, num, size, seed)}


def kernel_distance(x: Tensor, y: Tensor, num_subsets: int, subset_size: int, seed: int) -> dict:
    """KID: the mean over subsets of the unbiased squared MMD with the kernel (x.y / dim + 1)^3.

    Binkowski et al., "Demystifying MMD GANs" (arXiv 1801.01401), eq. 4 and section 4.2. x: n dim, y: m dim. Subsets of
    `subset_size` (at most n and m) are cut from seeded permutations, so that as many as fit do not overlap; the
    standard error is the subsets' standard deviation over the root of the number that do not. Returns "value",
    "standard_error" (None where no two subsets are apart: they are too alike to tell), "num_subsets", "subset_size".
    """
    size = min(subset_size, len(x), len(y))
    if size < 2:
        raise ValueError("KID needs two images on each side")
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (_subsets(len(side), size, num_subsets, generator) for side in (x, y))
    values = torch.stack([_mmd(x[i], y[j]) for i, j in zip(rows, columns, strict=True)])
    separate = min(num_subsets, len(x) // size, len(y) // size)
    return {
        "value": float(values.mean()),
        "standard_error": float(values.std() / separate**0.5) if separate > 1 else None,
        "num_subsets": num_subsets,
        "subset_size": size,
    }


def _subsets(n: int, size: int, num: int, generator: torch.Generator) -> list[Tensor]:
    subsets: list[Tensor] = []
    while len(subsets) < num:
        subsets += torch.randperm(n, generator=generator)[: n // size * size].split(size)
    return subsets[:num]


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of two sets of n, in float64 once the (costly) products are made."""
    n = len(x)

    def blocks(a: Tensor, b: Tensor) -> Iterator[Tensor]:
        """Some rows of the kernel's n x n values at a time."""
        for rows in a.split(max(1, MAX_HELD // n)):
            yield (rows @ b.T).double().div_(a.shape[1]).add_(1).pow_(3)

    def apart(a: Tensor) -> Tensor:
        """The sum over all pairs but those of an image with itself."""
        total, start = torch.zeros((), dtype=torch.float64), 0
        for block in blocks(a, a):
            total += block.sum() - block[:, start : start + len(block)].trace()
            start += len(block)
        return total

    across = torch.stack([block.sum() for block in blocks(x, y)]).sum() / n**2
    return (apart(x) + apart(y)) / (n * (n - 1)) - 2 * across
