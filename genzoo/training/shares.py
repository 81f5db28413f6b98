"""Between whole tensors and a process's shares of them (FSDP2's DTensors), so that files hold plain tensors."""

import torch
from torch import Tensor, nn


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, on every process (all must ask); any other as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def share_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor where `like` is one; else the tensor as it is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together, 0-d, of whole tensors, on every process."""
    if not gradients or is_sharded(gradients[0]):
        return whole(nn.utils.get_total_norm(gradients))
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # on CPUs a quarter faster


def local(tensor: Tensor) -> Tensor:
    """The memory of this process's share."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # importing DTensor to ask for it takes half a second
