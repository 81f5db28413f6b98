"""Commands about sets of images beside `genzoo fid`: stats, neighbors."""

from pathlib import Path

import click

from genzoo.cli.options import plugin_option
from genzoo.cli.scores import (
    features_option,
    mode_option,
    num_option,
    root_option,
    seed_option,
    weights_option,
    workers_option,
)
from genzoo.errors import UserError


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The PNG file to write.")
@click.option("--columns", type=click.IntRange(1, 100), default=12, show_default=True, help="Samples to show.")
@click.option("--rows", type=click.IntRange(1, 20), default=3, show_default=True, help="Neighbours of each.")
@features_option
@weights_option
@num_option
@root_option
@seed_option
@workers_option
@plugin_option
def neighbors(a, b, out, columns, rows, features, weights, num, root, seed, plugins) -> None:
    """Draw the samples of A that are nearest to images of B (the training set), over those images.

    The share of samples that are copies: genzoo fid A B --metric memorization.
    """
    from genzoo.evaluation.extractor import make_extractor
    from genzoo.evaluation.neighbors import draw_neighbors
    from genzoo.evaluation.statistics import Known
    from genzoo.evaluation.work import Work
    from genzoo.files import check_writable
    from genzoo.plugin_files import load_file
    from genzoo.progress import shown
    from genzoo.scoring import device_here, fetch, metrics_named, tell
    from genzoo.sides import opened

    if out.suffix != ".png":
        raise UserError(f"--out {out}: the picture is written as .png")
    check_writable(out)
    for plugin in plugins:
        load_file(plugin)
    metrics = metrics_named("fd", features, weights)
    sides = opened((a, b), num=num, seed=seed, root=root, plugins=plugins, before_samples=lambda: fetch(metrics))
    for found in sides:
        if isinstance(found, Known):
            raise UserError(f"{found.name} holds statistics only: there are no images to draw")
        tell(found)
    extractor = make_extractor(metrics[0].features, device_here())
    with shown() as report:
        work = Work(device_here(), progress=report)
        nearest = draw_neighbors(*sides, extractor, out, columns=columns, k=rows, work=work)
    click.echo(f"{out}: {len(nearest)} samples nearest to {b}, the first at a distance of {nearest[0]:.4g}")


@click.command()
@click.argument("a")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@features_option
@weights_option
@mode_option
@num_option
@root_option
@workers_option
@plugin_option
def stats(a, out, features, weights, mode, num, root, plugins) -> None:
    """Export mean and covariance of the features of A, for `genzoo fid`, clean-fid or pytorch-fid."""
    from genzoo.evaluation.extraction import statistics_of
    from genzoo.evaluation.extractor import make_extractor
    from genzoo.evaluation.statistics import Known, write_statistics
    from genzoo.evaluation.work import Work
    from genzoo.files import check_writable
    from genzoo.plugin_files import load_file
    from genzoo.progress import shown
    from genzoo.scoring import device_here, fetch, metrics_named, tell
    from genzoo.sides import opened

    if out.suffix != ".npz":
        raise UserError(f"--out {out}: statistics are written as .npz")
    check_writable(out)
    for plugin in plugins:
        load_file(plugin)
    metrics = metrics_named("fd" if features else "fid", features, weights, mode)
    (images,) = opened((a,), num=num, root=root, plugins=plugins, before_samples=lambda: fetch(metrics))
    if isinstance(images, Known):
        raise UserError(f"{a} holds statistics already")
    tell(images)
    features = make_extractor(metrics[0].features, device_here())
    with shown() as report:
        statistics = statistics_of(images, features, Work(device_here(), progress=report))
    write_statistics(out, statistics, features.protocol)
    click.echo(f"{out}: {features.dim} features of {images.num:,} images")
