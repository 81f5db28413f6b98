"""Mean and covariance of features in a stream, and the Frechet distance between two of them."""

from __future__ import annotations

import torch
from torch import Tensor

from genzoo.errors import UserError


class Statistics:
    """Running mean and covariance in float64: memory does not grow with the number of images.

    Batches are merged by the pairwise update of Chan, Golub & LeVeque (1983), which loses nothing to a large mean.
    """

    def __init__(self, dim: int):
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    @classmethod
    def of(cls, features: Tensor, block: int = 4096) -> Statistics:
        """The statistics of features n dim."""
        statistics = cls(features.shape[1])
        for part in features.split(block):
            statistics.add(part)
        return statistics

    @classmethod
    def known(cls, n: int, mean: Tensor, cov: Tensor) -> Statistics:
        """From a mean (dim) and an unbiased covariance (dim dim) that somebody else has made."""
        statistics = cls(len(mean))
        statistics.n, statistics.mean, statistics._scatter = n, mean.double(), cov.double() * (n - 1)
        return statistics

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def cov(self) -> Tensor:
        """Unbiased (n - 1), dim dim, as numpy.cov."""
        return self._scatter / max(self.n - 1, 1)

    def add(self, features: Tensor) -> None:
        """Take in features b dim of any float type, on any device."""
        if len(features):
            x = features.detach().to("cpu", torch.float64)
            mean = x.mean(dim=0)
            x = x - mean
            self._scatter.addmm_(x.T, x)
            self._shift(len(x), mean)

    def merge(self, other: Statistics) -> None:
        """Take in what another one has seen."""
        if other.n:
            self._scatter += other._scatter
            self._shift(other.n, other.mean)

    def _shift(self, n: int, mean: Tensor) -> None:
        delta, total = mean - self.mean, self.n + n
        self._scatter.addr_(delta, delta, alpha=self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Frechet distance of two Gaussians, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Dowson & Landau (1982); on Inception features, Heusel et al., "GANs trained by a two time-scale update rule"
    (arXiv 1706.08500), eq. 6. With any R R^T = S1, the trace of (S1 S2)^(1/2) is the sum of the square roots of the
    eigenvalues of the symmetric R^T S2 R: no matrix square root, nothing complex. R is the Cholesky factor, or for a
    singular S1 (fewer images than dimensions) the thin factor of its rank from an eigendecomposition. UserError for
    features that are not finite.
    """
    if a.n > b.n:  # the thinner factor
        a, b = b, a
    cov_a, cov_b = a.cov, b.cov
    if not (cov_a.isfinite().all() and cov_b.isfinite().all()):
        raise UserError("the features of some image are not finite: there is no distance between them")
    factor, failed = torch.linalg.cholesky_ex(cov_a)
    if failed:
        values, vectors = torch.linalg.eigh(cov_a)
        positive = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
        factor = vectors[:, positive] * values[positive].sqrt()
    values = torch.linalg.eigvalsh(factor.T @ cov_b @ factor)
    trace = cov_a.trace() + cov_b.trace() - 2 * values.clamp(min=0).sqrt().sum()
    return float((a.mean - b.mean).square().sum() + trace.clamp(min=0))
