"""FSDP2: PyTorch's `fully_shard`, for models whose weights and optimizer one device does not hold.

Each process keeps a share of every weight, gradient and optimizer state, as DTensors. Only what is looked at from
outside is ever made whole (genzoo.training.shares).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 2**20  # weights from which on a layer is gathered by itself while it runs; the others are, for a whole step


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
