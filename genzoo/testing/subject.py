"""The part under examination, and the one exception a check raises."""

import traceback
from dataclasses import dataclass
from typing import Any

import torch

from genzoo.config import Config, build, place_of
from genzoo.errors import UserError
from genzoo.registry import Registry


class Mismatch(AssertionError):
    """What a check expected and what it saw."""

    def __init__(self, expected: str, seen: str):
        super().__init__(f"expected {expected}; seen: {seen}")
        self.expected, self.seen = expected, seen


class DoesNotApply(Exception):
    """The check cannot be made here (weights or data that are not at hand), with the reason."""


@dataclass
class Subject:
    """One registered part with one set of options."""

    registry: Registry
    name: str
    config: Config
    backend: str  # of torch.compile

    @property
    def kind(self) -> str:
        return self.registry.kind

    def build(self, seed: int = 0, **wiring: Any) -> Any:
        torch.manual_seed(seed)
        return build(self.registry, self.config, **wiring)

    def refusal(self, **wiring: Any) -> str:
        """Why the part refuses this wiring, empty when it does not. Refusing takes a ValueError with a reason."""
        try:
            self.build(**wiring)
        except UserError as error:
            if error.__cause__ is None or (isinstance(error.__cause__, ValueError) and str(error.__cause__)):
                return str(error)
            raise Mismatch("a part, or a ValueError that says which sizes it can make", str(error)) from error.__cause__
        return ""

    def where(self, error: BaseException) -> str:
        """`file:line` to look at: the part's own line that an error came from, else its class."""
        part = self.registry.get(self.name)
        place = place_of(part)
        file = place.rpartition(":")[0]
        while error.__cause__ is not None:
            error = error.__cause__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        return f"{file}:{frames[-1].lineno}" if frames else place


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to float32's rounding in another order of summation."""
    scale = max(1.0, a.abs().max().item())
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale)
