"""Whether what was built keeps the contract of its kind (genzoo.parts)."""

from genzoo import parts

PROTOCOLS: dict[str, type] = {
    "encoders": parts.Encoder,
    "latents": parts.Latent,
    "priors": parts.Prior,
    "decoders": parts.Decoder,
    "heads": parts.Head,
    "objectives": parts.Objective,
    "terms": parts.Term,
    "samplers": parts.Sampler,
    "datasets": parts.Dataset,
    "features": parts.Features,
    "metrics": parts.Metric,
}


def _members(protocol: type) -> list[str]:
    """What a contract asks for, that which it extends included."""
    asked = [one for one in protocol.__mro__ if one.__module__ == parts.__name__]
    methods = [name for one in asked for name in vars(one) if name == "__call__" or name[0] != "_"]
    return list(dict.fromkeys([*(name for one in asked for name in one.__annotations__), *methods]))


def lacking(kind: str, part: object) -> str:
    """What a part lacks of its kind's contract, in words; empty when all is there."""
    protocol = PROTOCOLS[kind]
    if kind == "samplers" and getattr(part, "needs_fit", False):
        protocol = parts.Learned if hasattr(part, "loss") else parts.Fitted
    for member in _members(protocol):
        if not hasattr(part, member):
            return f"it has no `{member}`, which the contract genzoo.parts.{protocol.__name__} asks for"
        value = getattr(part, member)
        if protocol.__annotations__.get(member) == "Shape" and not (
            isinstance(value, tuple) and value and all(isinstance(size, int) and size > 0 for size in value)
        ):
            return f"its `{member}` is {value!r}, not a tuple of positive sizes without the batch (a single one: (n,))"
    return ""
