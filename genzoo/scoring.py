"""`genzoo fid` in Python, and what it shares with the other commands about sets of images."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from genzoo.config import Config, config_of, parse, part
from genzoo.errors import UserError
from genzoo.evaluation.compare import compare
from genzoo.evaluation.images import Images
from genzoo.evaluation.statistics import Known
from genzoo.evaluation.work import Work
from genzoo.extractors import written_out
from genzoo.launch import ALONE, Launch
from genzoo.progress import Progress, silent
from genzoo.registry import FEATURES, METRICS
from genzoo.sides import Source, opened

log = logging.getLogger("genzoo")

FOUND = {  # what a look at files showed that changes what a number means
    "sideways": "{} carry an EXIF mark that says how to turn them: scored as they are stored, as clean-fid does",
    "alpha": "{} have transparency: scored without it, the colours below count, as clean-fid does",
}


def fid(
    a: Source,
    b: Source,
    metric: str | None = None,
    *,
    features: str | None = None,
    weights: str | None = None,
    mode: str | None = None,
    num: int | None = None,
    root: str | None = None,
    bootstrap: int | None = None,
    allow_few: bool = False,
    seed: int = 0,
    plugins: Sequence[str] = (),
    device: torch.device | str | None = None,
    progress: Progress = silent,
    processes: Launch = ALONE,
) -> list[dict[str, Any]]:
    """Distances of the images a from the reference images b: the entries of `genzoo fid A B --json`, and its refusals.

    a, b: what the command takes (folder, zip, .npy, .npz, dataset:split, run), an array or tensor of images (b h w c,
    b c h w or b h w; uint8, uint16, or floats in [0, 1]), or an iterable of batches of them. metric: names, with
    commas; None: fid on inception features, fd on others. plugins: files to be executed. UserError for what would make
    a number meaningless.

        genzoo.fid("photos", samples, features="efficientnet_lite0")[0]["value"]
    """
    if plugins:
        from genzoo.plugin_files import load_file

        for plugin in plugins:
            load_file(plugin)
    metrics = metrics_named(metric, features, weights, mode, bootstrap)
    sides = opened((a, b), num=num, seed=seed, root=root, plugins=plugins, before_samples=lambda: fetch(metrics))
    if processes.is_main:
        if metric is None:
            log.info("metric: %s, on %s features", metrics[0].name, metrics[0].features.name)
        for side in sides:
            tell(side)
    work = Work(device or processes.device or device_here(), progress=progress, processes=processes)
    return compare(*sides, metrics, allow_few=allow_few, seed=seed, work=work)


def metrics_named(
    names: str | None,
    features: str | None = None,
    weights: str | None = None,
    mode: str | None = None,
    bootstrap: int | None = None,
) -> list[Config]:
    """The metrics of a comma-separated list, all on the extractor that the options describe. Nothing is fetched."""
    names = names or ("fid" if features in (None, "inception") else "fd")
    listed = names.split(",")
    try:
        extractor = written_out(features or ("inception" if "fid" in listed else "efficientnet_lite0"))
    except ValueError as error:
        raise UserError(f"--features: {error}") from None
    extractor = {"name": extractor} if isinstance(extractor, str) else extractor
    extractor |= {key: value for key, value in (("weights", weights), ("mode", mode)) if value is not None}
    known = [name for name in listed if name in METRICS.entries]
    with_bars = [name for name in known if "bootstrap" in config_of(METRICS, name).model_fields]
    if bootstrap and not with_bars:
        raise UserError(f"--bootstrap makes error bars of fid and fd, not of {names}")
    metrics = []
    for name in listed:
        if name in known and "features" not in config_of(METRICS, name).model_fields:
            raise UserError(f"--metric {name}: it scores a model: genzoo eval RUN evaluation.metrics='[{name}]'")
        more = {"bootstrap": bootstrap} if name in with_bars else {}
        metrics.append(parse(part(METRICS), {"name": name, "features": extractor, **more}, f"--metric {name}"))
    return metrics


def fetch(metrics: Sequence[Config]) -> None:
    """The weights of their extractor; UserError when they cannot be had."""
    FEATURES.get(metrics[0].features.name).fetch(metrics[0].features)


def tell(side: Images | Known) -> None:
    """What was found on a side."""
    facts = [(key, value) for key, value in getattr(side, "found", {}).items() if value != {} and key not in FOUND]
    if facts:
        log.info("%s: %s", side.name, ", ".join(f"{key} {_words(value)}" for key, value in facts))
        for key, sentence in FOUND.items():
            if side.found.get(key):
                log.info("%s: %s", side.name, sentence.format(f"{side.found[key]:,} of {side.num:,} files"))


def device_here() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _words(value: int | dict[str, int]) -> str:
    if not isinstance(value, dict):
        return f"{value:,}"
    first = [f"{key} ({num:,})" for key, num in Counter(value).most_common(3)]
    return " ".join(first) + (f" and {len(value) - 3} more" if len(value) > 3 else "")
