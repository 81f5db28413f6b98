"""Small models for parts that are examined in company: one that offers what the part needs."""

import itertools

import torch

from genzoo.config import config_of
from genzoo.errors import UserError
from genzoo.model import Model, ModelConfig
from genzoo.parts import Pass, Shape
from genzoo.registry import HEADS, LATENTS, OBJECTIVES, Registry
from genzoo.testing.subject import Mismatch
from genzoo.tracing import capabilities

IMAGE: Shape = (3, 16, 16)
SMALL_DECODER = {"name": "mlp", "hidden_dims": [8]}
ENCODERS = [{"name": "mlp", "hidden_dims": [8]}, {"name": "conv", "base_dim": 2}]


def small_model(needs: tuple[str, ...] = (), image_shape: Shape = IMAGE, **parts: object) -> Model:
    """The plainest model that offers these capabilities, its weights from a fixed seed; parts: those that are given.

    Mismatch when no combination of genzoo's own latents and heads offers them.
    """
    latents = [parts["latent"]] if "latent" in parts else [{"name": "gaussian", "dim": 4}, *_own(LATENTS)]
    heads = [parts["head"]] if "head" in parts else [{"name": "single", "decoder": SMALL_DECODER}, *_own(HEADS)]
    refused = ""
    for latent, head, encoder in itertools.product(latents, heads, ENCODERS):
        tree = {"encoder": encoder, "latent": latent, "head": head, **parts}
        torch.manual_seed(0)
        try:
            model = Model(ModelConfig.model_validate(tree), image_shape)
            offers = capabilities(model, model(images(image_shape)))
        except (UserError, ValueError) as error:
            refused = refused or str(error)
            continue
        if set(needs) <= offers:
            model.zero_grad()
            return model
    raise Mismatch(f"neighbours in a model that offer {', '.join(needs) or 'themselves'}", refused or "none do")


def _own(registry: Registry) -> list[dict]:
    """genzoo's own parts of a kind, with their default options, heads with a small decoder."""
    found = []
    for name, entry in registry.entries.items():
        if entry.owner == "genzoo":
            fields = config_of(registry, name).model_fields
            small = {"head": {"name": "single", "decoder": SMALL_DECODER}, "decoder": SMALL_DECODER}
            key = next((key for key in small if registry is HEADS and key in fields), None)
            found.append({"name": name, **({key: small[key]} if key else {})})
    return found


def images(image_shape: Shape = IMAGE, num: int = 4) -> torch.Tensor:
    return torch.rand(num, *image_shape, generator=torch.Generator().manual_seed(0))


def charged(made: Pass, model: Model) -> torch.Tensor:
    """Something of everything in a pass, for gradients: image, KL where there is one, penalties, likelihood."""
    loss = made.composition.image.sum()
    if "kl" in capabilities(model, made):
        loss = loss + model.kl(made.posterior, made.z).sum()
    if hasattr(made.posterior, "penalties"):
        loss = loss + sum(value.sum() for value in made.posterior.penalties().values())
    if made.composition.log_prob is not None:
        loss = loss - made.composition.log_prob(images(model.image_shape, len(made.z))).sum()
    return loss


def objective_for(model: Model) -> torch.nn.Module | None:
    """genzoo's first objective that this model offers enough for, with its default options."""
    offers = capabilities(model, model(images(model.image_shape)))
    for name, entry in OBJECTIVES.entries.items():
        if entry.owner == "genzoo":
            objective = OBJECTIVES.get(name)(config_of(OBJECTIVES, name)(name=name), image_shape=model.image_shape)
            if set(getattr(objective, "needs", ())) <= offers:
                return objective
    return None
