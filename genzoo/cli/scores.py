"""Commands about scores: fid, stats, cache."""

from __future__ import annotations

import json
from pathlib import Path

import click

from genzoo.cli.options import as_json
from genzoo.errors import UserError

root_option = click.option("--root", type=click.Path(), help="Where the files of a side dataset:split are.")
num_option = click.option("--num", type=click.IntRange(min=2), help="At most so many images of a side, spread evenly.")
features_option = click.option("--features", help="Extractor of fd, kid, ... [default: efficientnet_lite0]")
weights_option = click.option("--weights", type=click.Path(), help="File of the extractor's weights.")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--metric", default="fid", show_default=True, help="Comma-separated: fid, fd, kid, prdc, ...")
@features_option
@weights_option
@click.option("--mode", help="How Inception resizes: clean, legacy_pytorch, legacy_tensorflow. [default: clean]")
@num_option
@root_option
@click.option("--allow-few", is_flag=True, help="Score fewer images than the features have dimensions.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of subsets and of a run's samples."
)
@as_json
def fid(a, b, metric, features, weights, mode, num, root, allow_few, seed, as_json) -> None:
    """Distance of the images A from the reference images B.

    Each is a folder or zip of images, an .npz of images or statistics, DATASET:SPLIT, or RUN[:SAMPLER[:PART]].
    """
    from genzoo.evaluation.compare import compare
    from genzoo.sides import side

    metrics = _metrics(metric, features, weights, mode)
    sides = [side(name, num, seed, root) for name in (a, b)]
    for found in sides:
        _preflight(found)
    with _progress() as report:
        scores = compare(*sides, metrics, allow_few=allow_few, seed=seed, device=_device(), progress=report)
    if as_json:
        click.echo(json.dumps({"scores": scores}, indent=2))
        return
    for score in scores:
        about = f"{score['features']}, {score['num_samples'] or '?':,} against {score['num_reference'] or '?':,} images"
        click.echo(
            f"{score['metric']} {score['value']:.4f}  ({about}{'; biased: few images' if 'few' in score else ''})"
        )


@click.command()
@click.argument("a")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@features_option
@weights_option
@click.option("--mode", help="How Inception resizes: clean, legacy_pytorch, legacy_tensorflow. [default: clean]")
@num_option
@root_option
def stats(a, out, features, weights, mode, num, root) -> None:
    """Export mean and covariance of the features of A, for `genzoo fid`, clean-fid or pytorch-fid."""
    from genzoo.evaluation.compare import statistics_of
    from genzoo.evaluation.extractor import make_extractor
    from genzoo.evaluation.statistics import Known, write_statistics
    from genzoo.sides import side

    if out.suffix != ".npz":
        raise UserError(f"--out {out}: statistics are written as .npz")
    (metric,) = _metrics("fd" if features else "fid", features, weights, mode)
    images = side(a, num, root=root)
    if isinstance(images, Known):
        raise UserError(f"{a} holds statistics already")
    _preflight(images)
    features = make_extractor(metric.features, _device())
    with _progress() as report:
        statistics = statistics_of(images, features, device=_device(), progress=report)
    write_statistics(out, statistics, features.protocol)
    click.echo(f"{out}: {features.dim} features of {images.num:,} images")


@click.group()
def cache() -> None:
    """Reference statistics in the user's cache: list, remove."""


def _cached() -> list[Path]:
    from genzoo.cache import cache_dir

    return sorted((cache_dir() / "statistics").glob("*.npz"))


@cache.command("ls")
def cache_ls() -> None:
    """Cached statistics: key, images, features, size."""
    import numpy as np

    for path in _cached():
        with np.load(path, allow_pickle=False) as known:
            protocol = json.loads(str(known["protocol"]))
            network = protocol.get("network", "?")
            click.echo(
                f"{path.stem[:12]}  {int(known['num']):>9,} images  {network}  {path.stat().st_size / 1e6:.1f} MB"
            )


@cache.command("rm")
@click.argument("keys", nargs=-1, required=True)
def cache_rm(keys: tuple[str, ...]) -> None:
    """Remove statistics by the keys that `genzoo cache ls` shows, or `all`."""
    for key in keys:
        paths = [path for path in _cached() if key == "all" or path.stem.startswith(key)]
        if not paths and key != "all":
            raise UserError(f"no cached statistics start with '{key}' (`genzoo cache ls` lists them)")
        for path in paths:
            path.unlink(missing_ok=True)
        click.echo(f"{len(paths)} removed")


def _metrics(names: str, features: str | None, weights: str | None, mode: str | None) -> list:
    """The metrics of a comma-separated list, with the extractor that the options describe."""
    from genzoo.config import parse
    from genzoo.evaluation.config import Metric

    metrics = []
    for name in names.split(","):
        extractor = "inception" if name == "fid" and features is None else features or "efficientnet_lite0"
        options = {"weights": weights, "mode": mode} if extractor == "inception" else {"weights": weights}
        given = {"name": extractor} | {key: value for key, value in options.items() if value is not None}
        metrics.append(parse(Metric, {"name": name, "features": given}, f"--metric {name}"))
    return metrics


def _preflight(found) -> None:
    """What was found on a side, on stderr."""
    facts = getattr(found, "found", None)
    if facts:
        click.echo(f"{found.name}: " + ", ".join(f"{key} {_words(value)}" for key, value in facts.items()), err=True)


def _words(value) -> str:
    if not isinstance(value, dict):
        return f"{value:,}"
    first = [f"{key} ({num:,})" for key, num in list(value.items())[:3]]
    return " ".join(first) + (f" and {len(value) - 3} more" if len(value) > 3 else "")


def _device():
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _progress():
    from genzoo.run import progress

    return progress()
