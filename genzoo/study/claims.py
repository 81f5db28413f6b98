"""Claims: one measure is less than another, decided by the interval of their difference over seeds."""

from dataclasses import dataclass

from genzoo.errors import UserError
from genzoo.study.intervals import Interval, of_mean
from genzoo.study.measures import Record, records, unequal
from genzoo.study.study import Claim

METHOD = (
    "A claim says that one measure is less than another. Runs of the same seed are pairs; the claim **holds** where "
    "the interval of the mean difference (Student's t over the pairs) lies below zero, **fails** where it lies above, "
    "and is **undecided** where it holds zero, where there are fewer than two pairs, or where protocols differ. "
    "`less in` counts the pairs in which it was less."
)


@dataclass
class Verdict:
    """of: the values of the claim's `each`; difference: of the pairs, None where there are none, below 0 in `less`."""

    of: tuple[str, ...]
    word: str
    difference: Interval | None
    reason: str = ""
    less: int = 0

    @property
    def pairs(self) -> str:
        num = self.difference.num if self.difference else 0
        return f"less in {self.less} of {num} pair{'' if num == 1 else 's'}"


def verdicts(claim: Claim, facts: list[dict]) -> list[Verdict]:
    sides = [records(facts, {**claim.where, **side}) for side in (claim.less, claim.than)]
    free = {"seed", *claim.less, *claim.than, *claim.each}
    pairs: dict[tuple, dict[tuple, dict[int, Record]]] = {}
    for n, side in enumerate(sides):
        for record in side:
            of = tuple(record.dims.get(dim, "") for dim in claim.each)
            rest = tuple((dim, value) for dim, value in record.dims.items() if dim not in free - {"seed"})
            pair = pairs.setdefault(of, {}).setdefault(rest, {})
            if n in pair:
                raise UserError(
                    f"claim '{claim.says}': {'less' if n == 0 else 'than'} fits several numbers of one run, such as "
                    f"{_words(pair[n])} and {_words(record)}; say more in `where`"
                )
            pair[n] = record
    return [_verdict(claim, of, [pair for pair in found.values() if len(pair) == 2]) for of, found in pairs.items()]


def _verdict(claim: Claim, of: tuple[str, ...], pairs: list[dict[int, Record]]) -> Verdict:
    if not pairs:
        return Verdict(of, "undecided", None, "no pair of runs")
    for dim in pairs[0][0].dims:
        values = dict.fromkeys(pair[0].dims[dim] for pair in pairs)
        if len(values) > 1 and dim not in ("seed", *claim.less, *claim.than):
            raise UserError(
                f"claim '{claim.says}': its runs differ in {dim}, too ({', '.join(values)}): name {dim} in `each`, or "
                "choose one in `where`"
            )
    differences = [float(pair[0].value) - float(pair[1].value) for pair in pairs]
    difference, less = of_mean(differences), sum(value < 0 for value in differences)
    entries = [record.entry for pair in pairs for record in pair.values()]
    if unlike := unequal(entries):
        return Verdict(of, "undecided", difference, f"protocols differ in {', '.join(unlike)}", less)
    if difference.low is None:
        return Verdict(of, "undecided", difference, "one pair of runs", less)
    word = "holds" if difference.high < 0 else "fails" if difference.low > 0 else "undecided"
    return Verdict(of, word, difference, less=less)


def _words(record: Record) -> str:
    return " ".join(f"{dim}={value}" for dim, value in record.dims.items())
