"""Which end of a score is the better one, as the metric that makes it says."""

import logging
from collections.abc import Set

from genzoo.errors import UserError
from genzoo.registry import METRICS

log = logging.getLogger("genzoo")


def directions(scores: Set[str]) -> dict[str, bool]:
    """Is lower better? Of those scores that have a better end. Imports the metrics that bear their names, then others.

    Others only as long as it is not known which metric makes a score, such as the precision of precision_recall.
    """
    found: dict[str, bool | None] = {}
    for name in sorted(METRICS.entries, key=lambda name: name not in scores):
        if scores <= found.keys():
            break
        try:
            found |= METRICS.get(name).lower
        except (UserError, AttributeError, TypeError) as error:  # a plugin that cannot be used makes no score
            log.warning("metrics/%s: %s", name, error)
    return {score: lower for score, lower in found.items() if score in scores and lower is not None}
