"""Checks of a part in an assembled model: a decoder in every head, the others in a whole model."""

import torch

from genzoo.config import build
from genzoo.registry import HEADS
from genzoo.testing.partners import charged, small_model
from genzoo.testing.subject import Mismatch, Subject
from genzoo.testing.wiring import BATCH, FEATURES, accepted, some

PARTNERS = {"resnet": {"base_dim": 2}, "conv": {"base_dim": 2}, "mlp": {"hidden_dims": [8]}}


def in_heads(subject: Subject) -> None:
    """Heads: works inside single, split (shared, paired with every built-in decoder, as sigma's) and mixture"""
    me = subject.config
    size = next((wiring["out_shape"] for wiring in accepted(subject) if wiring["in_shape"] == FEATURES[0]), None)
    if size is None:
        raise Mismatch(f"a decoder that takes flat features {FEATURES[0]}: flat latents make them", "refused")
    heads: list[dict] = [{"name": "single", "decoder": me}, {"name": "split", "decoder": me}]
    for name, options in PARTNERS.items():
        partner = {"name": name, **options}
        heads += [{"name": "split", "trunk": "pair", "decoders": pair} for pair in ([me, partner], [partner, me])]
    heads += [
        {"name": "split", "trunk": "pair", "decoders": ["mlp", "mlp"], "sigma_decoder": me},
        {"name": "mixture", "decoder": me},
        {"name": "mixture", "trunk": "separate", "decoders": [me, me]},
    ]
    features = torch.randn(BATCH, *FEATURES[0], generator=torch.Generator().manual_seed(0))
    for options in heads:
        config = HEADS.get(options["name"]).Config.model_validate(options)
        try:
            head = build(HEADS, config, in_shape=FEATURES[0], image_shape=size)
            composition = head(features)
        except Exception as error:
            raise Mismatch(f"a decoder that works in {_head(options)}", f"{error}") from error
        if tuple(composition.image.shape) != (BATCH, *size):
            raise Mismatch(f"an image of {size} from {_head(options)}", f"{tuple(composition.image.shape[1:])}")
        composition.image.sum().backward()
        without = [name for name, p in head.named_parameters() if p.requires_grad and p.grad is None]
        if without:
            raise Mismatch(f"a gradient for every parameter in {_head(options)}", f"none for {some(without)}")


def in_a_model(subject: Subject) -> None:
    """Model: an image goes in and out with the plainest neighbours, and gradients come back"""
    size = (3, 32, 32)
    if subject.kind == "encoders":
        size = accepted(subject)[0]["in_shape"]
    elif subject.kind == "heads":
        size = accepted(subject)[0]["image_shape"]
    model = small_model(image_shape=size, **{subject.kind.removesuffix("s"): subject.config})
    made = model(torch.rand(BATCH, *size))
    if tuple(made.composition.image.shape) != (BATCH, *size):
        raise Mismatch(f"images of {size}", f"{tuple(made.composition.image.shape[1:])}")
    charged(made, model).backward()


def _head(options: dict) -> str:
    names = [getattr(d, "name", None) or d["name"] for d in options.get("decoders", ()) if not isinstance(d, str)]
    if "sigma_decoder" in options:
        return "heads/split as sigma_decoder"
    return f"heads/{options['name']}" + (f" with decoders {' and '.join(names)}" if names else "")
