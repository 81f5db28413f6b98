"""`genzoo study`: many runs that a YAML file describes, and the page that tabulates them."""

from __future__ import annotations

import json
import logging
import re
import shlex
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genzoo.cli.options import as_json, plugin_option
from genzoo.errors import UserError

if TYPE_CHECKING:
    from genzoo.study.cells import Cell
    from genzoo.study.work import Place

log = logging.getLogger("genzoo")


@click.command()
@click.argument("file", metavar="STUDY.yaml", type=click.Path(path_type=Path))
@click.option("--plan", is_flag=True, help="Print the cells, what is done, and the time left; run nothing.")
@click.option("--table", is_flag=True, help="Write the study's pages from the facts that are there; run nothing.")
@click.option("--shard", metavar="I/N", help="Of N machines this is number I: every N-th cell.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True,
              help="Cells at once; the cores, and several GPUs, are shared out among them.")  # fmt: skip
@click.option("--only", metavar="PATTERN", help="Cells whose name fits, such as 'digits/*seed=0'.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run folders. [default: runs/NAME]")
@click.option("--root", "roots", multiple=True, metavar="DATA=DIR", help="Where a data set's files are here.")
@click.option("--repeat", type=click.Path(path_type=Path), metavar="DIR",
              help="Make the cells from scratch in DIR and compare their scores with the facts.")  # fmt: skip
@plugin_option
@as_json
def study(
    file: Path, plan: bool, table: bool, shard: str | None, jobs: int, only: str | None, out: Path | None,
    roots: tuple, repeat: Path | None, plugins: tuple, as_json: bool,
) -> None:  # fmt: skip
    """Make every run that STUDY.yaml describes, each an ordinary run folder, and keep a small file of facts of each.

    What is done is skipped, what was begun goes on; a cell that fails is said, and the others are made (exit code 1).
    Plugin files that the study or its recipes name are executed, though not by --plan. --json goes with --plan.
    """
    from genzoo.study.cells import expand
    from genzoo.study.study import facts_folder, read

    log.setLevel(logging.WARNING)  # which options an edit drops, every run says itself
    parsed, path, origins = read(file)
    cells = expand(parsed, path, origins)
    runs, facts = out or Path("runs") / parsed.name, facts_folder(parsed, path)
    if table:
        from genzoo.study.facts import read as read_facts
        from genzoo.study.page import Page

        page = Page(parsed, path, cells, *read_facts(facts, cells), runs)
        click.echo("\n".join(map(str, page.write())))
        return

    from genzoo.study.work import Place, Work, check

    cells = _chosen(cells, only, shard)
    named = [str((path.parent / plugin).resolve()) for plugin in parsed.plugins]
    place = Place(path, runs, facts, named, [*plugins], _roots(roots))
    check(cells, place, execute=not plan)
    log.setLevel(logging.INFO)
    if plan:
        _print_plan(cells, place, jobs, as_json)
        return
    if repeat:
        place = Place(path, repeat, repeat / "facts", named, [*plugins], place.roots)
    work = Work(cells, place, jobs)
    try:
        work.run()
    except KeyboardInterrupt as end:
        end.add_note(f"go on with: {shlex.join(['genzoo', *sys.argv[1:]])}")
        raise
    for name, reason in work.failed.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    _say_gains(place.runs, cells)
    differ = bool(repeat) and _differ(cells, place.facts, facts, parsed.tolerance)
    done = len(cells) - len(work.failed)
    click.echo(
        f"{done} of {len(cells)} cells are done; the page: {shlex.join(['genzoo', 'study', str(file), '--table'])}"
    )
    sys.exit(1 if work.failed or differ else 0)


def _chosen(cells: list[Cell], only: str | None, shard: str | None) -> list[Cell]:
    chosen = [cell for cell in cells if only is None or fnmatchcase(cell.name, only)]
    if not chosen:
        raise UserError(f"--only {only}: no cell has such a name (they are such as {cells[0].name})")
    if shard is None:
        return chosen
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {shard}: expected I/N with I from 1 to N, such as 1/2 and 2/2 on two machines")
    return chosen[int(match[1]) - 1 :: int(match[2])]


def _roots(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if not re.fullmatch(r"[^=]+=.+", word):
            raise UserError(f"--root {word}: expected DATA=DIR, such as mnist=DIR")
    return {name: str(Path(folder).resolve()) for name, _, folder in (word.partition("=") for word in words)}


def _print_plan(cells: list[Cell], place: Place, jobs: int, as_json: bool) -> None:
    from genzoo.study.progress import states, time_left, words_of

    found = states(cells, place.runs, place.facts)
    if as_json:
        rows = [{"cell": one.cell.name, "state": one.word, "step": one.step, "steps": one.steps,
                 "seconds": one.seconds, "reason": one.reason} for one in found]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(one.cell.name) for one in found)
    for one in found:
        took = "" if one.seconds is None else words_of(one.seconds)
        steps = f"{one.step}/{one.steps}" if one.steps else ""
        click.echo(f"{one.word:6} {one.cell.name:{width}} {steps:>13} {took:>10}  {one.reason}".rstrip())
    counts = {word: sum(one.word == word for one in found) for word in dict.fromkeys(one.word for one in found)}
    counted = ", ".join(f"{num} {word}" for word, num in counts.items())
    click.echo(f"{len(found)} cells: {counted}; runs in {place.runs}, facts in {place.facts}")
    click.echo(f"time left with --jobs {jobs}: {time_left(found, jobs)}")
    _say_gains(place.runs, cells)


def _say_gains(runs: Path, cells: list[Cell]) -> None:
    from genzoo.study.progress import gains

    for jobs, gain in gains(runs, cells).items():
        click.echo(f"measured here: --jobs {jobs} makes {gain:.2f} times the cells an hour of one job", err=True)


def _differ(cells: list[Cell], new: Path, old: Path, tolerance: float) -> bool:
    """Say how far the repeated cells lie from the facts, and whether any lies farther than the study allows."""
    from genzoo.study.facts import farthest, read

    before = {facts["cell"]: facts for facts in read(old, cells)[0]}
    found = [(facts["cell"], *farthest(facts, before[facts["cell"]])) for facts in read(new, cells)[0]
             if facts["cell"] in before]  # fmt: skip
    for name, distance, where in found:
        verdict = "within" if distance <= tolerance else "beyond"
        click.echo(
            f"{name}: {distance:.2%} from its facts ({where}), {verdict} the study's tolerance of {tolerance:.0%}"
        )
    return any(distance > tolerance for _, distance, _ in found)
