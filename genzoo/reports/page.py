"""Pages made of the templates: one file each with everything in it, so that no address is asked for anything."""

import base64
import hashlib
from functools import cache
from math import ceil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from genzoo.files import replacing
from genzoo.reports.charts import number
from genzoo.reports.pictures import Wall
from genzoo.reports.sheets import MAX_SIDE, sheets

TEMPLATES = Path(__file__).parent / "templates"
CRISP = 64  # images up to so many pixels are enlarged without smoothing
SHOWN, SHOWN_SMALL = 64, 44  # about how many pixels an image has on a page, and on a narrow one


def write(path: Path, template: str, **context: object) -> None:
    """Fill a template and write the page, whole or not at all. Everything in the context is shown as text."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = (
        _environment()
        .get_template(template)
        .render(
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=digest,
            **context,
        )
    )
    with replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["number"] = number
    return made


def walls_of(walls: list[Wall], prefix: str = "w", said: dict[str, str] | None = None) -> tuple[list[dict], str]:
    """What the template walls.html shows, and a note on the pictures. said: part -> what it is, for texts."""
    groups, nums, note = sheets(walls)
    made = []
    for k, (wall, group, num) in enumerate(zip(walls, groups, nums, strict=True)):
        h, w = next(iter(wall.parts.values())).shape[1:3]
        shrunk = min(1.0, MAX_SIDE / max(h, w))
        h, w = round(h * shrunk), round(w * shrunk)
        factor = max(1, round(SHOWN / max(h, w)))
        places = [_place(n, group[0].columns, group[0].rows) for n in range(num)]
        columns = len(places) // len(wall.rows) if wall.rows else 0
        rows = [{"name": name, "places": places[n * columns : (n + 1) * columns]} for n, name in enumerate(wall.rows)]
        shown = []
        for n, sheet in enumerate(group):
            what = (said or {}).get(sheet.part, f"part {sheet.part}")
            alt = f"{num} images, {what}: {wall.about}. Arrow keys choose an image, Enter shows all its parts large."
            shown.append({"id": f"{prefix}{k}p{n}", "part": sheet.part, "uri": Markup(sheet.uri), "alt": alt,
                          "columns": sheet.columns, "rows": sheet.rows})  # fmt: skip
        made.append({
            "id": f"{prefix}{k}", "name": wall.name, "title": wall.title, "about": wall.about, "w": w * factor,
            "h": h * factor, "small": round(min(1, ceil(SHOWN_SMALL / max(h, w) - 0.5) / factor), 4) or 1,
            "crisp": max(h, w) <= CRISP, "places": places, "rows": rows, "sheets": shown,
            "has_maps": ", ".join(wall.maps), "across": columns,
        })  # fmt: skip
    return made, note


def _place(k: int, columns: int, rows: int) -> tuple[str, ...]:
    """Where image k of a sheet is, as percentages of a CSS background position."""
    return tuple(f"{100 * at / max(1, num - 1):.4g}" for at, num in ((k % columns, columns), (k // columns, rows)))
