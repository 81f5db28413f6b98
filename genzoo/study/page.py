"""The page of a study, from its facts alone: verdicts, tables, figures, and how each number was made."""

import os
import re
import shlex
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path

from genzoo.errors import UserError
from genzoo.files import replacing
from genzoo.study import claims, figures, intervals
from genzoo.study.cells import Cell
from genzoo.study.measures import Key, Measure, chosen, mark, own, pivot, records
from genzoo.study.study import Claim, Pictures, Scatter, Study, Table

BOLD = (
    "**Bold**: the best of those it is compared with, where all were made by the same protocol and its interval lies "
    "apart from every other's. ≠: protocols differ, and nothing is compared."
)
MARKS = re.compile(r"(<!-- study (?P<name>[^\s:]+)(?:: (?P<title>[^\n]*?))? -->\n).*?(<!-- end of study -->)", re.S)
NOT_COMPARED = ("group", "metric", "features", "generator")


class Page:
    """Parts of the page as lines of Markdown; figures are files, written when the page is."""

    def __init__(self, study: Study, path: Path, cells: list[Cell], facts: list[dict], stale: list[str], runs: Path):
        self.study, self.path, self.cells, self.facts, self.stale, self.runs = study, path, cells, facts, stale, runs
        self.pages = [path.parent / page for page in study.pages or [f"{study.name}.md"]]
        self.folder = self.pages[0].parent / "figures"
        self.files: dict[Path, bytes] = {}

    def whole(self, page: Path) -> list[str]:
        study = self.study
        lines = [
            f"# {study.title or study.name}",
            "",
            *self._answers(),
            *([study.about.strip(), ""] if study.about else []),
        ]
        if study.claims:
            lines += ["## Findings", "", *self._findings(study.claims), ""]
        for item in (*study.tables, *study.scatters, *study.pictures):
            lines += [f"## {item.title}", "", *self.part(item, page), ""]
        return [*lines, *self._made()]

    def part(self, item: Table | Scatter | Pictures, page: Path) -> list[str]:
        if isinstance(item, Table):
            return self._table(item, page)
        return self._scatter(item, page) if isinstance(item, Scatter) else self._pictures(item, page)

    def _answers(self) -> list[str]:
        """A paragraph a question: the claims that answer it, and what became of each."""
        said: dict[str, list[str]] = {}
        for claim in self.study.claims:
            if claim.answers:
                words: dict[str, list[str]] = {}
                for one in claims.verdicts(claim, self.facts):
                    place = f"on {', '.join(one.of)} " if any(one.of) else ""
                    words.setdefault(one.word, []).append(f"{place}({one.pairs})")
                found = "; ".join(f"**{word}** {', '.join(of)}" for word, of in words.items())
                said.setdefault(claim.answers, []).append(f"- {claim.says}: {found or 'no runs yet'}")
        return [line for question, ones in said.items() for line in (f"*{question}*", "", *ones, "")]

    def _findings(self, said: Sequence[Claim]) -> list[str]:
        """A row a claim, a column for each of what it is decided on apart."""
        found = [(claim.says, {", ".join(one.of) or "all": one for one in claims.verdicts(claim, self.facts)})
                 for claim in said]  # fmt: skip
        head = [*{of: None for _, made in found for of in made}] or ["all"]
        rows = [[says, *(_verdict(made[of]) if of in made else "" if made else "no runs yet" for of in head)]
                for says, made in found]  # fmt: skip
        return [*_markdown(["claim", *head], rows), "", claims.METHOD]

    def _table(self, table: Table, page: Path) -> list[str]:
        dims = [*table.rows, *table.columns]
        found = records(self.facts, table.where)
        made = pivot(found, dims, table.where, table.title)
        if not made:
            return ["No run of these has ended yet."]
        mark(made, dims, [d for d in dims if d not in NOT_COMPARED] if table.compare is None else table.compare)
        num = len(table.rows)
        rows, columns = ({part(key): None for key in made} for part in (lambda key: key[:num], lambda key: key[num:]))
        head = [*table.rows, *(_head(table.columns, column) for column in columns)]
        mixed = len({measure.interval.num for measure in made.values()}) > 1
        lines = [[*row, *(_cell(made.get((*row, *column)), mixed) for column in columns)] for row in rows]
        text = [*_markdown(head, lines, num), "", _said(made)]
        if unlike := sorted({field for measure in made.values() for field in measure.unlike}):
            text += ["", f"≠: protocols differ in {', '.join(unlike)}."]
        text += ["", table.note.strip()] if table.note else []
        if table.figure:
            panels = _panels(made, dims)
            text += ["", self._figure(table.title, figures.dots(panels, table.title), page)]
        return text

    def _scatter(self, item: Scatter, page: Path) -> list[str]:
        sides = []
        for side in (item.x, item.y):
            where = {**item.where, **side}
            sides.append(pivot(records(self.facts, where), item.points, where, item.title))
        points = [(", ".join(key), sides[0][key].interval, sides[1][key].interval)
                  for key in sides[0] if key in sides[1]]  # fmt: skip
        if not points:
            return ["No run of these has ended yet."]
        labels = [" ".join(str(value) for value in side.values()) for side in (item.x, item.y)]
        return [self._figure(item.title, figures.scatter(points, *labels, item.title), page)]

    def _pictures(self, item: Pictures, page: Path) -> list[str]:
        """One run's for each value of `each`: the first that has it, from its folder, else as it was kept."""
        lines: list[str] = []
        shown: dict[Key, None] = {}
        for facts in chosen(self.facts, item.where):
            key = tuple(own(facts).get(dim, "") for dim in item.each)
            name = f"{self.study.name}-{_slug(item.title)}-{_slug('-'.join(key))}"
            target = self.folder / f"{name}{Path(item.file).suffix}"
            source = self.runs / facts["cell"] / item.file
            if source.is_file() and key not in shown:
                self.files[target] = source.read_bytes()
            if (source.is_file() or target.is_file()) and key not in shown:
                shown[key] = None
                about = f"{', '.join(key)} ({facts['cell']})"
                lines += [f"![{about}]({_relative(target, page)})", "", f"*{about}*", ""]
        return lines or ["No run of these has its picture here."]

    def _figure(self, title: str, svg: str, page: Path) -> str:
        target = self.folder / f"{self.study.name}-{_slug(title)}.svg"
        self.files[target] = svg.encode()
        return f"![{title}]({_relative(target, page)})"

    def _made(self) -> list[str]:
        """How many runs of what, where, and what the signs mean."""
        versions = sorted({f"{name} {one['versions'][name]}" for one in self.facts for name in ("genzoo", "torch")
                           if name in one["versions"]})  # fmt: skip
        devices = sorted({one["device"] for one in self.facts})
        said = f"{len(self.facts)} of {len(self.cells)} cells have ended"
        said += f" ({'; '.join(devices)}; {', '.join(versions)})." if self.facts else "."
        if self.stale:
            said += f" {len(self.stale)} more are of an earlier form of the study and do not count."
        command = shlex.join(["genzoo", "study", self.path.name])
        about = f"{said} `{command}` makes them, `{command} --table` this page, from the facts of each run."
        return ["## How the numbers were made", "", about, "", f"{intervals.METHOD} {BOLD}"]

    def write(self) -> list[Path]:
        """Fill the pages that the study names; those that are not there are begun. Returns what was written."""
        for page in self.pages:
            begun = f"<!-- study {self.study.name} -->\n<!-- end of study -->\n"
            text = page.read_text(encoding="utf-8") if page.is_file() else begun
            if not any(found["name"] == self.study.name for found in MARKS.finditer(text)):
                raise UserError(f"{page} has no place for this study; where it goes, write the lines\n{begun}")
            self.files[page] = self.filled(text, page).encode()
        for file, content in self.files.items():
            with replacing(file) as opened:
                opened.write(content)
        return [*self.files]

    def filled(self, text: str, page: Path) -> str:
        """The text with a new content between each pair of this study's marks: all of it, or one table by its title."""
        items = {item.title: item for item in (*self.study.tables, *self.study.scatters, *self.study.pictures)}

        def content(found: re.Match) -> str:
            if found["name"] != self.study.name:
                return found[0]
            if found["title"] and found["title"] not in items:
                raise UserError(f"{page}: the study has nothing called '{found['title']}' (it has: {', '.join(items)})")
            lines = self.part(items[found["title"]], page) if found["title"] else self.whole(page)
            return "\n".join([found[1], *lines, "", found[4]])

        return MARKS.sub(content, text)


