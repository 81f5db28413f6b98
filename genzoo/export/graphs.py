"""The graphs that a trained model is exported as: named tensors in, named tensors out, the batch first."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from genzoo.codes import UniformCodes
from genzoo.densities import DiagonalGaussian
from genzoo.errors import UserError, reason
from genzoo.model import Model

TOLERANCE = 1e-4  # between a graph and the model: absolute, and relative to values beyond 1
NUM_TRACED, NUMS_CHECKED = 2, (1, 3)  # images
Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass
class Graph:
    """module(**example(num)) -> {name: b ...}; module: in eval mode, on the CPU. said: what each name means."""

    module: nn.Module
    example: Callable[[int], dict[str, Tensor]]
    said: dict[str, str] = field(default_factory=dict)


@dataclass
class Exports:
    """What there is of one model. drawing: how the prior's images are made with the graphs; {} where there is none."""

    graphs: dict[str, Graph]
    drawing: dict[str, str]
    left_out: str = ""  # why the prior is not among them


class Encoder(nn.Module):
    """image b c h w -> mean and variance of its posterior, b *latent, and its codes, b *grid, where it has them."""

    def __init__(self, model: Model):
        super().__init__()
        self.encoder, self.latent, self.discrete = model.encoder, model.latent, is_discrete(model)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        posterior = self.latent(self.encoder(image))
        if self.discrete:
            return {"mean": posterior.mean, "codes": self.latent.codes(posterior.mean)}
        return {"mean": posterior.mean, "variance": posterior.variance}


class Decoder(nn.Module):
    """z b *latent -> y and the parts that it is made of, b c h w."""

    def __init__(self, model: Model):
        super().__init__()
        self.latent, self.head = model.latent, model.head

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        made = self.head(self.latent.expand(z))
        return {"y": made.image, **made.parts}


class CodesDecoder(Decoder):
    """codes b *grid, int64 -> as Decoder."""

    def forward(self, codes: Tensor) -> dict[str, Tensor]:
        return super().forward(self.latent.vectors(codes))


class MixtureDecoder(Decoder):
    """noise b *latent, standard normal, and uniform b in [0, 1) -> as Decoder, of a draw from a Gaussian mixture."""

    def __init__(self, model: Model, weights: Tensor, components: DiagonalGaussian):
        super().__init__(model)
        self.register_buffer("ends", weights.cumsum(0)[:-1])
        self.register_buffer("mean", components.mean)
        self.register_buffer("std", (0.5 * components.logvar).exp())

    def forward(self, noise: Tensor, uniform: Tensor) -> dict[str, Tensor]:
        chosen = (uniform[:, None] >= self.ends).sum(1)
        return super().forward(self.mean[chosen] + self.std[chosen] * noise)


def is_discrete(model: Model) -> bool:
    return hasattr(model.latent, "codes")


@torch.no_grad()
def exports(model: Model) -> Exports:
    """Of a model in eval mode on the CPU: `encoder`, `decoder`; `decoder_from_codes` of codes; `prior` of a mixture."""
    chance = torch.Generator().manual_seed(0)
    posterior = model.encode(torch.rand(1, *model.image_shape, generator=chance))

    def image(num: int) -> dict[str, Tensor]:
        return {"image": torch.rand(num, *model.image_shape, generator=chance)}

    def z(num: int) -> dict[str, Tensor]:
        return {"z": model.sample_prior(num, chance) if model.has_prior else model.encode(image(num)["image"]).mean}

    made = {"y": "the model's image", **{part: f"its part {part}" for part in model.decode(posterior.mean).parts}}
    latent = {"mean": "the point that stands for the image: decode it for a reconstruction"}
    latent |= {"codes": "its codes"} if is_discrete(model) else {"variance": "of the posterior about the mean"}
    graphs = {
        "encoder": Graph(Encoder(model), image, {"image": "see preprocessing", **latent}),
        "decoder": Graph(Decoder(model), z, {"z": "a latent", **made}),
    }
    if is_discrete(model):
        num_codes, grid = model.latent.num_codes, model.latent.codes(posterior.mean).shape[1:]

        def codes(num: int) -> dict[str, Tensor]:
            return {"codes": torch.randint(num_codes, (num, *grid), generator=chance)}

        said = {"codes": f"whole numbers from 0 to {num_codes - 1}", **made}
        graphs["decoder_from_codes"] = Graph(CodesDecoder(model), codes, said)
    drawing, left_out = _drawing(model, on_sphere=getattr(posterior, "on_sphere", False))
    if model.prior is not None and not left_out:
        weights, components = model.prior.components(model)

        def noise(num: int) -> dict[str, Tensor]:
            normal = torch.randn(num, *model.latent_shape, generator=chance)
            return {"noise": normal, "uniform": torch.rand(num, generator=chance)}

        said = {"noise": "standard normal numbers", "uniform": "numbers that are uniform in [0, 1)", **made}
        graphs["prior"] = Graph(MixtureDecoder(model, weights, components), noise, said)
    for graph in graphs.values():
        graph.module.eval()
    return Exports(graphs, drawing, left_out)


