"""float32 products with all their bits, whatever TORCH_ALLOW_TF32_CUBLAS_OVERRIDE or a notebook has set."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def full_float32(convolutions: bool = False) -> Iterator[None]:
    """Of matrices; with `convolutions` theirs, too, which CUDA otherwise computes in fewer bits."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    flags = cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False)
    torch.set_float32_matmul_precision("highest")
    try:
        with flags if convolutions else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