def _panels(made: dict[Key, Measure], dims: list[str]) -> list[tuple[str, list]]:
    """Values on one scale together: those of one metric."""
    panels: dict[str, list] = {}
    place = dims.index("metric") if "metric" in dims else None
    for key, measure in made.items():
        title = measure.records[0].dims["metric"] if place is None else key[place]
        label = ", ".join(value for n, value in enumerate(key) if n != place and value)
        panels.setdefault(title, []).append((label, measure.interval))
    return list(panels.items())


def _cell(measure: Measure | None, mixed: bool) -> str:
    """mixed: other cells of the table are of another number of runs."""
    if measure is None:
        return ""
    one = measure.interval
    if measure.share:
        return f"{round(one.center * one.num)}/{one.num} ({one.low:.2f}–{one.high:.2f})"
    text = number(one) + (" (1 run)" if one.num == 1 and mixed else "")
    text = f"**{text}**" if measure.bold else text
    return text + (f" ({measure.chosen})" if measure.chosen else "") + (" ≠" if measure.unlike else "")


def number(one: intervals.Interval) -> str:
    """Center ± half width, to two digits of the latter; four digits of a value without, or that all runs share."""
    if not one.half:
        return _plain(one.center, 4)
    decimals = min(max(1 - floor(log10(one.half)), 0), 6)
    return f"{one.center:,.{decimals}f} ± {one.half:,.{decimals}f}"