def _drawing(model: Model, on_sphere: bool) -> tuple[dict[str, str], str]:
    """How to draw from the prior with the graphs; or why not."""
    own = model.latent.prior
    if model.prior is not None:
        name = model.prior.kind_name
        mixture = model.prior.components(model)[1] if hasattr(model.prior, "components") else None
        if isinstance(mixture, DiagonalGaussian):
            return {"graph": "prior", "noise": "standard normal numbers", "uniform": "uniform numbers in [0, 1)"}, ""
        return {}, f"{name}: it is no mixture of Gaussians"
    if model.has_standard_normal_prior:
        return {"graph": "decoder", "z": "standard normal numbers"}, ""
    if on_sphere:
        return {"graph": "decoder", "z": "standard normal numbers, divided by the length of their vector"}, ""
    if isinstance(own, UniformCodes):
        return {"graph": "decoder_from_codes", "codes": f"whole numbers from 0 to {own.num_codes - 1}, all alike"}, ""
    return {}, f"{model.latent.kind_name}: " + ("it has no prior" if own is None else "its prior has no graph")


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """The graph for batches of any size. UserError with the reason where a part of the model cannot be traced."""
    inputs = graph.example(NUM_TRACED)
    options = {"kwargs": inputs, "dynamic_shapes": {name: {0: torch.export.Dim.DYNAMIC} for name in inputs}}
    try:
        with torch.no_grad():
            try:
                return torch.export.export(graph.module, (), strict=False, **options)
            except Exception:  # `len(x)` alone needs the other way, which follows Python's bytecode
                return torch.export.export(graph.module, (), strict=True, **options)
    except Exception as error:  # a plugin's forward may do anything
        raise UserError(
            f"this model cannot be exported as a graph: {reason(error)} (--to hf keeps it whole)"
        ) from error


@torch.no_grad()
def difference(graph: Graph, run: Run) -> float:
    """The largest between what the module and `run` make of the same inputs, relative to values beyond 1.

    UserError where it is above TOLERANCE, or codes are others.
    """
    largest = 0.0
    for num in NUMS_CHECKED:
        inputs = graph.example(num)
        due, made = graph.module(**inputs), run(inputs)
        if shapes := {name: tuple(made[name].shape) for name in due if made[name].shape != due[name].shape}:
            raise UserError(f"of {num} images the exported graph makes other shapes than the model: {shapes}")
        same = torch.ones(num, dtype=torch.bool)
        if "codes" in due:  # where two codes are equally near, rounding may choose
            others = (due["codes"] != made["codes"]).flatten(1)
            if others.sum() > max(1, others.numel() // 100):
                raise UserError(f"the exported graph's codes are not the model's: {int(others.sum())} are others")
            same = ~others.any(1)
        for name in due.keys() - {"codes"}:
            apart = ((made[name] - due[name]).abs() / due[name].abs().clamp(min=1))[same]
            apart = apart.max().item() if len(apart) else 0.0
            if not apart <= TOLERANCE:
                raise UserError(f"the exported graph's {name} is {apart:.1e} from the model's, above {TOLERANCE}")
            largest = max(largest, apart)
    return largest
