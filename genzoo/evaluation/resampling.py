"""The Frechet distance of other numbers of samples than there are: its limit, and its error bar."""

import numpy as np
import torch
from torch import Tensor

from genzoo.evaluation.frechet import Statistics, frechet_distance


def frechet_infinity(
    reference: Statistics, samples: Tensor, num_points: int, min_samples: int, seed: int
) -> dict[str, float | int]:
    """The Frechet distance extrapolated to infinitely many samples.

    Chong & Forsyth, "Effectively unbiased FID and Inception score and where to find them" (arXiv 1911.07023), section
    3: with N samples it is, to first order, linear in 1/N. It is measured on random subsets of `num_points` sizes,
    evenly spaced from `min_samples` to all, and the line fitted by least squares is read off at 1/N = 0. The bias of
    the reference stays: only samples can be drawn without end. samples: n dim. Returns "value", "slope" (of 1/N),
    "num_points" and "min_samples". ValueError unless 2 <= min_samples < n.
    """
    if not 2 <= min_samples < len(samples):
        raise ValueError(f"sizes from {min_samples} to {len(samples)} samples give no line")
    generator = torch.Generator().manual_seed(seed)
    sizes = np.linspace(min_samples, len(samples), num_points).round().astype(int)
    values = [
        frechet_distance(reference, Statistics.of(samples[torch.randperm(len(samples), generator=generator)[:size]]))
        for size in sizes
    ]
    slope, limit = np.polyfit(1 / sizes, values, 1)
    return {"value": float(limit), "slope": float(slope), "num_points": num_points, "min_samples": min_samples}


def bootstrap_error(reference: Statistics, samples: Tensor, num_resamples: int, seed: int) -> float:
    """Standard error of the Frechet distance under resampling of the samples; the reference stays as it is.

    Efron, "Bootstrap methods" (Ann. Statist. 1979): the standard deviation over sets of n drawn with replacement from
    the n samples (n dim). It says nothing of the bias that few samples give.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = (torch.randint(len(samples), (len(samples),), generator=generator) for _ in range(num_resamples))
    return float(np.std([frechet_distance(reference, Statistics.of(samples[draw])) for draw in draws], ddof=1))
