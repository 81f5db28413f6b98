"""How large a model is, and what training it takes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genzoo.config import Config, build
from genzoo.model import Model, ModelConfig, watched
from genzoo.parts import Shape
from genzoo.registry import OBJECTIVES, TERMS
from genzoo.training.step import Step


@dataclass
class Measures:
    """Sizes of a model at one image size, and of what trains it."""

    stages: list[dict]  # part, depth inside other parts, shape, num_parameters
    num_parameters: int  # trainable, of the model
    activation_bytes: int  # an image's, in float32: what the forward pass keeps for the backward pass
    fixed_bytes: int  # weights, gradients and Adam's two moments, in float32


def measure(config: ModelConfig, image_shape: Shape, objective: Config, terms: Iterable[Config] = ()) -> Measures:
    """Follow two batches through a training step on the meta device. UserError when a part refuses the size."""
    with torch.device("meta"):
        model = Model(config, image_shape)
        step = Step(
            model,
            build(OBJECTIVES, objective, image_shape=image_shape),
            {term.name: build(TERMS, term, image_shape=image_shape) for term in terms},
        )
        stages: list[dict] = []

        def leave(name: str, depth: int, module: nn.Module, output: object) -> None:
            made = output if isinstance(output, Tensor) else getattr(output, "image", getattr(output, "mean", None))
            num = sum(p.numel() for p in module.parameters() if p.requires_grad)
            shape = tuple(made.shape[1:]) if isinstance(made, Tensor) else ()
            stages.append({"part": name, "depth": depth, "shape": shape, "num_parameters": num})

        with watched(model, leave), torch.no_grad():
            model(torch.zeros(2, *image_shape))
        few, many = (saved_bytes(step, num, image_shape) for num in (2, 4))
    trained = [p for p in step.parameters() if p.requires_grad]
    num = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Measures(stages, num, activation_bytes=(many - few) // 2, fixed_bytes=4 * sum(p.nbytes for p in trained))


def saved_bytes(step: Step, batch_size: int, image_shape: Shape) -> int:
    """Bytes of everything autograd keeps for the backward pass of a batch, each storage once, weights left out."""
    kept: dict[int, Tensor] = {}  # alive, so that no two of them share an address

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    channels, height, width = image_shape
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.zeros(batch_size, height, width, channels, dtype=torch.uint8)
        loss = step(images, torch.zeros((), dtype=torch.int64))
    own = {tensor.untyped_storage()._cdata for tensor in [*step.parameters(), *step.buffers()]}
    del loss
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)
