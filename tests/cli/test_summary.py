"""What the end of a run prints."""

from genzoo.cli.summary import _tables


def entry(metric, generator, value, **more):
    about = {
        "metric": metric,
        "features": "inception",
        "reference": "test",
        "num_reference": 10_000,
        "num_samples": 500,
    }
    return {**about, "generator": generator, "part": "y", "value": value, **more}


def test_small_values_keep_their_digits():
    lines = _tables(
        [
            entry("fd", "prior", 24.2429),
            entry("fd", "gmm", 0.5),
            entry("kid", "prior", 0.03602),
            entry("kid", "gmm", None, skipped="too few"),
        ]
    )
    assert [line.split() for line in lines if line.startswith("  prior")] == [
        ["prior", "24.24", "500"],
        ["prior", "0.0360", "500"],
    ]
    assert any(line.split() == ["gmm", "0.50", "500"] for line in lines)
    assert any(line.endswith("skipped: too few") for line in lines)
