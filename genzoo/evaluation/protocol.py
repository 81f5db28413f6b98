"""How a score was made, which it states beside its value, and whether two scores were made alike."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from genzoo import __version__
from genzoo.config import leaves
from genzoo.parts import Features

# What does not belong to the way a score was made: its value, whose it is, and what may differ without changing it.
OWN = {
    *("value", "standard_error", "bootstrap_error", "bootstrap", "slope", "skipped", "metric", "generator", "part"),
    "found",
    *("sampler", "sampler_name", "checkpoint_step", "samples_sha256", "reference", "seed", "versions"),
    *("features", "weights_sha256", "resize"),  # these are in `protocol` too
    "control",  # options of what changed the images before they were scored, which `part` names
}

NAMING = {"metric", "features", "generator", "part", "value"}
OPTIONS = "sampler_options"  # of the sampler behind a score, where they are known


@cache
def versions() -> dict[str, str]:
    """Of the libraries that a run and its scores depend on, as far as they are installed."""
    found = {"genzoo": __version__, "python": platform.python_version()}
    for package in (
        "torch",
        "torchvision",
        "timm",
        "accelerate",
        "numpy",
        "pillow",
        "scikit-learn",
        "zuko",
        "pydantic",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def protocol_of(features: Features, seed: int) -> dict:
    """What a score says of its features, its seed and the libraries."""
    return {
        "weights_sha256": features.protocol.get("weights_sha256"),
        "resize": features.protocol.get("resize"),
        "protocol": features.protocol,
        "seed": seed,
        "versions": versions(),
    }


def differences(a: dict, b: dict) -> dict[str, tuple]:
    """field -> its two values, of all that makes two entries of "scores" incomparable; a field of a dict as `a.b`."""
    own = OWN if OPTIONS in a and OPTIONS in b else {*OWN, OPTIONS}
    left, right = (dict(leaves({k: v for k, v in entry.items() if k not in own})) for entry in (a, b))
    return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}


def caveat(entry: dict) -> str:
    """Of a bound that more draws would still tighten, in words; else ""."""
    if not entry.get("unconverged"):
        return ""
    moved = entry["found"]["last_doubling"]
    size = f"{abs(moved['moved']):.2g} ± {moved['standard_error']:.2g} nats"
    return f"unconverged: the last doubling of the draws still moved it by {size}"


def is_score(entry: object) -> bool:
    """Whether it is an entry of "scores" in a metrics.json: named in words, with a number, or None where skipped."""
    if not isinstance(entry, dict) or not entry.keys() >= NAMING:
        return False
    value = entry["value"]
    is_number = isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    return (value is None or is_number) and all(isinstance(entry[key], str) for key in NAMING - {"value"})
