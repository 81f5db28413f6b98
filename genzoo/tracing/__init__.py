"""What a recipe's parts are together, found on the meta device: no data is read, no memory taken, nothing computed."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from genzoo.budget import memory, refuse, within_memory
from genzoo.config import Config, build, parts_in
from genzoo.errors import TooLarge, UserError, reason
from genzoo.files import size_of
from genzoo.model import Model, ModelConfig, watched
from genzoo.parts import CAPABILITIES, Learned, Pass, Shape
from genzoo.registry import SAMPLERS, Registry

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
                from genzoo.tracing.misfits import advice

                raise UserError(f"{place} needs {CAPABILITIES[need]}; {advice(place, need, config, image_shape)}")


def refuse_large_training(
    config: ModelConfig, image_shape: Shape, objective: Config, terms: Iterable[Config], num: int, recomputed: bool
) -> None:
    """UserError where training on a CPU, `num` images at once, cannot fit the memory, counted low.

    Weights with their gradients, whatever the optimizer keeps, and half of what a float32 pass keeps for the way back;
    nothing for that where it is `recomputed`. A GPU says itself that its memory is full.
    """
    if 4 * prod(image_shape) * num * HEAVY < memory() / 2 and trace(config, image_shape).num_bytes < memory() / 4:
        return
    from genzoo.tracing.measures import measure

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
