"""`genzoo fid A B`: the scores of one set of images against another."""

import logging
from collections.abc import Iterator

import torch

from genzoo.config import Config
from genzoo.errors import UserError
from genzoo.evaluation.config import key_of, label_of
from genzoo.evaluation.extractor import exact, is_released, make_extractor
from genzoo.evaluation.frechet import Statistics
from genzoo.evaluation.images import Images
from genzoo.evaluation.metrics import Side, impossible, needs_features, score, too_few
from genzoo.evaluation.record import stated
from genzoo.evaluation.statistics import Known, cache_path, cached, write_statistics
from genzoo.launch import ALONE, Launch
from genzoo.parts import Features
from genzoo.progress import Progress

log = logging.getLogger("genzoo")

CPU_BATCH = 32


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
    processes: Launch = ALONE,
) -> list[dict]:
    """Entries as in metrics.json's "scores".

    Features are kept only for metrics that need them; Frechet distances stream, and the statistics of both sides are
    kept in the user's cache by content and protocol. processes: those that share the images. UserError for what would
    make a number meaningless: the same images on both sides, too few of them (unless allow_few), statistics where a
    metric needs images.
    """
    if samples.digest == reference.digest:
        raise UserError(f"{samples.name} and {reference.name} hold the same images: every distance is 0")
    extractors: dict[str, Features] = {}
    few: list[str] = []
    for metric in metrics:
        key = key_of(metric)
        if key not in extractors:
            extractors[key] = make_extractor(metric.features, device)
        for side in (samples, reference):
            if isinstance(side, Known):
                _check_known(side, metric, extractors[key], side is reference)
        nums = (samples.num or 2**31, reference.num or 2**31)
        few.append(too_few(metric, extractors[key].dim, *nums))
        if few[-1] and not allow_few:
            raise UserError(f"{few[-1]}; give more images, or --allow-few for the number all the same")
        if reason := impossible(metric, *nums):
            raise UserError(reason)

    origin = samples.about if isinstance(samples, Images) else {}
    unknown = [side.name for side in (samples, reference) if isinstance(side, Known) and side.protocol is None]
    notes = [*filter(None, [origin.get("note")]), *(f"{name} does not say how it was made" for name in unknown)]
    sides: dict[tuple[str, bool], Side] = {}
    entries = []
    for metric, biased in zip(metrics, few, strict=True):
        key = key_of(metric)
        features = extractors[key]
        for is_reference, side in ((True, reference), (False, samples)):
            if (key, is_reference) not in sides:
                alike = [m for m in metrics if key_of(m) == key]
                whole = any(needs_features(m, is_reference) for m in alike)
                sides[key, is_reference] = side_of(
                    side, features, whole, device=device, batch_size=batch_size, progress=progress, processes=processes
                )
        for name, value in score(metric, sides[key, True], sides[key, False], seed).items():
            entries.append(
                {
                    "metric": name,
                    "features": label_of(metric.features),
                    "generator": samples.name,
                    "part": "y",
                    **value,
                    "num_samples": samples.num,
                    "num_reference": reference.num,
                    "reference": reference.name,
                    "samples_sha256": samples.digest,
                    "reference_sha256": reference.digest,
                    "fit_split": None,
                    **origin,
                    **stated(features, seed),
                    **({"few": biased} if biased else {}),
                    **({"note": "; ".join(notes)} if notes else {}),
                }
            )
    return entries


def side_of(
    side: Images | Known,
    features: Features,
    whole: bool,
    *,
    device: torch.device | str,
    batch_size: int = 64,
    progress: Progress | None = None,
    processes: Launch = ALONE,
) -> Side:
    """One side's features (whole), or their statistics alone."""
    if isinstance(side, Known):
        return Side(statistics=side.statistics)
    options = {"device": device, "batch_size": batch_size, "progress": progress, "processes": processes}
    return (
        Side(_rows(side, features, **options)) if whole else Side(statistics=statistics_of(side, features, **options))
    )


def statistics_of(
    images: Images,
    features: Features,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Progress | None = None,
    processes: Launch = ALONE,
) -> Statistics:
    """Mean and covariance of the images' features, from the user's cache where they are known already."""
    keep = is_released(features.protocol["name"])
    found = cached(images.digest, features.protocol) if keep else None
    if processes.all(found is not None):
        return found
    if images.num < features.dim:  # fewer rows than a covariance has: kept, they are its thin factor
        made = Statistics.of(_rows(images, features, device, batch_size, progress, processes))
    else:
        made = Statistics(features.dim)
        for _, batch in _features(images, features, device, batch_size, processes):
            made.add(batch)
            if progress:
                progress(images.name, made.n * processes.num, images.num)
        made = made.total(processes)
    if keep and processes.rank == 0:
        path = cache_path(images.digest, features.protocol)
        try:
            write_statistics(path, made, features.protocol)
        except OSError as error:  # a cache that others share may be read-only
            log.warning("%s cannot be written (%s): these statistics will be made again", path.parent, error.strerror)
    return made


def _rows(
    images: Images,
    features: Features,
    device: torch.device | str,
    batch_size: int,
    progress: Progress | None,
    processes: Launch,
) -> torch.Tensor:
    """The features of all the images, num dim float32."""
    rows = torch.zeros(images.num, features.dim)
    done = 0
    for index, batch in _features(images, features, device, batch_size, processes):
        rows[index] = batch.cpu()
        done += len(index)
        if progress:
            progress(images.name, done * processes.num, images.num)
    return processes.sum(rows)


def _features(
    images: Images, features: Features, device: torch.device | str, batch_size: int, processes: Launch
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(indices b, float32 b dim) of this process's images, resized before they are batched where that is possible."""
    if torch.device(device).type == "cpu":  # where larger batches are no faster, and leave the cache
        batch_size = min(batch_size, CPU_BATCH)
    in_two_steps = hasattr(features, "resized") and hasattr(features, "of_resized")
    resized, of_resized = (features.resized, features.of_resized) if in_two_steps else (lambda images: images, features)
    prepared = images.batches(batch_size, processes.share(images.num), lambda batch: resized(batch.to(device)))
    for index, batch in prepared:
        with exact():
            rows = of_resized(batch)
        yield index, rows


def _check_known(side: Known, metric: Config, features: Features, is_reference: bool) -> None:
    """UserError unless these statistics can be that side of the metric."""
    if needs_features(metric, is_reference):
        raise UserError(f"{metric.name} needs images, and {side.name} holds statistics only")
    if side.statistics.dim != features.dim:
        raise UserError(
            f"{side.name} has {side.statistics.dim} dimensions, these features have {features.dim}: "
            "its statistics are of another network"
        )
    if side.protocol is not None and side.protocol != features.protocol:
        both = features.protocol | side.protocol
        changed = [key for key in both if side.protocol.get(key) != features.protocol.get(key)]
        raise UserError(f"{side.name} was made with other features ({', '.join(changed)} differ)")
