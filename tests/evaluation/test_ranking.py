import copy

from genzoo.evaluation.protocol import differences
from genzoo.evaluation.ranking import rank

ENTRY = {
    "metric": "fd", "features": "pixels", "generator": "prior", "part": "y", "value": 3.0, "num_samples": 100,
    "num_reference": 50, "reference": "test", "reference_sha256": "a" * 64, "fit_split": None, "seed": 0,
    "protocol": {"weights_sha256": "b" * 64, "size": 32}, "weights_sha256": "b" * 64, "versions": {"torch": "2.6"},
}  # fmt: skip


def entry(value, **changes):
    return {**copy.deepcopy(ENTRY), "value": value, **changes}


def test_scores_of_one_protocol_are_ranked_and_ties_share_a_rank():
    [row] = rank({"a": [entry(3.0)], "b": [entry(1.0, seed=7, versions={"torch": "3"})], "c": [entry(3.0)]})
    assert row.ranks == {"b": 1, "a": 2, "c": 2} and not row.differs


def test_higher_is_better_for_precision_and_nothing_is_for_authenticity():
    def ranks(metric):
        return rank({"a": [entry(0.3, metric=metric)], "b": [entry(0.6, metric=metric)]})[0].ranks

    assert ranks("precision") == {"b": 1, "a": 2}
    assert ranks("authenticity") == {}


def test_other_protocols_are_marked_and_not_ranked_unless_told_to():
    changed = {
        "num_samples": entry(2.0, num_samples=99),
        "reference_sha256": entry(2.0, reference_sha256="c" * 64),
        "protocol.weights_sha256": entry(2.0, protocol={"weights_sha256": "d" * 64, "size": 32}),
        "fit_split": entry(2.0, fit_split="test"),
        "few": entry(2.0, few="singular"),
        "k": entry(2.0, k=5),
    }
    for name, other in changed.items():
        assert list(differences(ENTRY, other)) == [name]
        [row] = rank({"a": [entry(3.0)], "b": [other]})
        assert list(row.differs) == [name] and set(row.differs[name]) == {"a", "b"} and not row.ranks
        assert rank({"a": [entry(3.0)], "b": [other]}, across=True)[0].ranks == {"b": 1, "a": 2}


def test_skipped_and_lonely_scores_have_no_rank():
    rows = rank({"a": [entry(None, skipped="no weights"), entry(1.0, part="y1")], "b": [entry(2.0)]})
    assert [(row.part, list(row.entries), row.ranks) for row in rows] == [("y1", ["a"], {}), ("y", ["b"], {})]
