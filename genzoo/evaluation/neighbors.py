"""Nearest training neighbours of samples: which they are, and how many samples are copies."""

import torch
from torch import Tensor

BLOCK = 1024  # rows of a distance matrix held at once


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


def memorization(x: Tensor, training: Tensor, ratio: float) -> tuple[float, float]:
    """(memorisation rate, authenticity) of samples x (n dim), given all training images (m dim, m > 1).

    A sample is memorised when its nearest training image is within `ratio` times the distance of its second nearest:
    Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize" (ICML workshop 2023), and Gu et
    al., "On memorization in diffusion models" (arXiv 2310.02664), with ratio 1/3 on pixels; here on features. A sample
    is authentic when it is farther from its nearest training image than that one is from the nearest of the others:
    Alaa et al., "How faithful is your synthetic data?" (arXiv 2102.08921), section 3.3. Neither is 1 or 0 for a perfect
    model: held-out images say what to compare with.
    """
    distances, indices = nearest(x, training, 2)
    memorized = distances[:, 0] <= ratio * distances[:, 1]  # two equal training images hide no copy of them
    near, position = indices[:, 0].unique(return_inverse=True)
    gaps = nearest(training[near], training, 2)[0][:, 1]  # the nearest of all is the image itself
    authentic = distances[:, 0] > gaps[position]
    return float(memorized.double().mean()), float(authentic.double().mean())
