"""Write docs/parts/*.md, the built-in parts with their options, from the registry: `python docs/catalogue.py`."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from genzoo import parts
from genzoo.config import config_of
from genzoo.options import options
from genzoo.registry import KINDS

FOLDER = Path(__file__).parent / "parts"
PICTURES = Path(__file__).parent / "pictures" / "parts"  # by docs/part_pictures.py, each with its words
OWN, DOWNLOAD = "it shows your images", "its images are a download"
WITHOUT = {  # kind/name -> why it has no picture
    "datasets/celeba": DOWNLOAD,
    "datasets/cifar10": DOWNLOAD,
    "datasets/fashion_mnist": DOWNLOAD,
    "datasets/folder": OWN,
    "datasets/hf": OWN,
    "datasets/npz": OWN,
    "datasets/webdataset": OWN,
    "metrics/fid": "its weights are a download; see fd, the same distance on other features",
}
PAPER = re.compile(r"\b\d{4}\.\d{4,5}\b")  # its number on arXiv
ABOUT = {
    "encoders": "An image becomes features: a vector, or a map where `out: map` is offered.",
    "latents": "Features become a distribution of latents, and latents the features that decoders read.",
    "priors": "Learned priors, trained with the model in the place of the latent's own: `model.prior`.",
    "decoders": "Features become images. A head decides how many channels, and what they mean.",
    "heads": "A head builds the decoders and makes the model's image of what they give.",
    "objectives": "What training minimises, in nats per image.",
    "terms": "What is charged beside any objective, each with its weight: `terms`, a list.",
    "samplers": "Where the latents of new images come from: `samplers`, a list; each has its own scores.",
    "datasets": "What `data` may name. Each is prepared once, into a memory-mapped array of uint8.",
    "features": "Networks in whose features images are compared.",
    "metrics": "Scores of a generator's images: `evaluation.metrics`, or `genzoo fid A B --metric`.",
}


def page(kind: str) -> str:
    """One kind: what it is, and every built-in part of it."""
    registry = KINDS[kind]
    built_in = [name for name, entry in registry.entries.items() if entry.owner == "genzoo"]
    contract = getattr(parts, "Features" if kind == "features" else kind[:-1].capitalize())
    lines = [
        f"# {kind.capitalize()}",
        "",
        "<!-- written by `python docs/catalogue.py` from the parts themselves -->",
        "",
        f"{ABOUT[kind]} In code: {plain(paragraph(contract))}",
        "",
    ]
    for name in built_in:
        part = registry.get(name)
        lines += [f"## {name}", "", plain(paragraph(part)), ""]
        if papers := sources(part):
            links = ", ".join(f"[arXiv {paper}](https://arxiv.org/abs/{paper})" for paper in papers)
            lines += [f"Source: {links}.", ""]
        lines += picture(kind, name)
        rows = options(config_of(registry, name))
        if rows:
            lines += ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
            lines += [row_of(row) for row in rows]
        else:
            lines += ["No options."]
        lines += [""]
    return "\n".join(lines)


def picture(kind: str, name: str) -> list[str]:
    """The part's, with its words; FileNotFoundError where it has none and no reason for that."""
    if reason := WITHOUT.get(f"{kind}/{name}"):
        return [f"*No picture: {reason}.*", ""]
    path = PICTURES / f"{kind}-{name}.svg"
    words = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    file = path if path.is_file() else path.with_suffix(".png")
    return [f"![{words}](../pictures/parts/{file.name})", "", f"*{plain(words)}*", ""]


def row_of(row: dict) -> str:
    default = row["default"] if row["default"] == "required" else f"`{json.dumps(row['default'])}`"
    cells = [f"`{row['option']}`", row["type"], default, plain(row["description"] or "")]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def paragraph(part: type) -> str:
    """The first of its docstring, on one line."""
    return " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())


def sources(part: type) -> list[str]:
    """The papers that the part's docstring names, or else its file."""
    found = PAPER.findall(inspect.getdoc(part) or "") or PAPER.findall(inspect.getsource(inspect.getmodule(part)))
    return list(dict.fromkeys(found))


def plain(text: str) -> str:
    """Text as Markdown that shows it as it is; what is between backticks stays."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_<\[\]~^])", r"\\\1", p) for p in pieces)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for kind in KINDS:
        (FOLDER / f"{kind}.md").write_text(page(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
