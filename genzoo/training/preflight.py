"""What is looked at before a training begins: settings that cannot work here, and the room that checkpoints take."""

from collections.abc import Iterable

from torch import nn

from genzoo.errors import UserError, suggestion
from genzoo.training.config import TrainConfig
from genzoo.training.optimizer import check_optimizer
from genzoo.training.sharding import check_sharding


def refuse_settings(config: TrainConfig) -> None:
    """Refuse, before anything is spent, what the schema cannot know: optimizers and trackers that are not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    check_optimizer(config.optimizer)
    check_sharding(config)
    available = {str(name) for name in get_available_trackers()}
    for name in config.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise UserError(
                f"train.trackers: no tracker '{name}'{suggestion(name, LOGGER_TYPE_TO_CLASS)} (known: {known})"
            )
        if name not in available:
            raise UserError(f"train.trackers: {name} is not installed; pip install {name}, or remove it")


def planned_checkpoint_bytes(modules: Iterable[nn.Module], config: TrainConfig) -> int:
    """Disk space that checkpoints of model, objective and terms need, with two tensors a weight for Adam."""
    held = nn.ModuleList(modules)
    weights = sum(parameter.nbytes for parameter in held.parameters())
    buffers = sum(buffer.nbytes for buffer in held.buffers())
    copies = 1 if config.ema is None else 2
    kept = config.keep + (config.keep_best is not None)
    return (kept + 1) * (copies * (weights + buffers) + 2 * weights)  # a new one is whole before the oldest goes
