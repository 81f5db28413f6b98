"""`genzoo report`: a run on one page."""

import json
from pathlib import Path

import click

from genzoo.cli.options import plugin_option
from genzoo.errors import UserError


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file to write. [default: RUN/report.html]")
@click.option(
    "--floor",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Scores of real images, to stand beside: the JSON of `genzoo fid DATA:train DATA:test --json`.",
)
@plugin_option
@click.option("--twin", type=click.Path(path_type=Path), help="A run to compare with, such as one without the split.")
def report(folder: Path, out: Path | None, floor: Path | None, twin: Path | None, plugins: tuple) -> None:
    """Write a finished or interrupted run on one page: pictures, scores and how they were made, training, recipe.

    The page is one file that needs no network. A run writes it by itself at its end, unless its recipe says
    `report: false`.
    """
    from genzoo.files import check_writable
    from genzoo.reports.report import report as write
    from genzoo.reports.walls import walls

    check_writable(out or folder / "report.html")
    beside = {"floor": _scores(floor) if floor else [], "twin": twin}
    path = write(folder, lambda: walls(folder, plugins), **beside, plugins=plugins, out=out)
    click.echo(path)


def _scores(path: Path) -> list[dict]:
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
        return [entry for entry in scores if {"metric", "features", "generator", "value"} <= entry.keys()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--floor {path}: no scores, as `genzoo fid ... --json` prints them ({error})") from error
