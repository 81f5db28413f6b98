"""What a recipe's parts are together, found on the meta device: no data is read, no memory taken, nothing computed."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from genzoo.budget import memory, refuse, within_memory
from genzoo.config import Config, build, config_of, parts_in
from genzoo.errors import TooLarge, UserError, reason
from genzoo.files import size_of
from genzoo.model import Model, ModelConfig, watched
from genzoo.parts import CAPABILITIES, Learned, Pass, Shape
from genzoo.registry import HEADS, KINDS, LATENTS, OBJECTIVES, SAMPLERS, TERMS, Registry
from genzoo.training.step import Step

HEAVY = 2000  # what a pass keeps for the backward pass, in times the image's bytes, is hardly ever more


@dataclass
class Traced:
    """What a pass of zeros through a model showed."""

    stages: dict[str, Shape]  # stage -> shape without the batch
    latent_shape: Shape
    offers: set[str]  # of genzoo.parts.CAPABILITIES
    codes: dict  # of a discrete latent: num_codes, and the grid of an image's codes, as samplers of them are built
    num_bytes: int  # of weights and buffers
    largest: int  # bytes of the largest tensor of the pass


def trace(config: ModelConfig, image_shape: Shape, num: int = 2) -> Traced:
    """Run `num` images of zeros through the model on the meta device.

    UserError when a part refuses the size or the number of images, makes another shape than it declares, lacks what
    the prior needs of it, or takes more memory than there is.
    """
    images = f"{'x'.join(map(str, image_shape))} images"
    with torch.device("meta"), within_memory() as budget:
        model = Model(config, image_shape)
        budget.begin_pass()
        x = torch.zeros(num, *image_shape)
        stages: dict[str, Shape] = {}

        def stage(name: str, made: Tensor, declared: Shape) -> Tensor:
            if tuple(made.shape) != (num, *declared):
                raise UserError(f"{name} makes shape {tuple(made.shape[1:])}, but {tuple(declared)} was due")
            stages[name] = tuple(declared)
            return made

        with watched(model) as running:
            try:
                features = stage(f"encoders/{config.encoder.name}", model.encoder(x), model.encoder.out_shape)
                posterior = model.latent(features)
                running.append(name := f"latents/{config.latent.name}")  # its methods are not watched
                z = stage(name, posterior.sample(), model.latent.shape)
                expanded = stage(f"{name} expanded", model.latent.expand(z), model.latent.out_shape)
                running.pop()
                composition = model.head(expanded)
                name = f"heads/{config.head.name}"
                stage(name, composition.image, image_shape)
                for branch, image in composition.branches.items():
                    stage(f"{name} {branch}", image, image_shape)
                for part, weights in composition.maps.items():
                    channels = weights.shape[1] if weights.ndim == 4 and weights.shape[1] == 1 else image_shape[0]
                    stage(f"{name} {part}", weights, (channels, *image_shape[1:]))
                made = Pass(posterior, z, composition)
                if config.prior is not None:
                    name = f"priors/{config.prior.name}"
                    refuse_misfits({name: model.prior}, capabilities(model, made), config, image_shape)
                    running.append(name)
                    stage(f"{name} density", model.log_prior(z), ())
                    running.pop()
                offers = capabilities(model, made)
                codes = {}
                if "codes" in offers:
                    codes = {"num_codes": model.latent.num_codes, "grid": tuple(model.latent.codes(z).shape[1:])}
            except UserError:
                raise
            except TooLarge as error:
                from genzoo.wording import growth, smaller

                inside = [one for one in parts_in(config) if f"{one.kind}/{one.name}" in running]
                part = max(reversed(inside), key=growth)
                raise UserError(f"{part.kind}/{part.name} on {images}: {error}; {smaller(part, images)}") from error
            except Exception as error:  # a plugin's forward may fail in any way
                part = running[-1] if running else "the model"
                message = error if isinstance(error, ValueError) else reason(error)
                alone = " that come alone (train.batch_size / train.grad_accumulation is 1)" if num == 1 else ""
                raise UserError(f"{part} fails on {images}{alone}: {message}") from error
    return Traced(stages, model.latent_shape, offers, codes, budget.num_bytes, budget.largest)


def rehearse(registry: Registry, configs: Iterable[Config], **wiring: Shape) -> None:
    """UserError for parts that are larger than the memory, by building them on the meta device.

    What cannot be built there is let pass: it is looked at again, tensor by tensor, when it is built.
    """
    for config in configs:
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                build(registry, config, **wiring)
        except UserError as error:
            if isinstance(error.__cause__, TooLarge):
                raise


def rehearse_loss(sampler: Learned, config: Config, traced: Traced, of_codes: dict) -> None:
    """UserError for a sampler that learns by steps of more latents at once than the memory holds, on the meta device.

    What cannot be run there is let pass.
    """
    options = sampler.settings
    num = max(1, options["batch_size"] // options.get("grad_accumulation", 1))
    shape, kind = (of_codes["grid"], torch.int32) if of_codes else (traced.latent_shape, torch.float32)
    with torch.device("meta"), within_memory(traced.num_bytes), torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            other = build(SAMPLERS, config, latent_shape=traced.latent_shape, **of_codes)
            other.loss(torch.zeros(num, *shape, dtype=kind), torch.zeros((), dtype=torch.int64))
        except TooLarge as error:
            raise UserError(f"samplers/{config.name}: {error}; lower batch_size ({num:,} latents at once)") from error
        except Exception:  # it may ask for values, of which there are none here
            return


def capabilities(model: Model, made: Pass) -> set[str]:
    """Which of genzoo.parts.CAPABILITIES a model has, by a pass of it."""
    posterior, latent, composition = made.posterior, model.latent, made.composition
    learned = model.prior is not None
    density, own_kl = hasattr(posterior, "log_prob"), hasattr(posterior, "kl")
    found = {
        "kl": density if learned else own_kl,
        "kl of every element": own_kl and not learned and posterior.kl(made.z).shape == made.z.shape,
        "posterior density": density,
        "prior": model.has_prior,
        "prior density": learned or hasattr(latent.prior, "log_prob"),
        "codes": hasattr(latent, "codes"),
        "flat latent": len(latent.shape) == 1,
        "latent map": len(latent.shape) == 3,
        "free latent": not getattr(posterior, "on_sphere", False),
        "likelihood": composition.log_prob is not None,
        "maps": bool(composition.maps),
    }
    return {name for name, has in found.items() if has}


def refuse_misfits(parts: dict[str, object], offers: set[str], config: ModelConfig, image_shape: Shape) -> None:
    """UserError for the first part (kind/name -> its class or the part) that needs what the model does not offer.

    The message names both parts, and those that could take the place of either.
    """
    for place, part in parts.items():
        needs = getattr(part, "needs", ())
        for need in needs if isinstance(needs, tuple) else ():
            if need not in CAPABILITIES:
                raise UserError(f"{place}: its `needs` names '{need}', which is none of: {', '.join(CAPABILITIES)}")
            if need not in offers:
                raise UserError(_misfit(place, need, config, image_shape))


def _misfit(place: str, need: str, config: ModelConfig, image_shape: Shape) -> str:
    head = need in ("likelihood", "maps")
    registry, partner = (HEADS, config.head) if head else (LATENTS, config.latent)
    lacking = f"{registry.kind}/{partner.name}"
    if config.prior is not None and not head and not place.startswith("priors/"):
        lacking += f" with priors/{config.prior.name}"
    kind = place.partition("/")[0]
    others = _offering(registry, need, config, image_shape)
    ways = [_listed(kind, _without(KINDS[kind], need)), _listed(registry.kind, others)]
    if kind in ("terms", "samplers", "priors"):
        ways.append(f"leave {place} out")
    return f"{place} needs {CAPABILITIES[need]}; {lacking} has none: use {', or '.join(filter(None, ways))}"


def _listed(kind: str, names: list[str]) -> str:
    return f"{kind}/{' | '.join(names)}" if names else ""


def _without(registry: Registry, need: str) -> list[str]:
    """The parts of a kind that do without."""
    if registry is TERMS:
        return []
    return [name for name, part in _importable(registry) if need not in getattr(part, "needs", ())]


def _offering(registry: Registry, need: str, config: ModelConfig, image_shape: Shape) -> list[str]:
    """The parts of a kind that, with their default options in the place of the model's own, would offer it."""
    key, found = registry.kind.removesuffix("s"), []
    for name, _ in _importable(registry):
        try:
            other = config.model_copy(update={key: config_of(registry, name)(name=name), "prior": None})
            if need in trace(other, image_shape).offers:
                found.append(name)
        except UserError:  # it does not go with the rest of this model
            continue
    return found


