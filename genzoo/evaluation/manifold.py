"""Scores from nearest neighbours: precision, recall, density and coverage.

A side's manifold is the union of balls about its points, each reaching to the point's k-th nearest neighbour.
"""

import torch
from torch import Tensor

BLOCK = 1024  # rows of a distance matrix held at once


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of every point of x (n dim) to its k-th nearest other point. ValueError unless n > k."""
    if len(x) <= k:
        raise ValueError(f"{len(x)} images have no {k}-th neighbour")
    # the nearest of all is the point itself
    return torch.cat([torch.cdist(rows, x).kthvalue(k + 1, dim=1).values for rows in x.split(BLOCK)])


def precision_recall(real: Tensor, fake: Tensor, real_radii: Tensor, fake_radii: Tensor) -> tuple[float, float]:
    """The shares of fake points inside the real manifold, and of real points inside the fake one.

    Kynkaanniemi et al., "Improved precision and recall metric" (arXiv 1904.06991), eqs. 1 and 2. real: n dim, fake:
    m dim.
    """
    inside_real = torch.zeros(len(fake), dtype=torch.bool)
    inside_fake = []
    for rows, reach in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        distance = torch.cdist(rows, fake)
        inside_real |= (distance <= reach[:, None]).any(dim=0)
        inside_fake.append((distance <= fake_radii).any(dim=1))
    return float(inside_real.double().mean()), float(torch.cat(inside_fake).double().mean())


def density_coverage(real: Tensor, fake: Tensor, real_radii: Tensor, k: int) -> tuple[float, float]:
    """How many real balls a fake point lies in, over k; and the share of real balls with a fake point in them.

    Naeem et al., "Reliable fidelity and diversity metrics for generative models" (arXiv 2002.09797), eqs. 5 and 6.
    """
    pairs, covered = 0, 0
    for rows, reach in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        inside = torch.cdist(rows, fake) <= reach[:, None]
        pairs += int(inside.sum())
        covered += int(inside.any(dim=1).sum())
    return pairs / (k * len(fake)), covered / len(real)
