"""One step's computation, and its randomness.

What `train` is given to train is a step: an nn.Module called with a batch of rows and the clock (0-d, optimizer steps
done) for scalars to log, "loss" with its graph among them. `parts` are the modules that a checkpoint holds, by name;
"model" is the one that may be averaged. `refuse(rows)` raises UserError for data that are not its own; `diagnoses`,
which it need not have, says at the end what went wrong. Any module in it may offer
`param_groups() -> [{"params": [...], "lr": float | None, "betas": tuple | None}]`, those of its parameters that are
trained in another way than the rest (genzoo.training.optimizer).
"""

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError


class Step(nn.Module):
    """Model, objective and terms as one module, so that wrapping, gradient exchange and compilation see one graph.

    See genzoo/parts.py for what they are; terms: by name. channels_last, activation_checkpointing: as in TrainConfig.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        terms: Mapping[str, nn.Module] | None = None,
        *,
        channels_last: bool = True,
        activation_checkpointing: bool = False,
    ):
        super().__init__()
        self.model, self.objective, self.channels_last = model, objective, channels_last
        terms = terms or {}
        self.term_names, self.terms = tuple(terms), nn.ModuleList(terms.values())
        self.recomputed: Callable[[], AbstractContextManager] = nullcontext
        if activation_checkpointing:
            from genzoo.training.recompute import blocks, recomputed

            self.recomputed = partial(recomputed, blocks(model))

    @property
    def parts(self) -> dict[str, nn.Module]:
        terms = {"terms": self.terms} if self.terms else {}
        return {"model": self.model, "objective": self.objective, **terms}

    def refuse(self, rows: np.ndarray) -> None:
        if rows.ndim != 4 or rows.dtype != np.uint8:
            raise UserError(f"training needs uint8 images, n h w c; got {rows.dtype} {rows.shape}")

    def diagnoses(self, means: Mapping[str, float]) -> list[str]:
        """What objective and terms have to say of scalars that were so, on average, when training ended."""
        told = [(self.objective, means)]
        for name, term in zip(self.term_names, self.terms, strict=True):
            own = {key.removeprefix(f"{name}."): value for key, value in means.items() if key.startswith(f"{name}.")}
            told.append((term, own | {"loss": means[name]}))
        said = (part.diagnosis(seen) for part, seen in told if hasattr(part, "diagnosis"))
        return [sentence for sentence in said if sentence]

    def forward(self, images: Tensor, step: Tensor) -> dict[str, Tensor]:
        """images: uint8 b h w c; step: 0-d, optimizer steps done. Returns the scalars of objective and terms.

        "loss" is the sum of their losses; a term's own has the term's name, its other scalars are `term.scalar`.
        """
        x = images.permute(0, 3, 1, 2)  # b c h w, which leaves it channels_last in memory
        if not self.channels_last:
            x = x.contiguous()
        with self.recomputed():
            x = x.float().div_(255)
            made = self.model(x)
            scalars = self.objective(made, x, step, self.model)
            if self.terms:
                made.loss = scalars["loss"]
            for name, term in zip(self.term_names, self.terms, strict=True):
                own = term(made, x, step, self.model)
                scalars |= {"loss": scalars["loss"] + own["loss"], name: own.pop("loss").detach()}
                scalars |= {f"{name}.{key}": value for key, value in own.items()}
            return scalars


def synchronize_batch_norm(step: Step, device: torch.device, num_processes: int) -> Step:
    """The same step, with batch statistics taken over all processes. UserError on devices where PyTorch has no such."""
    if num_processes == 1:
        return step
    if device.type == "cpu":
        raise UserError("train.sync_batch_norm: PyTorch synchronises BatchNorm on GPUs only; leave it out on CPUs")
    return nn.SyncBatchNorm.convert_sync_batchnorm(step)


def seed_step(seed: int, step: int, process: int, device: torch.device) -> None:
    """Seed every library's global generator from (seed, step, process)."""
    state = int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    # Not torch.manual_seed, which takes half a millisecond where CUDA is never started.
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(state)
