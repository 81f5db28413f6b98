"""The command line. Results go to stdout, progress and log to stderr; nothing slow is imported before it is needed."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click

from genzoo import __version__
from genzoo.errors import UserError, nearest
from genzoo.registry import KINDS


def main() -> None:
    """Exit code 0; 2 for a user's mistake (one message, no traceback); 1 for a failure; 130 when interrupted."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("genzoo").setLevel(logging.INFO)
    try:
        sys.exit(cli(arguments, prog_name="genzoo", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt as error:  # the trainer's own says how to resume
        click.echo(f"genzoo: interrupted. {error}".rstrip(), err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, UserError):
            click.echo(f"genzoo: {error}", err=True)
            sys.exit(2)
        click.echo(f"genzoo: failed: {type(error).__name__}: {error} (--debug shows where)", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genzoo")
def cli() -> None:
    """A pluggable zoo of generative image models. Add --debug to any command to see tracebacks."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(), help="A Python file or folder that registers parts."
)


@cli.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of the run folder.")
@plugin_option
@as_json
def run(recipe: str, overrides: tuple, out: Path | None, resume: bool, plugins: tuple, as_json: bool) -> None:
    """Train, sample, score and draw what RECIPE describes (a file, or the name of a shipped recipe)."""
    from genzoo import run as runs
    from genzoo.recipe import read

    metrics = runs.run(read(recipe, overrides, plugins), out, resume=resume, command=["genzoo", *sys.argv[1:]])
    click.echo(json.dumps(metrics, indent=2) if as_json else runs.summary(metrics))


@cli.command("eval")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@as_json
def evaluate(folder: Path, overrides: tuple, as_json: bool) -> None:
    """Score a finished or interrupted run again; KEY=VALUE may change `evaluation`, `samplers` and `data.root`."""
    from genzoo import run as runs

    metrics = runs.evaluate_run(folder, overrides)
    click.echo(json.dumps(metrics, indent=2) if as_json else runs.summary(metrics))


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--num", type=click.IntRange(min=1), required=True, help="Number of images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the PNG files.")
@click.option("--sampler", help="A sampler of the run's recipe. [default: its first]")
@click.option("--part", default="y", show_default=True, help="y, or a branch or map by name (y1, y2, sigma).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def sample(folder: Path, num: int, out: Path, sampler: str | None, part: str, seed: int) -> None:
    """Generate PNG files from a run."""
    from genzoo import run as runs

    runs.sample(folder, num, out, sampler=sampler, part=part, seed=seed)
    click.echo(f"{num} images in {out}")


@cli.command("list")
@click.argument("kind", required=False)
@click.argument("pattern", default="*")
@plugin_option
@as_json
def list_parts(kind: str | None, pattern: str, plugins: tuple, as_json: bool) -> None:
    """Registered parts of KIND (or of every kind) that match PATTERN, with the package each comes from."""
    from genzoo.plugins import describe, load_file

    for plugin in plugins:
        load_file(plugin)
    if kind and "/" in kind:
        kind, _, pattern = kind.partition("/")
    if kind and kind not in KINDS:
        raise UserError(f"no kind '{kind}'{nearest(kind, KINDS)} (kinds: {', '.join(KINDS)})")
    rows = [
        {"kind": registry.kind, "name": name, "owner": registry.entries[name].owner}
        | {"description": describe(registry.entries[name])}
        for registry in KINDS.values()
        if kind in (None, registry.kind)
        for name in registry.names(pattern)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        raise UserError(f"nothing matches '{pattern}'{f' in {kind}' if kind else ''}")
    width = max(len(row["kind"]) + len(row["name"]) for row in rows) + 1
    owners = max(len(row["owner"]) for row in rows)
    for row in rows:
        click.echo(f"{row['kind'] + '/' + row['name']:{width}}  {row['owner']:{owners}}  {row['description']}".rstrip())


@cli.command()
@click.argument("what", metavar="KIND/NAME | RECIPE")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
@as_json
def show(what: str, overrides: tuple, plugins: tuple, as_json: bool) -> None:
    """A part's options with types, defaults and meaning, or a recipe resolved with all its defaults."""
    kind, slash, name = what.partition("/")
    if slash and kind in KINDS:
        from genzoo.config import options
        from genzoo.plugins import load_file

        for plugin in plugins:
            load_file(plugin)
        part = KINDS[kind].get(name)
        rows = options(part.Config)
        if as_json:
            click.echo(json.dumps({"kind": kind, "name": name, "options": rows}, indent=2))
            return
        click.echo(f"{what} ({KINDS[kind].entries[name].owner})\n\n{(part.__doc__ or '').strip()}\n")
        for row in rows:
            click.echo(f"  {row['option']}: {row['type']} = {row['default']}")
            if row["description"]:
                click.echo(f"      {row['description']}")
        return
    from genzoo.recipe import read

    recipe = read(what, overrides, plugins)
    click.echo(json.dumps(recipe.model_dump(mode="json"), indent=2) if as_json else recipe.to_yaml(), nl=as_json)


@cli.group()
def recipes() -> None:
    """Shipped recipes: list, check."""


@recipes.command("ls")
def recipes_ls() -> None:
    """Names of the shipped recipes, with what each is for."""
    from genzoo.recipe_file import shipped

    for name, path in shipped().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        click.echo(f"{name:16} {lines[1].lstrip('# ')}")


@recipes.command("validate")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@plugin_option
def recipes_validate(recipe: str, overrides: tuple, plugins: tuple) -> None:
    """Check RECIPE and build its model on the meta device: shapes and parameter counts, without reading data."""
    from genzoo import run as runs
    from genzoo.recipe import read

    stages = runs.check(read(recipe, overrides, plugins)).stages
    for name, (shape, num_parameters) in stages.items():
        click.echo(f"{name:24} {'x'.join(map(str, shape)):>12} {f'{num_parameters:,}' if num_parameters else '':>14}")
    click.echo(f"{'trainable parameters':24} {'':>12} {sum(n for _, n in stages.values()):>14,}")


@cli.group()
def data() -> None:
    """Prepared datasets: list, prepare."""


@data.command("ls")
def data_ls() -> None:
    """Prepared sets in the user's cache, with their size and place."""
    from genzoo.data.store import listing

    for row in listing():
        click.echo("  ".join(str(cell) for cell in row.values()))


@data.command("prepare")
@click.argument("name")
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
@plugin_option
def data_prepare(name: str, options: tuple, plugins: tuple) -> None:
    """Prepare dataset NAME (options as in a recipe's `data`: root=..., size=...) before the first run needs it."""
    from genzoo import run as runs
    from genzoo.plugins import load_file

    for plugin in plugins:
        load_file(plugin)
    for split, images in runs.prepare_data(name, options).items():
        click.echo(f"{split}: {len(images):,} images, sha256 {images.sha256}")
