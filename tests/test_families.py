"""docs/families.md names recipes and parts that there are, and no built-in family is missing from it."""

import re
from pathlib import Path

from genzoo.recipe_file import shipped
from genzoo.registry import LATENTS, OBJECTIVES, PRIORS, TERMS

PAGE = (Path(__file__).parent.parent / "docs" / "families.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(\w+)`", PAGE))


def test_every_family_has_its_place():
    for registry in (OBJECTIVES, LATENTS, PRIORS, TERMS):
        own = {name for name, entry in registry.entries.items() if entry.owner == "genzoo"}
        assert own <= NAMED | set(re.findall(r"[:`] ?(\w+)`", PAGE)), own - NAMED


def test_recipes_that_are_named_are_shipped():
    named = {word for word in NAMED if re.search(r"_(digits|mnist_cpu|celeba|cifar10)$", word)}
    assert len(named) > 20 and named <= set(shipped())


def test_every_family_on_digits_is_on_mnist_too():
    of = {
        data: {name.removesuffix(data) for name in shipped() if name.endswith(data)}
        for data in ("_digits", "_mnist_cpu")
    }
    assert {family for family in of["_digits"] if not family.startswith("split_")} == of["_mnist_cpu"]
