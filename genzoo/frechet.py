"""Mean and covariance of features in a stream, and the Frechet distance between two of them."""

from __future__ import annotations

import torch
from torch import Tensor

from genzoo.errors import UserError
from genzoo.launch import Launch


class Statistics:
    """Running mean and covariance in float64: memory does not grow with the number of images.

    Rows are gathered until there are as many as dimensions and only then folded into a covariance: up to that number
    the centred rows are the thinner factor of it, and beyond, one large product is faster than many small ones. Blocks
    are merged by the pairwise update of Chan, Golub & LeVeque (1983), which loses nothing to a large mean.
    """

    def __init__(self, dim: int):
        self.dim = dim
        self._n = 0  # folded so far, with their mean and the sum of (x - mean)(x - mean)^T
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter: Tensor | None = None
        self._cov: Tensor | None = None  # as it was given, in the place of the scatter
        self._rows = torch.empty(0, dim, dtype=torch.float64)  # room for those that are not folded yet
        self._num_rows = 0
        self._factor: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor) -> Statistics:
        """The statistics of features n dim."""
        statistics = cls(features.shape[1])
        statistics.add(features)
        return statistics

    @classmethod
    def known(cls, n: int, mean: Tensor, cov: Tensor) -> Statistics:
        """From a mean (dim) and an unbiased covariance (dim dim) that somebody else has made."""
        statistics = cls(len(mean))
        statistics._n, statistics._mean, statistics._cov = n, mean.double(), cov.double()
        return statistics

    @property
    def n(self) -> int:
        return self._n + self._num_rows

    @property
    def mean(self) -> Tensor:
        """dim."""
        if not self.is_thin:
            self._fold()
        return self.rows.sum(dim=0) / max(self.n, 1) if self.is_thin else self._mean

    @property
    def rows(self) -> Tensor:
        """The rows that are not folded yet, float64."""
        return self._rows[: self._num_rows]

    @property
    def cov(self) -> Tensor:
        """Unbiased (n - 1), dim dim, as numpy.cov."""
        if self.is_thin:
            return self.factor @ self.factor.T
        self._fold()
        return self._scatter / max(self.n - 1, 1) if self._cov is None else self._cov

    @property
    def is_thin(self) -> bool:
        """Whether all the rows are still at hand, fewer than there are dimensions."""
        return self._scatter is None and self._cov is None

    @property
    def factor(self) -> Tensor:
        """R with R R^T = cov, dim r: the centred rows while they are few, else the Cholesky factor. Made once.

        Of a singular covariance, the factor of its rank from an eigendecomposition. UserError unless all is finite.
        """
        if self._factor is None:
            self._factor = self._root()
        return self._factor

    def _root(self) -> Tensor:
        if self.is_thin:
            return _finite((self.rows - self.mean).T / max(self.n - 1, 1) ** 0.5)
        root, failed = torch.linalg.cholesky_ex(self.cov)
        if not failed:
            return _finite(root)
        values, vectors = torch.linalg.eigh(_finite(self.cov))
        positive = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
        return vectors[:, positive] * values[positive].sqrt()

    def along(self, factor: Tensor) -> Tensor:
        """factor^T cov factor, r r; factor: dim r."""
        if self.is_thin:
            projected = self.factor.T @ factor
            return projected.T @ projected
        return factor.T @ self.cov @ factor

    def add(self, features: Tensor) -> None:
        """Take in features b dim of any float type, on any device."""
        if len(features) and not len(self._rows):  # one block: small arrays that stay would cut up the freed memory
            self._rows = torch.empty(self.dim, self.dim, dtype=torch.float64)
        while len(features):
            self._factor = None
            part = features[: self.dim - self._num_rows]
            self._rows[self._num_rows : self._num_rows + len(part)] = part.detach().cpu()  # MPS has no float64
            self._num_rows += len(part)
            features = features[len(part) :]
            if self._num_rows == self.dim:
                self._fold()

    def total(self, processes: Launch) -> Statistics:
        """The statistics of what all the processes have seen: sums about the common mean."""
        if processes.num == 1:
            return self
        n = processes.sum(torch.tensor(self.n))
        mean = processes.sum(self.n * self.mean) / n
        shift = self.mean - mean
        scatter = self.cov * max(self.n - 1, 0) + self.n * torch.outer(shift, shift)
        return Statistics.known(int(n), mean, processes.sum(scatter) / max(int(n) - 1, 1))

    def _fold(self) -> None:
        """Take the gathered rows into mean and scatter."""
        if self._num_rows:
            x, self._num_rows = self.rows, 0
            mean = x.mean(dim=0)
            x -= mean
            self._shift(len(x), mean, x.T @ x)

    def _shift(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if self._scatter is None:
            known = self._cov is not None
            self._scatter = self._cov * (self._n - 1) if known else torch.zeros(self.dim, self.dim, dtype=torch.float64)
            self._cov = None
        delta, total = mean - self._mean, self._n + n
        self._scatter += scatter
        self._scatter.addr_(delta, delta, alpha=self._n * n / total)
        self._mean = self._mean + delta * (n / total)
        self._n = total


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Frechet distance of two Gaussians, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Dowson & Landau (1982); on Inception features, Heusel et al., "GANs trained by a two time-scale update rule"
    (arXiv 1706.08500), eq. 6. With any R R^T = S1, the trace of (S1 S2)^(1/2) is the sum of the square roots of the
    eigenvalues of the symmetric R^T S2 R: no matrix square root, nothing complex, and as small as the thinner R. Where
    both are full R is that of `a`, which keeps it: in many comparisons put the reference first. UserError for features
    that are not finite.
    """
    thin = sorted((side for side in (a, b) if side.is_thin), key=lambda side: side.n)
    near, far = (b, a) if thin and thin[0] is b else (a, b)
    values = torch.linalg.eigvalsh(_finite(far.along(near.factor)))
    trace = _trace(a) + _trace(b) - 2 * values.clamp(min=0).sqrt().sum()
    return float((a.mean - b.mean).square().sum() + trace.clamp(min=0))


def _trace(side: Statistics) -> Tensor:
    return side.factor.square().sum() if side.is_thin else side.cov.trace()


def _finite(x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise UserError("the features of some image are not finite: there is no distance between them")
    return x
