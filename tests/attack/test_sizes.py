"""Every option of every part, and of a recipe's own sections, at sizes from below zero to beyond any machine."""

import random
from collections.abc import Iterator

import pytest

from genzoo.annotations import annotation_of
from genzoo.config import config_of
from genzoo.evaluation.config import EvaluationConfig
from genzoo.options import fields
from genzoo.registry import KINDS
from genzoo.training.config import TrainConfig

SIZES = ["-1", "0", "1", "2", "3", "7", "64", "1000", "1e5", "100000", "1000000000", str(2**63), "[100000, 100000]"]
PLACES = {
    "encoders": "model.encoder={}",
    "latents": "model.latent={}",
    "priors": "model.prior={}",
    "decoders": "model.head.decoder={}",
    "heads": "model.head={}",
    "objectives": "objective={}",
    "terms": "terms=[{}]",
    "samplers": "samplers=[{}]",
    "datasets": "data={}",
    "metrics": "evaluation.metrics=[{}]",
}


def cases() -> Iterator[tuple[str, str]]:
    """A name and an edit."""
    for kind, place in PLACES.items():
        for part, entry in KINDS[kind].entries.items():
            if entry.owner != "genzoo":
                continue
            for option, field in fields(config_of(KINDS[kind], part)):
                if any(one in str(annotation_of(field)) for one in ("int", "float")):
                    for size in SIZES:
                        yield f"{kind}/{part} {option}", place.format(f"{{name: {part}, {option}: {size}}}")
    for section, config in (("train", TrainConfig), ("evaluation", EvaluationConfig)):
        for option, field in fields(config):
            if any(one in str(annotation_of(field)) for one in ("int", "float")):
                for size in SIZES:
                    yield f"{section} {option}", f"{section}.{option}={size}"


def assail(attack, chosen: list[tuple[str, str]]) -> None:
    for name, edit in chosen:
        folder = attack.root / "case"
        folder.mkdir()
        attack.case("sizes", f"{name}: {edit}", folder, [["recipes", "validate", "vae_digits", edit]])
    assert not attack.told(), f"{attack.report()}\n{attack.told()}"


def test_sizes_of_every_kind(attack):
    assail(attack, random.Random(0).sample(list(cases()), 40))


@pytest.mark.long
def test_every_option_at_every_size(attack):
    assail(attack, list(cases()))
