"""Nearest neighbours among features."""

import torch
from torch import Tensor

BLOCK = 1024  # rows of a distance matrix held at once


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of every point of x (n dim) to its k-th nearest other point. ValueError unless n > k."""
    if len(x) <= k:
        raise ValueError(f"{len(x)} images have no {k}-th neighbour")
    # the nearest of all is the point itself
    return torch.cat([torch.cdist(rows, x).kthvalue(k + 1, dim=1).values for rows in x.split(BLOCK)])


def nearest(x: Tensor, training: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances n k, ascending, and indices n k of the k nearest of training (m dim) to every x (n dim)."""
    distances, indices = [], []
    for rows in x.split(BLOCK):
        found = torch.cdist(rows, training).topk(k, dim=1, largest=False).indices
        # Products of large vectors lose the small differences: those that count are made again from the vectors.
        exact = (rows.double()[:, None] - training[found].double()).norm(dim=2)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order))
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
