"""A run's report: one page about what was made, how good it is, and how to make it again."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import UndefinedError
from PIL import Image

from genzoo.errors import UserError, reason
from genzoo.evaluation.branches import describe
from genzoo.files import refuse_device
from genzoo.reports import page
from genzoo.reports.charts import number
from genzoo.reports.curves import curves
from genzoo.reports.diagnoses import codebook_story, latent_story, split_story
from genzoo.reports.facts import Facts, read, status
from genzoo.reports.pictures import Wall
from genzoo.reports.scores import tables
from genzoo.reports.sheets import uri

MAX_STRIPS, STRIP_WIDTH = 6, 900  # pictures of the training that are shown, and their width in pixels


def report(
    folder: Path,
    walls: Callable[[], list[Wall]],
    *,
    floor: Sequence[dict] = (),
    twin: Path | None = None,
    plugins: Sequence[str] = (),
    out: Path | None = None,
) -> Path:
    """Write RUN/report.html (or `out`) and return its path.

    walls: draws what the model makes; what it raises is told on the page, which then shows the run's PNG
    files. floor: scores of real images; twin: the run of another model beside this one; plugins: files to be executed
    for the run. UserError where `folder` is no run, or its metrics.json is not one that genzoo wrote.
    """
    path = out or folder / "report.html"
    facts = read(folder, plugins)
    other = read(twin) if twin else None
    try:
        drawn = walls()
    except Exception as error:  # whatever a part does with it
        drawn, told = [], error if isinstance(error, UserError) else reason(error)
        facts.notes.append(f"The model cannot be used here, so that only the run's own PNG files are shown: {told}")
    try:
        page.write(path, "report.html", **_context(facts, drawn, floor, other))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, UndefinedError) as error:
        raise UserError(
            f"{folder / 'metrics.json'} is not one that this genzoo wrote ({type(error).__name__}: {error}): "
            f"`genzoo eval {folder}` writes it anew"
        ) from error
    return path


def _context(facts: Facts, drawn: list[Wall], floor: Sequence[dict], twin: Facts | None) -> dict[str, object]:
    metrics, train = facts.metrics, facts.metrics.get("train", {})
    walls, note = page.walls_of(drawn, said=_said_of_parts(drawn))
    by_name = {wall["name"]: wall for wall in walls}
    charts, constant = curves({facts.name: facts.lines} if facts.lines else {})
    return {
        "run": facts,
        "status": status(facts),
        "summary": _summary(facts),
        "figures": _figures(facts),
        "walls": [wall for wall in walls if wall["name"] != "traversal"],
        "traversal": by_name.get("traversal"),
        "all_walls": walls,
        "pictures_note": note,
        "strips": _strips(facts, with_panels=not drawn),
        "tables": tables(facts.scores(), floor, (twin.name, twin.scores()) if twin else None),
        "split": split_story(metrics["split"]) if metrics.get("split") else None,
        "split_said": describe(metrics.get("split")) if "split" in metrics else "",
        "latent": latent_story(metrics["latent"]) if "latent" in metrics else None,
        "codebook": codebook_story(metrics.get("latent", {}).get("codebook") or []),
        "curves": charts,
        "sinking": any(curve.title == "gamma" for curve in charts),
        "constant": {name: number(value) for name, value in constant.items()},
        "notes": train.get("notes", []),
        "train": {key: value for key, value in train.items() if not isinstance(value, dict | list)},
        "command": shlex.join(facts.lock["command"]) if facts.lock.get("command") else "",
        "again": f"genzoo run {shlex.quote(str(facts.folder / 'recipe.yaml'))} --out NEW_FOLDER",
        "go_on": f"genzoo run {shlex.quote(str(facts.folder / 'recipe.yaml'))} --resume --out "
        f"{shlex.quote(str(facts.folder))}",
        "score": f"genzoo eval {shlex.quote(str(facts.folder))}",
    }


def _summary(facts: Facts) -> str:
    """What was trained on what, in a sentence or two."""
    train, words = facts.metrics.get("train", {}), []
    if facts.recipe:
        model = facts.recipe.model
        words.append(
            f"Encoder {model.encoder.name}, latent {model.latent.name}, head {model.head.name}, objective "
            f"{facts.recipe.objective.name}, trained on {facts.recipe.data.name}"
        )
        data = facts.lock.get("data", {}).get("train", {})
        if "num_images" in data:
            words[-1] += f" ({data['num_images']:,} images)"
    if train.get("num_parameters"):
        words.append(
            f"{train['num_parameters']:,} parameters, {train['steps']:,} steps in {_duration(train['seconds'])} "
            f"({train['precision']} on {train['device']})"
        )
    return ". ".join(words) + "." if words else ""


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 300 else f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _figures(facts: Facts) -> list[tuple[str, str, str]]:
    """The numbers at the top: value, unit, what it is."""
    made = []
    train, latent, split = (facts.metrics.get(key) or {} for key in ("train", "latent", "split"))
    samples = [e for e in facts.scores() if e["value"] is not None and e["generator"] != "reconstruction"]
    for metric in dict.fromkeys(entry["metric"] for entry in samples if entry["metric"] in ("fid", "fd")):
        for part in ("y", min((e for e in samples if e["metric"] == metric), key=lambda e: e["value"])["part"]):
            best = min((e for e in samples if (e["metric"], e["part"]) == (metric, part)), key=lambda e: e["value"])
            label = f"{metric} of {part}, the best sampler ({best['generator']}); {best['features']}"
            if (found := (f"{best['value']:.2f}", "", label)) not in made:
                made.append(found)
    if train.get("reconstruction_mse") is not None:
        made.append((f"{train['reconstruction_mse']:.4f}", "", "reconstruction MSE per pixel, last epoch"))
    if train.get("kl") is not None:
        made.append((f"{train['kl']:.1f}", "nats", "KL per image, last epoch"))
    if latent.get("inactive_by_mean_variance") is not None:
        active = latent["num_latents"] - latent["inactive_by_mean_variance"]
        made.append((f"{active}", f"of {latent['num_latents']}", "latent variables in use"))
    if split:
        made.append((split["kind"], "", "kind of the split"))
    if facts.lines and not train.get("num_parameters"):
        made.append((f"{facts.step:,}", f"of {facts.planned:,}" if facts.planned else "", "steps done"))
    return made


def _said_of_parts(walls: list[Wall]) -> dict[str, str]:
    maps = {part for wall in walls for part in wall.maps}
    branches = {part for wall in walls for part in wall.parts} - maps - {"x", "y"}
    return {
        "y": "the model's image y",
        "x": "the real images x",
        **{part: f"the map {part}, dark where it is 0, bright where it is 1" for part in maps},
        **{part: f"the branch {part} alone" for part in branches},
    }


def _strips(facts: Facts, with_panels: bool) -> list[dict]:
    """Pictures that training left, at a few steps; where there is no model to draw from, the run's panels too."""
    panels = facts.folder / "panels"
    steps = [file for file in sorted(panels.glob("step-*_sample.png")) if file.name[5:13].isdigit()]
    every = max(1, -(-len(steps) // MAX_STRIPS))
    chosen = [(f"step {int(file.name[5:13]):,}", file) for file in reversed(steps[::-1][::every])]
    if with_panels:
        chosen += [(file.stem, file) for file in sorted(panels.glob("*.png")) if not file.name.startswith("step-")]
    made = []
    for name, file in chosen:
        try:
            refuse_device(file)
            with Image.open(file, formats=("PNG",)) as image:
                image = image.convert("RGB")
                image.thumbnail((STRIP_WIDTH, 4 * STRIP_WIDTH))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            facts.notes.append(f"{file.name} cannot be shown: {error}")
            continue
        made.append({"name": name, "uri": uri(image, lossy=True), "width": image.width, "height": image.height,
                     "training": file.name.startswith("step-")})  # fmt: skip
    return made
