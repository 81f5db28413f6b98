"""The command line. Results go to stdout, progress and log to stderr; nothing slow is imported before it is needed."""

import atexit
import gc
import json
import logging
import sys
import traceback
from pathlib import Path

import click

from genzoo import __version__
from genzoo.allocator import keep_freed_memory
from genzoo.cli.cache import cache
from genzoo.cli.compare import compare
from genzoo.cli.data import data
from genzoo.cli.options import as_json, complete_recipe, plugin_option
from genzoo.cli.parts import check, list_parts, list_plugins, new, show
from genzoo.cli.recipes import recipes
from genzoo.cli.reports import report
from genzoo.cli.scores import fid, neighbors, stats
from genzoo.cli.study import study
from genzoo.cli.trained import decode, encode, explore, panels, reconstruct
from genzoo.errors import Interrupted, UserError, plain
from genzoo.training.signals import interrupt_on_signals


class Plain(logging.Formatter):
    """What is logged may quote file names and recipes: without what a terminal would act on."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def main() -> None:
    """Exit code 0; 2 for a user's mistake (one message, no traceback); 1 for a failure; 130 when interrupted."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    keep_freed_memory()
    interrupt_on_signals()
    atexit.register(gc.freeze)  # Python's last look at PyTorch's objects takes half a second and finds nothing
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("genzoo").setLevel(logging.INFO)
    try:
        sys.exit(cli(arguments, prog_name="genzoo", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:  # click makes the one of the other
        click.echo("genzoo: interrupted", err=True)
        for note in getattr(error.__cause__ or error.__context__ or error, "__notes__", ()):
            click.echo(note, err=True)
        sys.exit(130)
    except Interrupted as error:
        click.echo(f"genzoo: {error}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        if isinstance(error, UserError):
            click.echo(f"genzoo: {error}", err=True)
            sys.exit(2)
        click.echo(plain(f"genzoo: failed: {type(error).__name__}: {error} (--debug shows where)"), err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(plain(note), err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genzoo")
@click.option("--trust-weights", multiple=True, metavar="SHA256", help="Run the TorchScript file of this sha256, too.")
def cli(trust_weights: tuple[str, ...]) -> None:
    """A pluggable zoo of generative image models. Add --debug to any command to see tracebacks."""
    if trust_weights:
        from genzoo.features import inception

        inception.trusted.update(trust_weights)


@cli.command()
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


@cli.command("eval")
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


@cli.command()
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


for command in (
    study,
    reconstruct,
    encode,
    decode,
    panels,
    explore,
    report,
    fid,
    stats,
    neighbors,
    compare,
    cache,
    list_parts,
    show,
    list_plugins,
    new,
    check,
    recipes,
    data,
):
    cli.add_command(command)
