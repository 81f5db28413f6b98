"""`genzoo fid A B`: the scores of one set of images against another."""

from __future__ import annotations

from collections.abc import Callable

import torch

from genzoo.config import Config, build
from genzoo.errors import UserError
from genzoo.evaluation.frechet import Statistics
from genzoo.evaluation.metrics import Side, impossible, score, too_few
from genzoo.evaluation.sources import Images
from genzoo.evaluation.statistics import Known, cache_path, cached, write_statistics
from genzoo.parts import Features
from genzoo.registry import FEATURES

Progress = Callable[[str, int, int], None]  # what is being done, images done, images in all


def compare(
    samples: Images | Known,
    reference: Images | Known,
    metrics: list[Config],
    *,
    allow_few: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> list[dict]:
    """Entries as in metrics.json's "scores".

    Features are kept only for metrics that need them; Frechet distances stream, and the statistics of both sides are
    kept in the user's cache by content and protocol. UserError for what would make a number meaningless: the same
    images on both sides, too few of them (unless allow_few), statistics where a metric needs images.
    """
    if samples.digest == reference.digest:
        raise UserError(f"{samples.name} and {reference.name} hold the same images: every distance is 0")
    extractors: dict[str, Features] = {}
    sides: dict[tuple[str, str], Side] = {}
    entries = []
    for metric in metrics:
        _check_kinds(metric, samples, reference)
    for metric in metrics:
        key = metric.features.model_dump_json()
        if key not in extractors:
            extractors[key] = build(FEATURES, metric.features).to(device).eval()
        features = extractors[key]
        pair = []
        for side in (samples, reference):
            if isinstance(side, Known):
                _check_protocol(side, features)
        few = too_few(metric, features.dim, samples.num or 2**31, reference.num or 2**31)
        if few and not allow_few:
            raise UserError(f"{few}; give more images, or --allow-few for the number all the same")
        if reason := impossible(metric, samples.num or 2**31, reference.num or 2**31):
            raise UserError(reason)
        whole = any(m.name not in ("fd", "fid") for m in metrics if m.features == metric.features)
        for side in (samples, reference):
            if (key, side.digest) not in sides:
                sides[key, side.digest] = _side(side, features, whole, device, batch_size, progress)
            pair.append(sides[key, side.digest])
        for name, value in score(metric, pair[1], pair[0], seed).items():
            entries.append(
                {
                    "metric": name,
                    "features": metric.features.name,
                    "generator": samples.name,
                    "part": "y",
                    **value,
                    "num_samples": samples.num,
                    "num_reference": reference.num,
                    "reference": reference.name,
                    "samples_sha256": samples.digest,
                    "reference_sha256": reference.digest,
                    "protocol": features.protocol,
                    "seed": seed,
                    "torch": torch.__version__,
                    **({"few": few} if few else {}),
                }
            )
    return entries


def statistics_of(
    images: Images,
    features: Features,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Statistics:
    """Mean and covariance of the images' features, from the user's cache where they are known already."""
    found = cached(images.digest, features.protocol)
    if found is None:
        found = Statistics(features.dim)
        for _, batch in images.batches(batch_size):
            found.add(features(batch.to(device)))
            if progress:
                progress(images.name, found.n, images.num)
        write_statistics(cache_path(images.digest, features.protocol), found, features.protocol)
    return found


def _side(side, features: Features, whole: bool, device, batch_size: int, progress: Progress | None) -> Side:
    if isinstance(side, Known):
        return Side(statistics=side.statistics)
    if not whole:
        return Side(statistics=statistics_of(side, features, device=device, batch_size=batch_size, progress=progress))
    rows = torch.empty(side.num, features.dim)
    done = 0
    for index, batch in side.batches(batch_size):
        rows[index] = features(batch.to(device)).cpu()
        done += len(index)
        if progress:
            progress(side.name, done, side.num)
    return Side(rows)


def _check_kinds(metric: Config, *sides: Images | Known) -> None:
    for side in sides:
        if isinstance(side, Known) and metric.name not in ("fd", "fid"):
            raise UserError(f"{metric.name} needs images, and {side.name} holds statistics only")


def _check_protocol(side: Known, features: Features) -> None:
    if len(side.statistics.mean) != features.dim:
        raise UserError(
            f"{side.name} has {len(side.statistics.mean)} dimensions, these features have {features.dim}: "
            "its statistics are of another network"
        )
    if side.protocol is not None and side.protocol != features.protocol:
        changed = [key for key in features.protocol if side.protocol.get(key) != features.protocol[key]]
        raise UserError(f"{side.name} was made with other features ({', '.join(changed)} differ)")
