"""A model from a folder that `genzoo export --to hf` wrote, here or on the Hugging Face Hub.

Such a folder comes from anybody. Two files of it are read: config.json, as settings of registered parts, and
model.safetensors, as the tensors of the model that they describe. No code in it is looked at, whatever it is called.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open

from genzoo.config import Strict, parse
from genzoo.errors import UserError, quoted, reason
from genzoo.files import refuse_device, sha256, size_of
from genzoo.model import Model, ModelConfig
from genzoo.owners import origins
from genzoo.plugin_files import load_file
from genzoo.tracing import trace

CONFIG, WEIGHTS, FORMAT = "config.json", "model.safetensors", 1
MAX_CONFIG = 1 << 20  # bytes
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
SLACK = 64 << 20  # bytes of buffers that are made, and not in the file


class HubConfig(Strict):
    """config.json."""

    library_name: Literal["genzoo"]
    genzoo_format: Literal[1]
    genzoo_version: str
    name: str
    image_shape: tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...] = Field(min_length=3, max_length=3)
    channels_last: bool
    checkpoint_step: int
    weights_sha256: str
    parts: dict[str, str]
    recipe: dict[str, Any]


def is_hub_folder(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and not (folder / "recipe.yaml").exists()


def fetch(address: str) -> Path:
    """The folder of `hf://OWNER/NAME[@REVISION]` in the Hub's own cache; UserError where it cannot be had."""
    if not (found := ADDRESS.fullmatch(address)):
        raise UserError(f"{quoted(address)} is no address of the Hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    from huggingface_hub import snapshot_download

    repo, revision = found.groups()
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # the client raises some twenty kinds
        raise UserError(
            f"{address} cannot be fetched ({reason(error)}); a folder that was downloaded otherwise can be loaded as "
            "genzoo.load(FOLDER)"
        ) from error


def load(folder: Path, device: str | torch.device | None, plugins: Sequence[str]) -> Model:
    """The model, in eval mode. UserError for a folder that is damaged, or not what it says it is."""
    for plugin in plugins:
        load_file(plugin)
    config = _config(folder / CONFIG)
    place = f"{folder / CONFIG}: recipe.model"
    try:
        settings = parse(ModelConfig, config.recipe.get("model"), place)
        shapes = _shapes(settings, config.image_shape)
    except UserError as error:
        raise UserError(f"{error}{origins(config.parts)}") from error
    weights = folder / WEIGHTS
    _refuse_other_tensors(weights, shapes, config.weights_sha256)
    model = Model(settings, config.image_shape)
    with safe_open(weights, "pt") as tensors:
        model.load_state_dict({name: tensors.get_tensor(name) for name in shapes})
    if config.channels_last:  # as it was trained: another layout rounds otherwise
        model = model.to(memory_format=torch.channels_last)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _config(path: Path) -> HubConfig:
    try:
        refuse_device(path)
        if (size := path.stat().st_size) > MAX_CONFIG:
            raise ValueError(f"it has {size_of(size)}")
        made = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(made, dict) or made.get("library_name") != "genzoo":
            raise UserError(f"{path} is not of `genzoo export --to hf`: {path.parent} holds no model of genzoo's")
        if made.get("genzoo_format") != FORMAT:
            version = quoted(made.get("genzoo_version"))
            raise UserError(f"{path} is of another genzoo ({version}): pip install --upgrade genzoo")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({reason(error)}): export the run again, or fetch the folder anew"
        ) from None
    return parse(HubConfig, made, str(path))


def _shapes(settings: ModelConfig, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The model's tensors, found without the memory for them."""
    trace(settings, image_shape)
    with torch.device("meta"):
        model = Model(settings, image_shape)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    beside = sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in shapes)
    if beside > SLACK:
        raise UserError(f"the model makes buffers of {size_of(beside)}, which are no weights")
    return shapes


def _refuse_other_tensors(path: Path, shapes: dict[str, tuple[int, ...]], digest: str) -> None:
    """UserError unless the file is whole and holds just these; before memory is taken for any."""
    try:
        refuse_device(path)
        with safe_open(path, "pt") as tensors:
            found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is damaged ({reason(error)}): export the run again, or fetch the folder anew"
        ) from None
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            there, due = found.get(name, "missing"), shapes.get(name, "unknown")
            raise UserError(f"{path} does not hold the model of {CONFIG}: {quoted(name)} is {there}, and {due} was due")
    if sha256(path) != digest:
        raise UserError(f"{path} is not what was exported (its sha256 is another): fetch the folder anew")
