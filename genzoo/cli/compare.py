"""`genzoo compare`: scores of runs side by side."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from genzoo.cli.options import as_json, plugin_option
from genzoo.errors import UserError, plain


@click.command()
@click.argument("folders", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metric", help="Only these, comma-separated: fd, kid, precision, ...")
@click.option("--across", is_flag=True, help="Rank also scores that were made by different protocols.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page: recipes, curves, pictures, scores.")
@plugin_option
@as_json
def compare(
    folders: tuple[Path, ...], metric: str | None, across: bool, html: Path | None, plugins: tuple, as_json: bool
) -> None:
    """Scores of runs, a row each; the best is marked where all were made by the same protocol."""
    from genzoo.evaluation.ranking import rank

    if len(folders) < 2:
        raise UserError("compare takes two runs or more: genzoo compare RUN RUN...")
    names = [folder.resolve().name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise UserError("a run is named twice")
    runs = dict(zip(names, folders, strict=True))
    rows = rank(_page(runs, html, plugins) if html else {name: _scores(runs[name]) for name in runs}, across)
    if metric:
        wanted = metric.split(",")
        known = dict.fromkeys(row.metric for row in rows)
        if unknown := [name for name in wanted if name not in known]:
            raise UserError(f"--metric: no run has a score '{unknown[0]}' (they have: {', '.join(known)})")
        rows = [row for row in rows if row.metric in wanted]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for line in _table(rows, names):
        click.echo(plain(line))
    if any(row.differs for row in rows) and not across:
        click.echo("rows marked ≠ are not ranked: their protocols differ (--across ranks them all the same)", err=True)


def _page(folders: dict[str, Path], html: Path, plugins: tuple) -> dict[str, list[dict]]:
    """Write the page, and return the scores of every run: on a page, one that has none has its place, too."""
    from genzoo.evaluation.ranking import entries
    from genzoo.files import check_writable
    from genzoo.reports.comparison import comparison
    from genzoo.reports.facts import read
    from genzoo.reports.walls import walls_beside

    check_writable(html)
    facts = {name: read(folder, plugins) for name, folder in folders.items()}
    comparison(facts, lambda: walls_beside(folders, plugins), html)
    click.echo(f"the page: {html}", err=True)
    return {name: entries(run.metrics) for name, run in facts.items()}


def _scores(folder: Path) -> list[dict]:
    path = folder / "metrics.json"
    if not path.is_file():
        raise UserError(f"{folder} has no metrics.json: it is no run, or not scored yet (`genzoo eval {folder}`)")
    from genzoo.evaluation.ranking import entries

    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return entries({**metrics, "scores": metrics["scores"]})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} holds no scores that can be read: `genzoo eval {folder}` makes them") from error


def _table(rows: list, names: list[str]) -> list[str]:
    """A row a score, a column a run; below, once, what differs in how they were made, and where, if not in all rows."""
    features = [f" ({row.features})" if row.features else "" for row in rows]
    about = [f"{row.metric}{on}  {row.generator}  {row.part}" for row, on in zip(rows, features, strict=True)]
    first = max([len(text) for text in about], default=0)
    widths = [max(12, len(name) + 2) for name in names]
    lines = [" " * (first + 2) + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for row, text in zip(rows, about, strict=True):
        cells = (f"{_cell(row, name):>{width}}" for name, width in zip(names, widths, strict=True))
        lines.append(f"{text:{first}}{' ≠' if row.differs else '  '}{''.join(cells)}")
    marked: dict[str, list[str]] = {}
    for row in rows:
        for field, values in row.differs.items():
            found = "; ".join(f"{run} {_words(values[run])}" for run in values)
            marked.setdefault(f"{field}: {found}", []).append(f"{row.metric} {row.generator}")
    for difference, places in marked.items():
        where = "" if len(places) == len(rows) else f" ({', '.join(dict.fromkeys(places))})"
        lines.append(f"≠ {difference}{where}")
    return lines


def _cell(row, name: str) -> str:
    if name not in row.entries:
        return "- "
    return f"{row.entries[name]['value']:.4g}{'*' if row.ranks.get(name) == 1 else ' '}"


def _words(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a sha256
