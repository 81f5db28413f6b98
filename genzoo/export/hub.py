"""A model as a folder of the Hugging Face Hub: weights, settings and a card. Nothing that could be executed."""

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from genzoo import __version__
from genzoo.errors import UserError, reason
from genzoo.export.card import card
from genzoo.files import sha256, write_json, write_text
from genzoo.hub_folder import CONFIG, FORMAT, WEIGHTS
from genzoo.model import Model
from genzoo.owners import used
from genzoo.recipe import Recipe
from genzoo.run_folder import RunFolder

UNKNOWN = "unknown"  # as the Hub calls a licence that was not told


def write(
    folder: Path, run: RunFolder, recipe: Recipe, model: Model, step: int, *, licence: str, repo: str | None
) -> dict[str, Any]:
    """model.safetensors, config.json, README.md, metrics.json and pictures of the checkpoint of that step."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt", "genzoo": __version__})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner can read
    config = {
        "library_name": "genzoo",
        "genzoo_format": FORMAT,
        "genzoo_version": __version__,
        "name": recipe.name,
        "image_shape": list(model.image_shape),
        "channels_last": recipe.train.channels_last,
        "checkpoint_step": step,
        "weights_sha256": sha256(folder / WEIGHTS),
        "parts": used(recipe.model),
        "recipe": without_paths(recipe.model_dump(mode="json", exclude={"plugins"})),
    }
    write_json(folder / CONFIG, config)
    metrics = run.metrics()
    scored = metrics if (metrics.get("protocol") or {}).get("checkpoint_step") == step else {}
    if scored:
        write_json(folder / "metrics.json", without_paths(scored))
    pictures = _pictures(run, recipe, step, bool(scored), folder)
    splits = run.lock().get("data")
    held = splits.items() if isinstance(splits, dict) else ()
    data = {name: split for name, split in held if isinstance(split, dict) and isinstance(split.get("num_images"), int)}
    trained = {"data": data, **run.trained(step)}
    write_text(folder / "README.md", card(recipe, config, trained, scored, pictures, licence, repo, model.has_prior))
    return {"files": sorted(path.name for path in folder.iterdir())}


def without_paths(tree: Any) -> Any:
    """JSON in which places on this machine are file names alone: nobody else needs the way to them."""
    if isinstance(tree, dict):
        return {key: without_paths(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_paths(value) for value in tree]
    return os.path.basename(tree.rstrip(os.sep)) if isinstance(tree, str) and os.path.isabs(tree) else tree


def _pictures(run: RunFolder, recipe: Recipe, step: int, scored: bool, folder: Path) -> dict[str, str]:
    """Copies of the run's panels of this checkpoint; file -> what it shows."""
    wanted = [("reconstruction.png", f"step-{step:08d}_reconstruction", "reconstruction", "Images, reconstructed")]
    for name in [one.name for one in recipe.samplers][:1]:
        wanted.append(("samples.png", f"step-{step:08d}_sample", name, f"Samples, of the sampler {name}"))
    found = {}
    for file, at_step, final, said in wanted:
        source = run.path / "panels" / f"{final if scored else at_step}.png"
        if source.is_file():
            (folder / file).write_bytes(source.read_bytes())
            found[file] = said if scored or file != "samples.png" else "Samples, of the prior"
    return found


def ready_to_push(repo: str) -> Any:
    """The Hub's client, logged in; UserError before any work is done where it cannot take the folder."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise ValueError("it is OWNER/NAME")
    except ValueError as error:
        raise UserError(f"--push {repo}: not the name of a repository: {error}") from None
    api = HfApi(library_name="genzoo", library_version=__version__)
    try:
        api.whoami()
    except Exception as error:  # the client raises some twenty kinds
        raise UserError(
            f"--push {repo}: the Hub does not know you ({reason(error)}); log in with `hf auth login`, or leave "
            "--push out: the folder can be uploaded later"
        ) from error
    return api


def push(api: Any, folder: Path, repo: str, private: bool) -> str:
    """Upload the folder; the address of the repository."""
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"genzoo {__version__} export")
    except Exception as error:
        raise UserError(
            f"{folder} is written, and could not be uploaded to {repo}: {reason(error)}; `hf upload {repo} {folder}` "
            "tries again"
        ) from error
    return str(url)