def _importable(registry: Registry) -> Iterable[tuple[str, type]]:
    for name in registry.entries:
        try:
            yield name, registry.get(name)
        except UserError:  # a broken plugin is no advice
            continue


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


def refuse_large_training(
    config: ModelConfig, image_shape: Shape, objective: Config, terms: Iterable[Config], num: int, recomputed: bool
) -> None:
    """UserError where training on a CPU, `num` images at once, cannot fit the memory, counted low.

    Weights with their gradients, whatever the optimizer keeps, and half of what a float32 pass keeps for the way back;
    nothing for that where it is `recomputed`. A GPU says itself that its memory is full.
    """
    if 4 * prod(image_shape) * num * HEAVY < memory() / 2 and trace(config, image_shape).num_bytes < memory() / 4:
        return
    found = measure(config, image_shape, objective, terms)
    images = 0 if recomputed else found.activation_bytes * num // 2
    if found.fixed_bytes // 2 + images > memory():
        raise UserError(
            f"weights and gradients take {size_of(found.fixed_bytes // 2)}, what {num:,} images keep for the backward "
            f"pass at least {size_of(images)}, and there are {size_of(memory())} of memory; lower train.batch_size, "
            "raise train.grad_accumulation, or make the model smaller (`genzoo recipes validate` shows its parts)"
        )


def refuse_large_batch(config: ModelConfig, image_shape: Shape, num: int, place: str) -> None:
    """UserError where `num` images at once, encoded or decoded on a CPU, cannot fit the memory, counted low.

    Counted is the largest tensor of a pass alone. place: the option that says how many.
    """
    if 4 * prod(image_shape) * num * HEAVY < memory() / 2:
        return
    few, many = (trace(config, image_shape, size).largest for size in (2, 4))
    refuse(max(4 * prod(image_shape), (many - few) // 2) * num, f"{place}: a tensor of {num:,} images at once",
           f"lower {place}")  # fmt: skip


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
