"""A trained run in a form that other programs, and the Hugging Face Hub, take. Written whole, and looked at again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from genzoo import __version__
from genzoo.errors import UserError
from genzoo.export import hub
from genzoo.export.files import write_onnx, write_torch
from genzoo.export.graphs import TOLERANCE, exports
from genzoo.files import check_writable, making, refuse_filled, write_json
from genzoo.images.decode import MODES
from genzoo.loading import loaded
from genzoo.model import Model
from genzoo.parts import Shape
from genzoo.recipe import Recipe
from genzoo.run_folder import RunFolder

WRITERS = {"onnx": write_onnx, "torch": write_torch}
TARGETS = (*WRITERS, "hf")


def export(
    folder: str | Path,
    target: str,
    out: str | Path | None = None,
    *,
    licence: str = hub.UNKNOWN,
    repo: str | None = None,
    private: bool = False,
    plugins: Sequence[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """Write the newest checkpoint of a run into a new folder, RUN/export/TARGET or `out`; it, and what about.json says.

    target: onnx or torch, graphs and about.json; hf, what `genzoo.load` reads back, with a card. licence: of the
    weights, as the Hub names them. repo: OWNER/NAME there, to which the folder is then uploaded. plugins: as
    `genzoo.load` takes them. UserError where the folder holds anything, or a graph is not the model.
    """
    run = RunFolder(folder)
    out = Path(out) if out else run.path / "export" / target
    if repo and target != "hf":
        raise UserError("--push is of a folder for the Hub: --to hf")
    refuse_filled(out)
    check_writable(out)
    recipe = run.recipe(plugins=plugins)
    api = hub.ready_to_push(repo) if repo else None
    model, step = loaded(run, recipe, "cpu")
    about: dict[str, Any] = {"genzoo": __version__, "name": recipe.name, "checkpoint_step": step, "target": target}
    with making(out) as part:
        if target == "hf":
            about |= hub.write(part, run, recipe, model, step, licence=licence, repo=repo)
        else:
            about |= write_graphs(model, recipe, part, target)
            write_json(part / "about.json", about)
    if api:
        about["url"] = hub.push(api, out, repo, private)
    return out, about


def write_graphs(model: Model, recipe: Recipe, folder: Path, target: str) -> dict[str, Any]:
    """The files of every graph of a model on the CPU, in eval mode; what about.json says of them."""
    model = model.to(memory_format=torch.contiguous_format)
    made = exports(model)
    about = {
        **processing(model.image_shape),
        "trained_on": hub.without_paths(recipe.data.model_dump(mode="json")),
        "prior": made.drawing or None,
        "not_exported": _left_out(recipe, made.left_out),
        "tolerance": TOLERANCE,
    }
    said = {key: about[key] for key in ("preprocessing", "postprocessing", "prior")} | {"version": __version__}
    graphs = {name: WRITERS[target](graph, folder / name, said) for name, graph in made.graphs.items()}
    return {**about, "graphs": graphs}


def processing(shape: Shape) -> dict[str, Any]:
    """What an image goes through before the encoder and after the decoder; as `genzoo reconstruct` does it."""
    channels, height, width = shape
    mode = MODES.get(channels, f"{channels} channels")
    return {
        "image": {"channels": channels, "height": height, "width": width, "mode": mode},
        "preprocessing": [
            "turn upright by the EXIF mark, lay transparency on white",
            f"keep the largest box of the proportions {width}:{height} in the middle",
            f"resize to {width}x{height}, bicubic and antialiased",
            f"convert to {mode}",
            "divide by 255: float32 in [0, 1], in the order batch, channel, row, column",
        ],
        "postprocessing": [
            "y and its parts are in [0, 1], in the order batch, channel, row, column",
            "multiply by 255, round, clamp to [0, 255]: uint8",
        ],
    }


def _left_out(recipe: Recipe, prior: str) -> dict[str, str]:
    learned = {f"samplers/{one.name}": f"`genzoo sample RUN --sampler {one.name}` draws from it"
               for one in recipe.samplers if one.name != "prior"}  # fmt: skip
    return learned | ({"prior": prior} if prior else {})
