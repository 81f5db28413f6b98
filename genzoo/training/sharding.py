"""FSDP2: PyTorch's `fully_shard`, for models whose weights and optimizer one device does not hold.

Each process keeps a share of every weight, gradient and optimizer state, as DTensors. Only what is looked at from
outside is ever made whole: `whole` and `share_like` go between the two, so that files hold plain tensors.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genzoo.errors import UserError
from genzoo.training.config import TrainConfig

LARGE = 2**20  # weights from which on a layer is gathered by itself while it runs; the others are, for a whole step


def check_sharding(config: TrainConfig) -> None:
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


class Sharding:
    """Shares modules out over all processes of the run, on devices of the kind `device`."""

    def __init__(self, device: torch.device):
        from torch.distributed import get_world_size
        from torch.distributed.device_mesh import init_device_mesh

        self._num = get_world_size()
        self._mesh = init_device_mesh(device.type, (self._num,))
        self._seen: dict[nn.Parameter, nn.Parameter] = {}

    def shard(self, module: nn.Module) -> None:
        """Replace the module's parameters by this process's shares, but for scalars, which FSDP2 leaves whole."""
        from torch.distributed.fsdp import fully_shard

        scalars = {parameter for parameter in module.parameters() if parameter.ndim == 0}
        for layer in module.modules():
            own = [parameter for parameter in layer.parameters() if parameter not in scalars]
            if not any(layer.children()) and sum(parameter.numel() for parameter in own) >= LARGE:
                fully_shard(layer, mesh=self._mesh, ignored_params=scalars)
        fully_shard(module, mesh=self._mesh, ignored_params=scalars)
        module.register_forward_pre_hook(_send_buffers)
        for scalar in scalars:
            if scalar.requires_grad:
                self._replicate(scalar)

    def seen_by_optimizer(self, parameter: nn.Parameter) -> nn.Parameter:
        """The DTensor in which the optimizer finds the parameter: lists of DTensors must hold nothing else."""
        return self._seen.get(parameter, parameter)

    def release(self) -> None:
        """Let go of the process group. Caches of DTensor's keep the mesh for ever, and the mesh its group's threads."""
        vars(self._mesh).get("_pg_registry", {}).clear()

    def _replicate(self, scalar: nn.Parameter) -> None:
        from torch.distributed import all_reduce
        from torch.distributed.tensor import DTensor, Replicate

        def wrapped(tensor: Tensor) -> Any:
            return DTensor.from_local(tensor, self._mesh, [Replicate()], run_check=False)

        def hand_over(scalar: nn.Parameter) -> None:
            gradient, scalar.grad = scalar.grad, None
            all_reduce(gradient)
            gradient = wrapped(gradient / self._num)
            seen.grad = gradient if seen.grad is None else seen.grad + gradient

        seen = self._seen[scalar] = nn.Parameter(wrapped(scalar.data))
        scalar.register_post_accumulate_grad_hook(hand_over)


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, on every process (all must ask); any other as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def share_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor where `like` is one; else the tensor as it is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The memory of this process's share."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # importing DTensor to ask for it takes half a second


def _send_buffers(module: nn.Module, inputs: Any) -> None:
    """As DDP does before every forward pass: the main process's buffers are everybody's."""
    from torch.distributed import broadcast

    for buffers in _by_dtype(module):
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        broadcast(flat, 0)
        for buffer, sent in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(sent.view_as(buffer))


def _by_dtype(module: nn.Module) -> Iterator[list[Tensor]]:
    buffers = list(module.buffers())
    for dtype in dict.fromkeys(buffer.dtype for buffer in buffers):
        yield [buffer for buffer in buffers if buffer.dtype == dtype]
