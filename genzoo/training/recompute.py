"""Activation checkpointing: compute the inside of a block again in the backward pass instead of keeping it.

Chen et al., "Training deep nets with sublinear memory cost" (arXiv 1604.06174).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def blocks(module: nn.Module) -> list[nn.Module]:
    """The modules made of layers alone, but for those with buffers that are not BatchNorm's.

    What else a forward pass does to buffers is unknown, and doing it twice could change the training.
    """
    found = []
    for block in module.modules():
        layers = list(block.children())
        innermost = layers and not any(True for layer in layers for _ in layer.children())
        buffers = [
            *block.buffers(recurse=False),
            *(b for x in layers if not isinstance(x, _BatchNorm) for b in x.buffers()),
        ]
        if innermost and not buffers and "forward" not in vars(block):
            found.append(block)
    return found


@contextmanager
def recomputed(blocks: list[nn.Module]) -> Iterator[None]:
    """Within it, forward passes of these modules keep their inputs alone for the backward pass.

    The gradients are those without it, bit for bit: PyTorch's random numbers are drawn again as they were, and
    BatchNorm's running averages take a batch in once.
    """
    with ExitStack() as stack:
        for block in blocks:
            contexts = partial(_contexts, block)
            again = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
            vars(block)["forward"] = again
            stack.callback(vars(block).pop, "forward")
        yield


def _contexts(block: nn.Module) -> tuple:
    return nullcontext(), _averages_kept(block)


@contextmanager
def _averages_kept(block: nn.Module) -> Iterator[None]:
    """While a block is computed again: BatchNorm's running averages move by nothing, and no batch is counted."""
    norms = [layer for layer in block.children() if isinstance(layer, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, count) in zip(norms, before, strict=True):
        # A count of its own: SyncBatchNorm refuses to be without one.
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
