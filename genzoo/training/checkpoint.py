"""Checkpoints: complete or absent, checked when read, never pickled.

`checkpoints/step-00001000/` holds one safetensors file a group of tensors (model, objective, optimizer, ema),
`state.json` for everything else, and `manifest.json` with the sha256 of each. It is written beside its place, synced to
the disk, and renamed.
"""

import errno
import json
import logging
import re
import stat
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genzoo.errors import UserError, quoted
from genzoo.files import check_space, delete, refuse_device, sha256, sync
from genzoo.training.shares import share_like

log = logging.getLogger("genzoo")
MAKE_ROOM = "make room and go on with --resume (the checkpoints that are there are whole)"
Groups = dict[str, dict[str, Tensor]]


def save(
    folder: Path,
    step: int,
    groups: Groups,
    state: dict[str, Any],
    *,
    keep: int,
    keep_best: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write the checkpoint of `step` under `folder/checkpoints`, then drop all but the `keep` newest.

    keep_best: of the checkpoints whose state has this among its "scalars", the one with the lowest stays as well.
    metadata: strings that the header of every safetensors file carries. UserError when the disk is full: what is there
    already stays as it is.
    """
    folder = folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    final, partial = folder / f"step-{step:08d}", folder / f".partial-step-{step:08d}"
    full = f"{folder}: a checkpoint needs {{need}} and {{free}} are free; {MAKE_ROOM}"
    need = sum(tensor.nbytes for tensors in groups.values() for tensor in tensors.values()) + 2**20
    check_space(folder, need, full)
    clean(folder.parent)
    try:
        partial.mkdir()
        for name, tensors in groups.items():
            save_file(_saveable(tensors), partial / f"{name}.safetensors", metadata=metadata)
        (partial / "state.json").write_text(json.dumps(state))
        for path in partial.iterdir():  # safetensors makes files that only their owner can read
            path.chmod((partial / "state.json").stat().st_mode)
        digests = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        (partial / "manifest.json").write_text(json.dumps(digests, indent=1))
        for path in [*partial.iterdir(), partial]:
            sync(path)
        if final.exists():  # a damaged one, or one from beyond the checkpoint that training went back to
            final.rename(folder / f".partial-old-{step:08d}")
        partial.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        delete(partial)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise UserError(f"{folder}: the disk is full; {MAKE_ROOM}") from error
        raise
    clean(folder.parent)
    for beyond in [path for path in _listed(folder) if path.name > final.name]:  # damaged, or training would be further
        _remove(beyond)
    spared = best(folder.parent, keep_best) if keep_best else None
    for old in _listed(folder)[keep:]:
        if old != spared:
            _remove(old)
    return final


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of the run in `folder` that is whole; None when there is none at all.

    A damaged one is passed over with a warning. UserError when every one is damaged.
    """
    faults: dict[Path, str] = {}
    while found := [path for path in _listed(folder / "checkpoints") if path not in faults]:
        if not (fault := _fault(found[0])):
            return found[0]
        if found[0].exists():  # else training has gone on meanwhile, and there is a newer one
            faults[found[0]] = fault
            log.warning("%s is damaged (%s); trying the checkpoint before it", found[0], fault)
    if faults:
        raise UserError(f"{folder}: no checkpoint is whole, so there is nothing to go on from; train again elsewhere")
    return None


def best(folder: Path, scalar: str) -> Path | None:
    """The checkpoint of the run in `folder` with the lowest `scalar`, the earliest of equals; None if none has it."""
    found = []
    for path in _listed(folder / "checkpoints"):
        try:
            value = float(read_state(path)["scalars"][scalar])
        except (OSError, ValueError, LookupError, TypeError):  # damaged, or from before the scalar was there
            continue
        found.append((value, path))
    return min(found, default=(None, None))[1]


def read_state(checkpoint: Path) -> dict[str, Any]:
    refuse_device(checkpoint / "state.json")
    return json.loads((checkpoint / "state.json").read_text())


def read_tensors(checkpoint: Path, group: str) -> dict[str, Tensor]:
    return load_file(checkpoint / f"{group}.safetensors")


def load_model(folder: Path, model: nn.Module, objective: nn.Module | None = None) -> int:
    """Load the newest whole checkpoint of the run: its averaged weights (EMA) where there are. Returns its step.

    objective: what it was trained with, whose state is loaded, too.
    """
    while checkpoint := newest(Path(folder)):
        try:
            load_weights(model, checkpoint, "ema" if (checkpoint / "ema.safetensors").exists() else "model")
            if objective is not None:
                load_weights(objective, checkpoint, "objective")
            return read_state(checkpoint)["step"]
        except (UserError, OSError):
            if checkpoint.exists():
                raise  # else training has gone on and removed it: there is a newer one
    raise UserError(f"{folder} holds no checkpoint yet: train it first (`genzoo run ... --resume` goes on)")


def load_weights(module: nn.Module, checkpoint: Path, group: str) -> None:
    """Strict `load_state_dict`, of a sharded module as well; UserError names the tensors that do not fit."""
    own = module.state_dict()
    try:
        tensors = read_tensors(checkpoint, group)
        module.load_state_dict({name: share_like(tensor, own.get(name)) for name, tensor in tensors.items()})
    except (RuntimeError, FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{checkpoint} was made by another recipe: its {group} does not fit: {error}") from error


def pack(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`tree` (dicts, lists, tuples, tensors, dtypes, numbers) as JSON.

    Its tensors go into `tensors`, under the path from `name` on.
    """
    if isinstance(tree, Tensor):
        tensors[name] = tree
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, pack(value, f"{name}.{key}".lstrip("."), tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        values = [pack(value, f"{name}.{i}", tensors) for i, value in enumerate(tree)]
        return {"tuple": values} if isinstance(tree, tuple) else values
    if isinstance(tree, torch.dtype):
        return {"dtype": str(tree).removeprefix("torch.")}
    return tree


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """What `pack` was given."""
    if isinstance(packed, list):
        return [unpack(value, tensors) for value in packed]
    if isinstance(packed, dict):
        if "tensor" in packed:
            return tensors[packed["tensor"]]
        if "tuple" in packed:
            return tuple(unpack(packed["tuple"], tensors))
        if "dtype" in packed:
            return getattr(torch, packed["dtype"])
        return {key: unpack(value, tensors) for key, value in packed["dict"]}
    return packed


def clean(folder: Path) -> None:
    """Remove what a killed write left behind."""
    for path in (folder / "checkpoints").glob(".partial-*"):
        delete(path)


def _listed(folder: Path) -> list[Path]:
    """Newest first."""
    found = (path for path in folder.glob("step-*") if re.fullmatch(r"step-[0-9]{8,18}", path.name))
    return sorted(found, reverse=True)


def _remove(path: Path) -> None:
    path.rename(doomed := path.with_name(f".partial-old-{path.name}"))  # a half-deleted one is never taken for whole
    delete(doomed)


def _fault(path: Path) -> str:
    """Why the checkpoint is not whole, or an empty string. Nothing but files of its own is looked at."""
    try:
        refuse_device(path / "manifest.json")
        digests = json.loads((path / "manifest.json").read_text())
        if not {"model.safetensors", "state.json"} <= digests.keys():
            return "its manifest.json does not list model.safetensors and state.json"
        unlisted = sorted(file.name for file in path.glob("*.safetensors") if file.name not in digests)
        if strange := [name for name in digests if not _is_own(path, name)] + unlisted:
            return f"manifest.json and the folder do not agree on {quoted(strange[0])}"
        changed = [name for name, digest in digests.items() if sha256(path / name) != digest]
        if not changed and (step := read_state(path)["step"]) != int(path.name.removeprefix("step-")):
            return f"its state.json is of step {quoted(step)}"
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(changed)} changed since it was written" if changed else ""


def _is_own(folder: Path, name: str) -> bool:
    """Whether it is the plain name of a regular file in the folder: no path, no link, no device."""
    return name == Path(name).name and stat.S_ISREG((folder / name).lstat().st_mode)


def _saveable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, on the CPU, no two sharing memory: what safetensors can hold."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return result
