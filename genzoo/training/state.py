"""Everything that training changes, how it is set up, and how it is saved and restored."""

import copy
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genzoo.errors import UserError, reason
from genzoo.files import read_json, write_json
from genzoo.launch import leave_at_exit
from genzoo.training import checkpoint
from genzoo.training.config import TrainConfig
from genzoo.training.feed import Feed
from genzoo.training.log import Rows, truncate
from genzoo.training.optimizer import make_optimizer, make_schedule, own_groups
from genzoo.training.precision import resolve
from genzoo.training.shares import share_like, whole
from genzoo.training.step import Step, synchronize_batch_norm

log = logging.getLogger("genzoo")


class State:
    """The run at one moment, on the device that accelerate found.

    step: the caller's (genzoo.training.step). It is trained in place; sharded, a copy is, and the caller's parts are
    filled when they are looked at.
    done: optimizer steps. saved: those of the newest checkpoint. seconds: training time up to where `resume` went on.
    """

    def __init__(
        self,
        step: Step,
        rows: np.ndarray,
        config: TrainConfig,
        folder: Path,
        seed: int,
        resume: bool,
        metadata: dict[str, str],
    ):
        self.config, self.folder, self.seed, self.metadata = config, folder, seed, metadata
        self.given, self.step = step, step
        self.done = self.saved = 0
        self.seconds = 0.0
        with _recipe_alone():
            self._join(rows, resume)
            self._place(resume)
            self._equip()
        if resume and (path := checkpoint.newest(folder)):
            self._restore(path)
        if self.accelerator.is_main_process:
            truncate(folder / "train.jsonl", self.done)
        self.accelerator.wait_for_everyone()

    def _join(self, rows: np.ndarray, resume: bool) -> None:
        """The processes, their data, and a folder that is theirs."""
        from accelerate import PartialState

        # Said outright, or the processes of a CPU launch would each take themselves for the only one.
        self._processes = processes = PartialState(cpu=not torch.accelerator.is_available())
        self.device = processes.device
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes never change, so the fastest convolution is worth its search
        self.feed = Feed(
            rows, self.config.batch_size, self.seed, device=self.device, parts=self.config.grad_accumulation,
            rank=processes.process_index, world=processes.num_processes,
        )  # fmt: skip
        if not resume and (self.folder / "train.jsonl").exists():
            raise UserError(f"{self.folder} holds a run already; go on with --resume, or choose another folder")
        processes.wait_for_everyone()  # nobody writes before everybody has looked
        if processes.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.clean(self.folder)
        processes.wait_for_everyone()

    def _place(self, resume: bool) -> None:
        """The step on its device, in its memory layout and number format."""
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        config, num = self.config, self._processes.num_processes
        self.sharding = None
        if config.parallel == "fsdp" and num > 1:
            from genzoo.training.sharding import Sharding

            self.sharding = Sharding(self.device)
        if config.channels_last:
            self.given.to(memory_format=torch.channels_last)
        if self.sharding:  # FSDP2 takes contiguous weights alone; the images are channels_last all the same
            self.step = copy.deepcopy(self.given).to(memory_format=torch.contiguous_format)
        if config.sync_batch_norm:
            self.step = synchronize_batch_norm(self.step, self.device, num)
        self.step.to(self.device).train()
        self.clock = torch.zeros((), dtype=torch.int64, device=self.device)  # `done`, for the objective
        self.precision = self._precision(resume)
        AcceleratorState._reset_state()  # of another training in this process, perhaps in another precision
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(self.precision, self.precision),
            gradient_accumulation_steps=config.grad_accumulation,
            log_with=list(config.trackers) or None,
            project_dir=self.folder / "trackers",
        )
        self.rows = Rows(self.accelerator)

    def _equip(self) -> None:
        """What moves the weights: shares, optimizer, schedule, average."""
        config, step = self.config, self.step
        average = None if config.ema is None else copy.deepcopy(step.parts["model"])
        if self.sharding:
            self.sharding.shard(step)
            if average is not None:
                self.sharding.shard(average)
        optimizer = make_optimizer(step, config.optimizer, compiled=config.compile != "off")
        self.schedule = make_schedule(optimizer, config.schedule, config.optimizer.lr, config.steps)
        groups = [list(group["params"]) for group in own_groups(step)]
        if self.sharding and groups:
            raise UserError("train.parallel: fsdp does not go with terms that train a network of their own; use ddp")
        own = {id(parameter) for group in groups for parameter in group}
        self.parameters = [p for p in step.parameters() if p.requires_grad and id(p) not in own]
        self.own_parameters = groups  # of terms: their gradients have norms of their own
        if self.sharding:
            seen = self.sharding.seen_by_optimizer
            self.parameters = list(map(seen, self.parameters))
            for group in optimizer.param_groups:
                group["params"] = list(map(seen, group["params"]))
            self.wrapped, self.optimizer = self.accelerator.prepare_model(step, evaluation_mode=True), optimizer
        else:
            self.wrapped, scaled = self.accelerator.prepare(step, optimizer)
            # Only fp16 needs accelerate's wrapper, which searches the disk for an optional package at every step.
            self.optimizer = scaled if self.accelerator.scaler else optimizer
        self.compilations = None
        if config.compile != "off":
            from genzoo.training.compilation import Compilations

            self.compilations = Compilations()
            self.wrapped.compile(mode=config.compile)
        self.average = None
        if average is not None:  # only now: DDP has put other tensors into the module
            from genzoo.training.average import Average

            self.average = Average(average, step.parts["model"], config.ema)
        # What a checkpoint holds, by the names of its files.
        self.modules = step.parts | ({"ema": self.average.model} if self.average else {})

    def best_model(self) -> nn.Module:
        """The model to look at: the average where there is one. Of several processes, all must call this."""
        best = self.modules.get("ema", self.modules["model"])
        return _made_whole(best, self.given.parts["model"]) if self.sharding else best

    def hand_back(self) -> None:
        """Give the caller's parts what training made of them; to the model its average, where there is one."""
        from accelerate.utils import broadcast

        model = self.given.parts["model"]
        if (best := self.best_model()) is not model:
            model.load_state_dict(best.state_dict())
        model.to(self.device).eval()
        if self.accelerator.num_processes > 1:
            for buffer in model.buffers():  # BatchNorm's averages hold each process's own images of the last step
                broadcast(buffer)
            leave_at_exit()
        if self.sharding:
            for name, part in self.given.parts.items():
                if name != "model":
                    _made_whole(self.modules[name], part)
            self.sharding.release()

    def save(self, seconds: float, rows: list[list[float]], scalars: dict[str, float]) -> None:
        """Write a checkpoint.

        seconds: training time so far; rows: every step's scalars of the interval that is not over; scalars: their
        means, or those of the interval before where none has begun.
        """
        groups: checkpoint.Groups = {name: module.state_dict() for name, module in self.modules.items()}
        groups["optimizer"] = {}
        state = {
            **self._identity(),
            "step": self.done,
            "seconds": seconds,
            "names": self.rows.names,
            "rows": rows,
            "scalars": scalars,
            "optimizer": checkpoint.pack(self.optimizer.state_dict(), "", groups["optimizer"]),
            "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
        }
        if self.sharding:
            groups = {name: self._gathered(tensors) for name, tensors in groups.items()}
        if self.accelerator.is_main_process:
            checkpoint.save(
                self.folder, self.done, groups, state, keep=self.config.keep, keep_best=self.config.keep_best,
                metadata=self.metadata,
            )  # fmt: skip
        self.saved = self.done
        self.accelerator.wait_for_everyone()

    def _gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, one after the other, on the CPU of the main process; nothing elsewhere."""
        gathered = ((name, whole(tensor)) for name, tensor in tensors.items())
        return {name: tensor.cpu() for name, tensor in gathered if self.accelerator.is_main_process}

    def _restore(self, path: Path) -> None:
        """Go on from a checkpoint. UserError also where its files are whole and hold what `save` does not write."""
        try:
            self._take(path, checkpoint.read_state(path))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise UserError(
                f"{path} is whole, and not what training writes ({reason(error)}); move it away, so that the "
                "checkpoint before it is taken, or train again elsewhere"
            ) from error

    def _take(self, path: Path, state: dict[str, Any]) -> None:
        for name, value in self._identity().items():
            if state[name] != value:
                raise UserError(f"{path} was made with {name} {state[name]}, not {value}; resume with the same")
        for name, module in self.modules.items():
            checkpoint.load_weights(module, path, name)
        optimizer = checkpoint.unpack(state["optimizer"], checkpoint.read_tensors(path, "optimizer"))
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for i, values in optimizer["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameters[i].shape:
                    # Fused optimizers walk weights and moments in memory order, so both need the same strides.
                    moment = torch.empty_like(parameters[i], dtype=value.dtype)
                    values[name] = moment.copy_(share_like(value, moment))
                elif isinstance(value, Tensor) and value.numel() > max(1, parameters[i].numel()):
                    raise ValueError(f"{name} of weight {i} is {tuple(value.shape)}")
        for group, saved in zip(self.optimizer.param_groups, optimizer["param_groups"], strict=True):
            if odd := [key for key, v in saved.items() if key not in group and not isinstance(v, int | float | Tensor)]:
                raise TypeError(f"the optimizer's {odd} are no numbers")
            saved |= {key: value for key, value in group.items() if key != "params"}  # the recipe's
        self.optimizer.load_state_dict(optimizer)
        if state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.rows.restore(state["names"], state["rows"], self.device)
        self.done = self.saved = state["step"]
        self.seconds = float(state["seconds"])
        self.clock.fill_(self.done)

    def _identity(self) -> dict[str, Any]:
        """What must not change between the parts of a run: together with the step, it fixes the data."""
        return {"seed": self.seed, "batch_size": self.config.batch_size, "num_images": len(self.feed.rows)}

    def _precision(self, resume: bool) -> str:
        """The precision to train in, by the main process's hardware; a run that goes on elsewhere keeps its own."""
        from accelerate.utils import broadcast_object_list

        file = self.folder / "precision.json"
        question = {"requested": self.config.precision, "device": self.device.type}
        answer = read_json(file, "the precision is chosen anew") if resume else None
        if answer and answer.items() >= question.items() and answer.get("precision") in ("fp32", "bf16", "fp16"):
            return answer["precision"]
        precision = broadcast_object_list([resolve(self.config.precision, self.device)])[0]
        if self._processes.is_main_process:
            write_json(file, {**question, "precision": precision})
            log.info("training on %s in %s", self.device, precision)
        return precision


def _made_whole(sharded: nn.Module, module: nn.Module) -> nn.Module:
    """The module, filled with the whole tensors of its sharded twin."""
    for tensor, shares in zip(module.state_dict().values(), sharded.state_dict().values(), strict=True):
        tensor.copy_(whole(shares))
    return module


PREFIXES = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "MEGATRON_LM_", "FP8_", "PMI_", "OMPI_COMM_", "MV2_COMM_")


@contextmanager
def _recipe_alone() -> Iterator[None]:
    """Nothing of accelerate's environment decides what a recipe does: only where a run is, not how it trains.

    How many processes there are, genzoo.launch says; accelerate would also ask those that MPI leaves.
    """
    places = ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE")
    names = [name for name in os.environ if name.startswith(PREFIXES) and name not in places]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
