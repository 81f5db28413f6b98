"""What a recipe will cost, found on the meta device: no data is read, no memory taken, nothing computed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genzoo.model import Model, ModelConfig, watched
from genzoo.parts import Shape


@dataclass
class Measures:
    """Sizes of a model at one image size."""

    stages: list[dict]  # part, depth inside other parts, shape, num_parameters
    num_parameters: int  # trainable
    activation_bytes: int  # an image's, in float32: what the forward pass keeps for the backward pass
    fixed_bytes: int  # weights, gradients and Adam's two moments, in float32


def measure(config: ModelConfig, image_shape: Shape) -> Measures:
    """Build the model on the meta device and follow two batches through it. UserError when a part refuses the size."""
    with torch.device("meta"):
        model = Model(config, image_shape)
        stages: list[dict] = []

        def leave(name: str, depth: int, module: nn.Module, output: object) -> None:
            made = output if isinstance(output, Tensor) else getattr(output, "image", getattr(output, "mean", None))
            num = sum(p.numel() for p in module.parameters() if p.requires_grad)
            shape = tuple(made.shape[1:]) if isinstance(made, Tensor) else ()
            stages.append({"part": name, "depth": depth, "shape": shape, "num_parameters": num})

        with watched(model, leave):
            few = saved_bytes(model, 2, image_shape)
        many = saved_bytes(model, 4, image_shape)
    trainable = [p for p in model.parameters() if p.requires_grad]
    num, num_bytes = sum(p.numel() for p in trainable), sum(p.nbytes for p in trainable)
    return Measures(stages, num, activation_bytes=(many - few) // 2, fixed_bytes=4 * num_bytes)


def saved_bytes(model: Model, batch_size: int, image_shape: Shape) -> int:
    """Bytes of everything autograd keeps for the backward pass of a batch, each storage once, weights left out."""
    kept: dict[int, Tensor] = {}  # alive, so that no two of them share an address

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        posterior, composition = model(torch.zeros(batch_size, *image_shape))
        loss = composition.image.square().sum() + posterior.kl().sum()
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    del loss
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)
