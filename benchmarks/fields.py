"""Two metrics.json files, or two outputs of `genzoo fid --json`, compared field by field.

    python benchmarks/fields.py OLD NEW [--tolerance 1e-9] [--leave-out versions --leave-out train.seconds]

Prints every field that differs, is gone or is new, and how many are equal; exit code 1 where any differs. Entries of
`scores` are told apart by what they are about, not by their place.
"""

import argparse
import json
import math
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from genzoo.config import leaves

NAMING = ("metric", "features", "generator", "part")
ABSENT = object()


def fields(path: Path) -> dict[str, Any]:
    """`outer.inner` -> value. ValueError where two scores are about the same."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    scores = tree.get("scores", [])
    named = {"/".join(str(entry.get(key)) for key in NAMING): entry for entry in scores}
    if len(named) < len(scores):
        raise ValueError(f"{path}: two scores have the same {', '.join(NAMING)}")
    return dict(leaves({**tree, "scores": named}))


def equal(old: Any, new: Any, tolerance: float) -> bool:
    """tolerance: relative, of numbers; 0: the same value of the same type."""
    if tolerance and all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new)):
        return math.isclose(old, new, rel_tol=tolerance)
    return type(old) is type(new) and old == new


def compare(
    old: dict[str, Any], new: dict[str, Any], tolerance: float = 0.0, left_out: tuple[str, ...] = ()
) -> dict[str, tuple]:
    """Field -> (old, new) of those that differ; ABSENT on the side that has none. left_out: patterns of names."""
    found = {}
    for name in dict.fromkeys((*old, *new)):
        if any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in left_out):
            continue
        pair = old.get(name, ABSENT), new.get(name, ABSENT)
        if ABSENT in pair or not equal(*pair, tolerance):
            found[name] = pair
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative, of numbers")
    parser.add_argument("--leave-out", action="append", default=[], help="field, branch of fields, or pattern")
    words = parser.parse_args()
    old, new = fields(words.old), fields(words.new)
    found = compare(old, new, words.tolerance, tuple(words.leave_out))
    for name, pair in found.items():
        print(f"{name}: " + " -> ".join("absent" if value is ABSENT else json.dumps(value) for value in pair))
    print(f"{len(found)} of {len(old.keys() | new.keys())} fields differ")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
