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


def test_a_bound_is_printed_with_its_error_its_images_and_draws_and_whether_it_has_converged():
    bound = {
        **{"metric": "bits_per_dim", "features": "", "generator": "model", "part": "y", "unit": "bits per dimension"},
        **{"value": 1.23456, "standard_error": 0.0456, "num_reference": 10_000, "reference": "test"},
        **{"estimator": "importance-weighted bound of 64 draws", "num_draws": 64},
        "found": {"last_doubling": {"moved": 0.5, "standard_error": 0.025}},
    }
    [line] = _tables([bound])
    assert line == (
        "bits_per_dim 1.2346 ± 0.046   of 10,000 test images: importance-weighted bound of 64 draws; bits per dimension"
    )
    [marked] = _tables([{**bound, "unconverged": True}])
    said = "; unconverged: the last doubling of the draws still moved it by 0.5 ± 0.025 nats"
    assert marked == line + said
