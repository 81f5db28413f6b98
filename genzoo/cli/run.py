"""Commands that make and score runs: run, eval, sample."""

import json
import sys
from pathlib import Path

import click

from genzoo.cli.options import as_json, complete_recipe, plugin_option


@click.command()
@click.argument("recipe", shell_complete=complete_recipe)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of the run folder.")
@click.option("--profile", is_flag=True, help="Record where the time of some steps goes, in the run folder.")
@plugin_option
@as_json
def run(
    recipe: str, overrides: tuple, out: Path | None, resume: bool, profile: bool, plugins: tuple, as_json: bool
) -> None:
    """Train, sample, score and draw what RECIPE describes (a file, or the name of a shipped recipe).

    Plugin files that the recipe names are executed; no other command does that unasked.
    """
    from genzoo.cli.summary import summary
    from genzoo.recipe import read

    parsed = read(recipe, overrides, plugins, execute=True)
    from genzoo import run as runs  # a recipe that is wrong is refused before the slow imports

    metrics = runs.run(parsed, out, resume=resume, profile=profile, command=["genzoo", *sys.argv[1:]])
    if metrics is None:  # of several processes, the main one speaks
        return
    click.echo(json.dumps(metrics, indent=2) if as_json else summary(metrics, out or runs.default_folder(parsed)))


@click.command("eval")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
@as_json
def evaluate(folder: Path, overrides: tuple, plugins: tuple, as_json: bool) -> None:
    """Score a finished or interrupted run again; KEY=VALUE may change `evaluation`, `samplers` and `data.root`.

    Where they change what is scored, the scores before stay in metrics-1.json, metrics-2.json, ... Several processes
    share the images: torchrun --nproc-per-node 2 -m genzoo eval RUN.
    """
    from genzoo.cli.summary import summary
    from genzoo.run_scores import evaluate_run

    metrics = evaluate_run(folder, overrides, plugins)
    if metrics is None:  # of several processes, the main one speaks
        return
    click.echo(json.dumps(metrics, indent=2) if as_json else summary(metrics, folder))


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--num", type=click.IntRange(min=1), required=True, help="Number of images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the PNG files.")
@click.option("--sampler", help="A sampler of the run's recipe. [default: its first]")
@click.option("--part", default="y", show_default=True, help="y, or a branch or map by name (y1, y2, sigma).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@plugin_option
def sample(folder: Path, num: int, out: Path, sampler: str | None, part: str, seed: int, plugins: tuple) -> None:
    """Generate PNG files from a run."""
    from genzoo import sampling

    sampling.sample(folder, num, out, sampler=sampler, part=part, seed=seed, plugins=plugins)
    click.echo(f"{num} images in {out}")
