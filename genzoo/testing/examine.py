"""Run every check of a part's kind and collect what each found."""

import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from genzoo.config import config_of, place_of
from genzoo.errors import UserError, reason
from genzoo.registry import KINDS
from genzoo.testing import images, learning, metrics, networks, samplers
from genzoo.testing.options import CHECKS as OPTIONS
from genzoo.testing.subject import DoesNotApply, Mismatch, Subject

Check = Callable[[Subject], None]
CHECKS: dict[str, tuple[Check, ...]] = {
    kind: OPTIONS + checks
    for kind, checks in {
        **networks.CHECKS,
        "objectives": learning.OBJECTIVES,
        "terms": learning.TERMS,
        "priors": learning.PRIORS,
        "samplers": samplers.SAMPLERS,
        "datasets": images.DATASETS,
        "features": images.FEATURES,
        "metrics": metrics.METRICS,
    }.items()
}


@dataclass(frozen=True)
class Result:
    """What one check found; `expected`, `seen` and `where` are empty when it passed."""

    part: str
    check: str
    outcome: str  # passed | failed | skipped
    expected: str = ""
    seen: str = ""
    where: str = ""
    seconds: float = 0.0

    def to_text(self) -> str:
        if self.outcome == "failed":
            about = f"expected {self.expected}\n    seen     {self.seen}\n    see      {self.where}"
            return f"  FAILED   {self.check}\n    {about}"
        return f"  {self.outcome:7}  {self.check}{f': {self.seen}' if self.seen else ''}"


def examine(part: str, options: dict | None = None, *, backend: str = "aot_eager") -> Iterator[Result]:
    """Yield a Result for every check of `kind/name`, built with `options` (as in a recipe).

    backend: torch.compile's. UserError when there is no such part or the options are wrong.
    """
    kind, _, name = part.partition("/")
    if kind not in KINDS:
        raise UserError(f"'{part}' is not KIND/NAME with a kind of: {', '.join(KINDS)}")
    config = config_of(KINDS[kind], name)
    try:
        subject = Subject(KINDS[kind], name, config.model_validate({**(options or {}), "name": name}), backend)
    except ValidationError as error:
        text = "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        raise UserError(f"{part} does not take these options: {text}") from error
    except Exception as error:  # a plugin's own validators may fail in any way
        raise UserError(f"the Config of {part} fails: {reason(error)} ({place_of(config)})") from error
    for check in CHECKS[kind]:
        start, state = time.perf_counter(), torch.get_rng_state()
        title = (inspect.getdoc(check) or check.__name__).partition("\n")[0].rstrip(".")
        outcome, expected, seen, where = "passed", "", "", ""
        try:
            check(subject)
        except DoesNotApply as error:
            outcome, seen = "skipped", str(error)
        except Mismatch as error:
            outcome, expected, seen, where = "failed", error.expected, error.seen, subject.where(error)
        except Exception as error:  # a plugin may fail in any way
            outcome, expected, where = "failed", "no error", subject.where(error)
            seen = str(error) if isinstance(error, UserError) else reason(error)
        finally:
            torch.set_rng_state(state)
        yield Result(part, title, outcome, expected, seen, where, round(time.perf_counter() - start, 3))


def conformance(part: str, options: dict | None = None, *, backend: str = "aot_eager") -> None:
    """For pytest: AssertionError with every check that `kind/name` fails, what was expected, seen, and where to look.

    options: of the part, as in a recipe; small ones make the checks fast. backend: torch.compile's.
    """
    failed = [result.to_text() for result in examine(part, options, backend=backend) if result.outcome == "failed"]
    if failed:
        raise AssertionError("\n".join([f"{part} fails {len(failed)} checks", *failed]))
