"""The README of a model on the Hub: what it is, how it looks, its scores and how they were made, how to load it."""

import inspect
import json
import re
from typing import Any

from genzoo.config import parts_in
from genzoo.recipe import Recipe
from genzoo.registry import KINDS
from genzoo.reports.scores import Line, tables

PAPER = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")


def card(
    recipe: Recipe,
    config: dict[str, Any],
    trained: dict[str, Any],
    metrics: dict[str, Any],
    pictures: dict[str, str],
    licence: str,
    repo: str | None,
    has_prior: bool,
) -> str:
    """config: what config.json holds; trained: of this checkpoint; metrics: {} where it was not scored.

    pictures: file -> what it shows; has_prior: whether there is anything to sample from.
    """
    model = recipe.model
    front = {"library_name": "genzoo", "license": licence, "pipeline_tag": "unconditional-image-generation"}
    tags = ["genzoo", "vae", f"head-{model.head.name}", f"latent-{model.latent.name}"]
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        f"tags: {json.dumps(tags)}",
        "---",
    ]
    lines += ["", f"# {recipe.name}", "", _summary(recipe, config, trained)]
    for file, said in pictures.items():
        lines += ["", f"![{said}]({file})", "", f"{said}; a row for each part that the head makes."]
    lines += ["", "## Load it", "", *_loading(config, repo, has_prior)]
    lines += ["", "## Scores", "", *_scores(metrics)]
    lines += ["", "## What it was made of", "", *_origin(recipe, config, trained)]
    lines += ["", "## Licence", "", _licence(licence)]
    lines += ["", "## Citation", "", *_citation(recipe)]
    return "\n".join(lines) + "\n"


def _summary(recipe: Recipe, config: dict[str, Any], trained: dict[str, Any]) -> str:
    model, (channels, height, width) = recipe.model, config["image_shape"]
    images = trained["data"].get("train", {}).get("num_images")
    prior = f", prior {model.prior.name}" if model.prior else ""
    count = f" ({images:,} images)" if images else ""
    return (
        f"An autoencoder of genzoo: encoder {model.encoder.name}, latent "
        f"{model.latent.name}{prior}, head {model.head.name}, objective {recipe.objective.name}; trained on "
        f"{_text(recipe.data.name)}{count}, {width}x{height} pixels of {channels} channel{'s' * (channels > 1)}, "
        f"step {config['checkpoint_step']:,}."
    )


def _loading(config: dict[str, Any], repo: str | None, has_prior: bool) -> list[str]:
    channels, height, width = config["image_shape"]
    packages = sorted({owner for owner in config["parts"].values() if not owner.endswith(".py")})
    files = sorted({owner.rpartition("/")[2] for owner in config["parts"].values() if owner.endswith(".py")})
    lines = [
        "```python",
        f"import genzoo  # pip install genzoo=={config['genzoo_version']}",
        "",
        f'model = genzoo.load("hf://{repo or "OWNER/NAME"}")  # or the folder that this file is in',
        *(["model.sample(16).image                # b c h w in [0, 1], from the prior"] if has_prior else []),
        f"model.reconstruct(x).image            # x: b {channels} {height} {width} in [0, 1]",
        "model.interpolate(x[0], x[1], num=8)  # .image, and .parts by name",
        "```",
        "",
        "No code of this repository is executed: the settings name parts that are installed, the weights are tensors.",
    ]
    if packages or files:
        needed = [*packages, *(f"the plugin file {name} (`plugins=[...]`)" for name in files)]
        lines += ["", f"It needs, beside genzoo: {_text(', '.join(needed))}."]
    return lines


def _scores(metrics: dict[str, Any]) -> list[str]:
    if not metrics.get("scores"):
        return ["None were made of this checkpoint."]
    lines: list[str] = []
    for table in tables(metrics["scores"]):
        of = f"on {_text(table.features)} features" if table.features else "of the model itself"
        lines += [", ".join(filter(None, [f"**{_text(table.metric)}** {of}", table.direction])), ""]
        lines += ["| images | " + " | ".join(map(_text, table.parts)) + " |", "| --- |" + " ---: |" * len(table.parts)]
        lines += [f"| {_row(line)} |" for line in table.lines if not line.reason]
        notes = [
            table.said,
            table.few,
            *(f"{line.name}: skipped, {line.reason}" for line in table.lines if line.reason),
        ]
        lines += ["", " · ".join(_text(note.strip(" ·")) for note in notes if note), ""]
    return [*lines, "metrics.json has each score with the whole of its protocol; scores of other protocols, also of "
                    "other numbers of images, are not to be compared."]  # fmt: skip


def _row(line: Line) -> str:
    name = f"{line.name} ({line.note})" if line.note else line.name
    return " | ".join([_text(name), *(cell.text if cell else "" for cell in line.cells)])


def _origin(recipe: Recipe, config: dict[str, Any], trained: dict[str, Any]) -> list[str]:
    lines = [f"- genzoo {config['genzoo_version']}, seed {recipe.seed}; the whole recipe is in config.json"]
    for split, held in trained["data"].items():
        lines.append(
            f"- data, {_text(split)}: {held.get('num_images', 0):,} images, sha256 {_text(held.get('sha256'))}"
        )
    if "seconds" in trained:
        lines.append(
            f"- {trained['seconds']:,.0f} s on {_text(trained.get('device'))}, {_text(trained.get('precision'))}"
        )
    learned = [one.name for one in recipe.samplers if one.name != "prior"]
    if learned:
        lines.append(f"- not here: the samplers {', '.join(learned)}, which were fitted in the run")
    return lines


def _licence(licence: str) -> str:
    if licence == "unknown":
        return "Who trained it has not said under which terms the weights are given. genzoo itself is Apache-2.0."
    return f"The weights: {_text(licence)}. genzoo itself is Apache-2.0."


def _citation(recipe: Recipe) -> list[str]:
    """The papers that the parts' own docstrings name as their source."""
    lines = []
    for config in parts_in([recipe.model, recipe.objective, *recipe.terms]):
        part = KINDS[config.kind].get(config.name)
        papers = dict.fromkeys(PAPER.findall(inspect.getdoc(part) or ""))
        links = ", ".join(f"[arXiv:{paper}](https://arxiv.org/abs/{paper})" for paper in papers)
        if links and (line := f"- {config.kind}/{config.name}: {links}") not in lines:
            lines.append(line)
    return ["The parts of this model come from:", "", *lines] if lines else ["genzoo: a pluggable zoo of image models."]


def _text(value: object) -> str:
    """Text as it stands in Markdown, whatever is in it."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(str(value).split()))