def _plain(value: float, digits: int) -> str:
    if value == 0 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{min(max(digits - 1 - floor(log10(abs(value))), 0), 6)}f}"


def _verdict(one: claims.Verdict) -> str:
    why = f": {one.reason}" if one.reason else ""
    if one.difference is None:
        return f"**{one.word}**{why}"
    return f"**{one.word}** {number(one.difference)} ({one.pairs}{why if one.difference.num > 1 else ''})"


def _head(dims: list[str], values: Key) -> str:
    words = [f"{dim}={value}" if "." in dim else value for dim, value in zip(dims, values, strict=True) if value]
    return ", ".join(words)


def _said(made: dict[Key, Measure]) -> str:
    """How many runs, and what the scores among them were made of."""
    nums = sorted({measure.interval.num for measure in made.values()})
    said = [
        "n = 1: no intervals" if nums == [1] else f"n = {nums[0]}" if len(nums) == 1 else f"n = {nums[0]} to {nums[-1]}"
    ]
    entries = [record.entry for measure in made.values() for record in measure.records if record.entry]
    for features in dict.fromkeys(entry["features"] for entry in entries):
        alike = [entry for entry in entries if entry["features"] == features]
        sizes = dict.fromkeys((e.get("num_samples"), e.get("num_reference"), e.get("reference")) for e in alike)
        if pairs := "; ".join(f"{a:,} images against {b:,} of `{c}`" for a, b, c in sizes if a and b):
            said.append(f"{features}: {pairs}")
        if any(entry.get("unconverged") for entry in alike):
            said.append("The likelihood is a bound that still falls with more draws")
        if any(entry.get("few") for entry in alike):
            said.append("Fewer images than the features have dimensions, which biases a Fréchet distance")
    return ". ".join(said) + "."


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """The first columns are text, the others numbers."""
    lines = [head, [*["---"] * texts, *["---:"] * (len(head) - texts)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _relative(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix()
