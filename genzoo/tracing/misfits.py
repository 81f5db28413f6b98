"""What may take the place of two parts that do not go together, found by trying."""

from collections.abc import Iterable

from genzoo.config import config_of
from genzoo.errors import UserError
from genzoo.model import ModelConfig
from genzoo.parts import Shape
from genzoo.registry import HEADS, KINDS, LATENTS, TERMS, Registry
from genzoo.tracing import trace


def advice(place: str, need: str, config: ModelConfig, image_shape: Shape) -> str:
    """place: the part, kind/name, that needs one of genzoo.parts.CAPABILITIES."""
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
    return f"{lacking} has none: use {', or '.join(filter(None, ways))}"


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
