"""From two sets of features to the scores that one configured metric makes of them."""

from torch import Tensor

from genzoo.config import Config
from genzoo.evaluation.frechet import Statistics, frechet_distance
from genzoo.evaluation.kernel import kernel_distance
from genzoo.evaluation.manifold import density_coverage, precision_recall, radii
from genzoo.evaluation.neighbors import memorization
from genzoo.evaluation.resampling import bootstrap_error, frechet_infinity

FRECHET = ("fd", "fid", "fd_infinity")


class Side:
    """The features of one side, n dim float32, and what several metrics need of them, made once.

    With statistics alone it serves the Frechet distance alone.
    """

    def __init__(self, features: Tensor | None = None, statistics: Statistics | None = None):
        self.features = features
        self._statistics = statistics
        self._radii: dict[int, Tensor] = {}

    @property
    def statistics(self) -> Statistics:
        if self._statistics is None:
            self._statistics = Statistics.of(self.features)
        return self._statistics

    def radii(self, k: int) -> Tensor:
        """n: distance of every image to its k-th nearest neighbour."""
        if k not in self._radii:
            self._radii[k] = radii(self.features, k)
        return self._radii[k]


def needs_features(metric: Config, reference: bool) -> bool:
    """Whether the metric asks for all the features of that side, not for their statistics alone."""
    plain = metric.name in ("fd", "fid") and not metric.bootstrap
    return metric.name not in FRECHET if reference else not plain


def score(metric: Config, real: Side, fake: Side, seed: int) -> dict[str, dict]:
    """name of the score -> {"value": float, ...what else it has to state}."""
    match metric.name:
        case "fd" | "fid":
            made = {"value": frechet_distance(real.statistics, fake.statistics)}
            if metric.bootstrap:
                error = bootstrap_error(real.statistics, fake.features, metric.bootstrap, seed)
                made |= {"bootstrap_error": error, "bootstrap": metric.bootstrap}
            return {metric.name: made}
        case "fd_infinity":
            least = first_size(metric, len(fake.features))
            return {metric.name: frechet_infinity(real.statistics, fake.features, metric.num_points, least, seed)}
        case "kid":
            return {"kid": kernel_distance(real.features, fake.features, metric.num_subsets, metric.subset_size, seed)}
        case "memorization":
            values = memorization(fake.features, real.features, metric.ratio)
            named = zip(("memorization", "authenticity"), values, strict=True)
            return {name: {"value": value, "ratio": metric.ratio} for name, value in named}
        case "precision_recall":
            sides = (real.features, fake.features, real.radii(metric.k), fake.radii(metric.k))
            values = dict(zip(("precision", "recall"), precision_recall(*sides), strict=True))
        case "density_coverage":
            values = density_coverage(real.features, fake.features, real.radii(metric.k), metric.k)
            values = dict(zip(("density", "coverage"), values, strict=True))
    return {name: {"value": value, "k": metric.k} for name, value in values.items()}


def first_size(metric: Config, num_samples: int) -> int:
    """The smallest number of samples that fd_infinity measures."""
    return min(metric.min_samples, num_samples // 2)


def too_few(metric: Config, dim: int, num_samples: int, num_reference: int) -> str:
    """Why these numbers of images make the metric a biased one, or ""."""
    if metric.name == "fd_infinity":
        num_samples = first_size(metric, num_samples)
    side, n = ("sample", num_samples) if num_samples < num_reference else ("reference", num_reference)
    if metric.name in FRECHET and n <= dim:
        return f"{n} {side} images for {dim} feature dimensions: a singular covariance and a biased distance"
    return ""


LEAST = {"fd_infinity": 4}  # images on each side; two for all the others, and one more than neighbours


def impossible(metric: Config, num_samples: int, num_reference: int) -> str:
    """Why these numbers of images cannot give the metric at all, or ""."""
    n, least = min(num_samples, num_reference), LEAST.get(metric.name, getattr(metric, "k", 1) + 1)
    return f"{metric.name} needs {least} images on each side, there are {n}" if n < least else ""
