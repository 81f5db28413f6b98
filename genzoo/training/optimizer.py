"""timm's optimizers and schedules by name, checked before a run spends any time."""

import inspect

import torch
from torch import nn

from genzoo.errors import UserError, suggestion
from genzoo.training.config import OptimizerConfig, ScheduleConfig


def check_optimizer(config: OptimizerConfig) -> None:
    """UserError when timm knows no such optimizer, its package is missing, or it lacks an option that is set."""
    from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers

    names = list_optimizers()
    if config.name not in names:
        raise UserError(
            f"train.optimizer.name: '{config.name}' is no optimizer of timm's{suggestion(config.name, names)} "
            f"(known: {', '.join(names)})"
        )
    info = get_optimizer_info(config.name)
    if info.second_order:
        raise UserError(f"train.optimizer.name: {config.name} needs second-order gradients, which are not computed")
    try:
        get_optimizer_class(config.name)
    except (ImportError, AssertionError) as error:  # of apex and bitsandbytes, which are optional
        raise UserError(f"train.optimizer.name: {config.name} cannot be used here: {error}") from error
    for option, known in (("betas", info.has_betas), ("momentum", info.has_momentum), ("eps", info.has_eps)):
        if getattr(config, option) is not None and not known:
            raise UserError(f"train.optimizer.{option}: {config.name} has no such option; remove it")
    if config.betas is not None and len(config.betas) != info.num_betas:
        raise UserError(f"train.optimizer.betas: {config.name} takes {info.num_betas} values, not {len(config.betas)}")


def make_optimizer(module: nn.Module, config: OptimizerConfig, *, compiled: bool = False) -> torch.optim.Optimizer:
    """The optimizer of all trainable parameters, in its fused form where the class has one.

    Those that a part asks to be trained in a way of its own (`param_groups`, see genzoo.parts.Term) are groups of their
    own, after the others. Only where `compiled`, kron has functions of its own compiled: half a minute of a CPU.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_class

    options = {name: getattr(config, name) for name in ("betas", "momentum", "eps")}
    options = {name: value for name, value in options.items() if value is not None}
    fused = inspect.signature(get_optimizer_class(config.name, bind_defaults=False)).parameters.get("fused")
    devices = {parameter.device.type for parameter in module.parameters()}
    if fused is not None and devices <= {"cpu", "cuda"}:
        options["fused"] = True
    optimizer = create_optimizer_v2(module, opt=config.name, lr=config.lr, weight_decay=config.weight_decay, **options)
    plain = {name: inspect.unwrap(value) for name, value in vars(optimizer).items() if callable(value)}
    vars(optimizer).update({} if compiled else plain)
    for group in own_groups(module):
        ids = set(map(id, group["params"]))
        for known in optimizer.param_groups:
            known["params"] = [parameter for parameter in known["params"] if id(parameter) not in ids]
        chosen = {key: value for key, value in group.items() if value is not None}
        if unknown := chosen.keys() - optimizer.defaults.keys() - {"params"}:
            raise UserError(f"train.optimizer.name: {config.name} has no {', '.join(unknown)}, which a term asks for")
        optimizer.add_param_group({"lr": config.lr, "weight_decay": config.weight_decay, **chosen})
    return optimizer


def own_groups(module: nn.Module) -> list[dict]:
    """What the parts within ask for."""
    parts = [part for part in module.modules() if hasattr(part, "param_groups")]
    return [group for part in parts for group in part.param_groups()]


def make_schedule(optimizer: torch.optim.Optimizer, config: ScheduleConfig, lr: float, steps: int):
    """A timm scheduler; `step_update(i)` sets the rate of optimizer step i, from i alone."""
    from timm.scheduler import create_scheduler_v2

    names = {"constant": "step"}  # older timm has no "constant": steps that never decay
    rates = {"constant": 1.0, "poly": config.power, "step": config.decay_rate}
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=names.get(config.name, config.name),
        num_epochs=steps,
        decay_epochs=config.decay_steps,
        decay_rate=rates.get(config.name, 1.0),
        min_lr=config.min_lr,
        warmup_epochs=config.warmup_steps,
        warmup_lr=lr / max(config.warmup_steps, 1),
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return scheduler
