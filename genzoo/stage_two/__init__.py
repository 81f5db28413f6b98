"""The second stage: samplers learn the latents of a trained model. What has a loss is trained by the one trainer.

`<run>/samplers/<name>.safetensors` is what a sampler learned (genzoo/fitted.py). One that is trained has a folder
`<run>/samplers/<name>/` as well, with its train.jsonl, and with checkpoints until it is done.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from genzoo.errors import UserError
from genzoo.evaluation.encoded import encoded, moments
from genzoo.evaluation.generate import bind, fit_split, pick
from genzoo.evaluation.work import Work
from genzoo.fitted import Kept
from genzoo.parts import Sampler
from genzoo.progress import shown

log = logging.getLogger("genzoo")


def fit(
    sampler: Sampler,
    rows: np.ndarray,
    seed: int,
    *,
    folder: Path | None = None,
    name: str = "sampler",
    progress: bool = False,
    again: str | None = None,
) -> None:
    """Have a sampler learn from what `encoded` gave for it.

    folder: of a learned one's log and checkpoints, from the newest of which it goes on; None: they are not kept.
    again: the command that goes on after an interruption. UserError where it cannot be fitted.
    """
    if hasattr(sampler, "loss"):
        from genzoo.stage_two.learned import learn

        learn(sampler, rows, seed, folder, name, progress, again)
    else:
        sampler.fit(*moments(rows), seed)


def fit_samplers(
    model: nn.Module,
    samplers: Mapping[str, Sampler],
    splits: Mapping[str, np.ndarray],
    *,
    seed: int,
    work: Work,
    kept: Kept | None = None,
) -> dict[str, str]:
    """Fit every sampler that has something to learn and is not fitted, on its `fit_split`; each split is encoded once.

    splits: uint8 n h w c. kept: where what was learned before lies, and is put; None: nowhere. Of several processes,
    all must call this: learned samplers are trained by all, others are fitted by the main one. Returns name -> reason
    for those that cannot be fitted, which `evaluate` takes as `skipped`.
    """
    seen: dict[tuple[str, str], np.ndarray] = {}
    failed = {}
    for name, sampler in samplers.items():
        if not sampler.needs_fit or (kept and work.processes.all(kept.load(name, sampler))):
            continue
        split, learns = fit_split(sampler), getattr(sampler, "learns", "latents")
        if (split, learns) not in seen:
            images = pick(splits, split)
            where = (kept.latents / f"{split}-{learns}.npy", kept.made_of(split)) if kept else ()
            with shown() as report:
                seen[split, learns] = encoded(model, images, learns, replace(work, progress=report), *where)
        rows, alone = seen[split, learns], not hasattr(sampler, "loss")
        place = f"samplers/{name}"
        log.info("fitting sampler %s on %d posteriors (%s)", name, len(rows), split)
        try:
            if alone:
                with work.processes.first(f"fitted {name}"):  # the others find what the main process has learned
                    if not (kept and not work.processes.is_main and kept.load(name, sampler)):
                        bind(sampler, model)
                        fit(sampler, rows, seed)
                        if kept and work.processes.is_main:
                            kept.save(name, sampler)
                continue
            folder = kept and kept.begun(name, sampler, work.processes)
            fit(sampler, rows, seed, folder=folder, name=place, progress=kept is not None, again=kept and kept.again)
            if kept and work.processes.is_main:
                kept.save(name, sampler)
        except UserError as error:
            failed[name] = str(error)
    return failed
