"""What is looked at before a training begins: settings that cannot work here, and the room that checkpoints take."""

import os
from collections.abc import Iterable

from torch import nn

from genzoo.errors import UserError, suggestion
from genzoo.training.config import TrainConfig
from genzoo.training.optimizer import check_optimizer


def refuse_settings(config: TrainConfig) -> None:
    """Refuse, before anything is spent, what the schema cannot know: optimizers and trackers that are not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    check_optimizer(config.optimizer)
    _refuse_sharding(config)
    available = {str(name) for name in get_available_trackers()}
    for name in config.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise UserError(
                f"train.trackers: no tracker '{name}'{suggestion(name, LOGGER_TYPE_TO_CLASS)} (known: {known})"
            )
        if name not in available:
            raise UserError(f"train.trackers: {name} is not installed; pip install {name}, or remove it")


def _refuse_sharding(config: TrainConfig) -> None:
    """UserError for what cannot be sharded, whatever the number of processes the run begins with."""
    from timm.optim import get_optimizer_class

    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise UserError(
                f"accelerate's configuration asks for {name}, which would wrap the model a second time; take that out "
                "(`accelerate launch --config_file`), and share the weights out with train.parallel=fsdp"
            )
    if config.parallel != "fsdp":
        return
    # timm's own optimizers take norms and factors of whole weights in ways that DTensors do not all know.
    own = not get_optimizer_class(config.optimizer.name, bind_defaults=False).__module__.startswith("torch.")
    for key, wrong, remedy in (
        ("compile", config.compile != "off", "use off"),
        ("precision", config.precision == "fp16", "use bf16"),
        ("optimizer.name", own, "use one of torch's: adam, adamw, sgd, ..."),
    ):
        if wrong:
            raise UserError(f"train.{key}: not with train.parallel=fsdp; {remedy}, or train.parallel=ddp")


def planned_checkpoint_bytes(modules: Iterable[nn.Module], config: TrainConfig) -> int:
    """Disk space that checkpoints of model, objective and terms need, with two tensors a weight for Adam."""
    held = nn.ModuleList(modules)
    weights = sum(parameter.nbytes for parameter in held.parameters())
    buffers = sum(buffer.nbytes for buffer in held.buffers())
    copies = 1 if config.ema is None else 2
    kept = config.keep + (config.keep_best is not None)
    return (kept + 1) * (copies * (weights + buffers) + 2 * weights)  # a new one is whole before the oldest goes
