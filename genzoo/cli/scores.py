"""`genzoo fid`, and the options of all commands about sets of images."""

import json
import os

import click

from genzoo.cli.options import as_json, plugin_option

root_option = click.option("--root", type=click.Path(), help="Where the files of a side dataset:split are.")
num_option = click.option("--num", type=click.IntRange(min=2), help="At most so many images of a side, spread evenly.")
features_option = click.option(
    "--features", help="Extractor, or timm:NAME. [default: inception for fid, else efficientnet_lite0]"
)
weights_option = click.option("--weights", type=click.Path(), help="File of the extractor's weights.")
mode_option = click.option(
    "--mode", help="How Inception resizes: clean, legacy_pytorch, legacy_tensorflow. [default: clean]"
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of subsets and of a run's samples."
)


def _start_workers(context: click.Context, parameter: click.Parameter, num: int | None) -> None:
    from genzoo.images.pool import worker_processes
    from genzoo.scoring import device_here

    if num is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num = min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if device_here().type == "cuda" else 0
    context.with_resource(worker_processes(num))


workers_option = click.option(
    "--workers",
    type=click.IntRange(0, 64),
    callback=_start_workers,
    expose_value=False,
    help="Processes that decode a side of thousands of small images (all others: threads of this one); 0 or 1: none. "
    "Changes no value. [default: with a GPU one a core, 16 at most, else 0]",
)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--metric",
    help="Comma-separated, such as fd,kid,precision_recall: all that `genzoo list metrics` shows. "
    "[default: fid on inception features, fd on others]",
)
@features_option
@weights_option
@mode_option
@num_option
@root_option
@click.option("--bootstrap", type=click.IntRange(min=2), help="Error bar of fid and fd from so many resamplings of A.")
@click.option("--allow-few", is_flag=True, help="Score fewer images than the features have dimensions.")
@seed_option
@workers_option
@plugin_option
@as_json
def fid(a, b, metric, features, weights, mode, num, root, bootstrap, allow_few, seed, plugins, as_json) -> None:
    """Distance of the images A from the reference images B.

    Each is a folder or zip of images, an .npy or .npz of images or statistics (FILE.npz:KEY where it holds several),
    DATASET:SPLIT, or RUN[:SAMPLER[:PART]]. Several processes share the images: accelerate launch -m genzoo fid A B. In
    Python: genzoo.fid(a, b).
    """
    from genzoo import scoring
    from genzoo.launch import launched
    from genzoo.progress import shown

    launch = launched()
    with launch.ends_as_one(), shown() as report:
        scores = scoring.fid(a, b, metric, features=features, weights=weights, mode=mode, num=num, root=root,
                             bootstrap=bootstrap, allow_few=allow_few, seed=seed, plugins=plugins,
                             progress=report, processes=launch)  # fmt: skip
    if not launch.is_main:
        return
    if as_json:
        click.echo(json.dumps({"scores": scores}, indent=2))
        return
    for score in scores:
        error = score.get("bootstrap_error", score.get("standard_error"))
        bar = "" if error is None else f" +- {error:.4f}"
        sizes = " against ".join("?" if n is None else f"{n:,}" for n in (score["num_samples"], score["num_reference"]))
        few = "; biased: few images" if "few" in score else ""
        note = f"; {score['note']}" if "note" in score else ""
        click.echo(f"{score['metric']} {score['value']:.4f}{bar}  ({score['features']}, {sizes} images{few}{note})")
