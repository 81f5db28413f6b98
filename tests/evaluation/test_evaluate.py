import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from genzoo.config import build
from genzoo.errors import UserError
from genzoo.evaluation.config import EvaluationConfig, missing
from genzoo.evaluation.drawing import save_png_samples
from genzoo.evaluation.evaluate import evaluate
from genzoo.evaluation.extraction import statistics_of
from genzoo.evaluation.extractor import is_released, make_extractor
from genzoo.evaluation.generate import encode, samples
from genzoo.evaluation.images import Spread, from_array, quantize, shares, spread
from genzoo.evaluation.work import ON_CPU, Work
from genzoo.frechet import Statistics, frechet_distance
from genzoo.parts import Composition
from genzoo.registry import FEATURES, SAMPLERS
from genzoo.stage_two import fit_samplers


@pytest.fixture
def splits():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (60, 2, 2, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return {"train": blocks[:40], "test": blocks[40:]}


@pytest.fixture
def samplers():
    configs = {"prior": {}, "gmm": {"num_components": 3}}
    return {
        name: build(SAMPLERS, SAMPLERS.get(name).Config(name=name, **options), latent_shape=(4,))
        for name, options in configs.items()
    }


def config(*metrics, **options):
    return EvaluationConfig(**{"num_samples": 16, "batch_size": 7, "metrics": list(metrics) or ["fd"], **options})


PIXELS = {"name": "fd", "features": "pixels"}


def by_place(result):
    return {(e["metric"], e["features"], e["generator"], e["part"]): e for e in result["scores"]}


def run(model, samplers, splits, config, seed=0):
    failed = fit_samplers(model, samplers, splits, seed=seed, work=ON_CPU)
    return evaluate(model, samplers, splits, config, seed=seed, work=Work(batch_size=config.batch_size), skipped=failed)


def test_every_generator_and_part_is_scored_and_stated(split_model, samplers, splits, pixels):
    result = run(split_model, samplers, splits, config(PIXELS))
    scores = by_place(result)
    assert list(scores) == [
        ("fd", "pixels", generator, part)
        for generator in ("reconstruction", "prior", "gmm")
        for part in ("y", "y1", "y2", "mix")
    ]
    gmm = scores["fd", "pixels", "gmm", "mix"]
    assert gmm["num_samples"] == 16 and gmm["num_reference"] == 20 and gmm["reference"] == "test"
    assert gmm["fit_split"] == "train" and gmm["sampler"]["num_fit"] == 40
    assert scores["fd", "pixels", "prior", "y"]["fit_split"] is None
    assert result["latent"]["num_latents"] == 4 and result["split"]["kind"] == "semantic"
    assert split_model.training  # as it was
    json.dumps(result, allow_nan=False)


def exchanged(made):
    """The same image, from exchanged branches and 1 - sigma."""
    (y1, y2), sigma = made.branches.values(), 1 - made.maps["sigma"]
    return Composition(torch.lerp(y1, y2, sigma), branches={"y1": y2, "y2": y1}, maps={"sigma": sigma})


def test_exchanged_branches_exchange_their_scores_and_change_no_other(split_model, samplers, splits, pixels):
    made = run(split_model, samplers, splits, config(PIXELS))
    decode = split_model.decode
    split_model.decode = lambda z: exchanged(decode(z))
    swapped = run(split_model, samplers, splits, config(PIXELS))
    before, after = by_place(made), by_place(swapped)
    for (*place, part), entry in before.items():
        if part != "mix":  # whose first half is now the second
            other = {"y1": "y2", "y2": "y1"}.get(part, part)
            assert after[*place, other]["value"] == pytest.approx(entry["value"], rel=1e-3, abs=1e-6)
    assert before["fd", "pixels", "prior", "y1"]["value"] != before["fd", "pixels", "prior", "y2"]["value"]
    one, other = made["split"], swapped["split"]
    assert other["kind"] == one["kind"] and other["sigma_mean"] == pytest.approx(1 - one["sigma_mean"])
    for key in (
        "sigma_entropy",
        "sigma_high_frequency",
        "sigma_contrast",
        "branch_distance",
        "nearest_branch_distance",
    ):
        assert other[key] == pytest.approx(one[key], rel=1e-4), key


def test_values_against_a_plain_computation(split_model, samplers, splits, pixels):
    result = by_place(run(split_model, samplers, splits, config(PIXELS)))
    extractor = pixels(pixels.Config(name="pixels"))
    reference = Statistics.of(extractor(torch.from_numpy(splits["test"]).permute(0, 3, 1, 2)))
    z = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    made = split_model.decode(z)
    y1, y2 = made.branches.values()
    for part, images in {"y": made.image, "y1": y1, "y2": y2, "mix": torch.cat([y1[:8], y2[8:]])}.items():
        images = (images * 255).round().to(torch.uint8)
        expected = frechet_distance(reference, Statistics.of(extractor(images)))
        assert result["fd", "pixels", "prior", part]["value"] == pytest.approx(expected, rel=1e-5)


def test_images_are_made_once_and_each_is_measured_once(split_model, samplers, splits, pixels):
    samplers = {"prior": samplers["prior"]}
    run(split_model, samplers, splits, config(PIXELS, {"name": "kid", "features": "pixels", "subset_size": 8}))
    assert split_model.num_decoded == 16 + 16
    assert pixels.num_seen == 20 + (16 + 16) * 3  # reference, then y, y1 and y2: mix costs nothing
    result = by_place(
        run(split_model, samplers, splits, config(PIXELS, {"name": "fd", "features": {"name": "pixels", "gain": 2}}))
    )
    assert split_model.num_decoded == 2 * (16 + 16)
    one, four = (result["fd", label, "prior", "y"]["value"] for label in ("pixels", "pixels(gain=2.0)"))
    assert four == pytest.approx(4 * one)


def test_same_seed_same_scores_whatever_the_batch_or_the_other_samplers(split_model, samplers, splits, pixels):
    first = by_place(run(split_model, samplers, splits, config(PIXELS)))
    alone = by_place(run(split_model, {"gmm": samplers["gmm"]}, splits, config(PIXELS, batch_size=16)))
    other = by_place(run(split_model, samplers, splits, config(PIXELS, seed=1)))
    for part in ("y", "mix"):
        place = ("fd", "pixels", "gmm", part)
        assert alone[place]["value"] == pytest.approx(first[place]["value"], rel=1e-6)
        assert other[place]["value"] != pytest.approx(first[place]["value"], rel=1e-3)


def test_score_from_memory_is_the_score_of_the_png_files(split_model, samplers, splits, pixels, tmp_path):
    score = by_place(run(split_model, samplers, splits, config(PIXELS)))["fd", "pixels", "prior", "y1"]["value"]
    batches = samples(split_model, samplers["prior"], 16, seed=0, part="y1", work=Work(batch_size=5))
    save_png_samples(batches, tmp_path / "y1")
    files = sorted((tmp_path / "y1").iterdir())
    assert [file.name for file in files] == [f"{k:06d}.png" for k in range(16)]
    read = torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files])).permute(0, 3, 1, 2)
    extractor = pixels(pixels.Config(name="pixels"))
    real = Statistics.of(extractor(torch.from_numpy(splits["test"]).permute(0, 3, 1, 2)))
    assert frechet_distance(real, Statistics.of(extractor(read))) == pytest.approx(score, rel=1e-6)
    with pytest.raises(UserError, match="not an empty folder"):
        save_png_samples([], tmp_path / "y1")
    with pytest.raises(UserError, match="no part 'y3'"):
        next(samples(split_model, samplers["prior"], 2, seed=0, part="y3", work=ON_CPU))


def test_one_decoder_has_one_part(plain_model, samplers, splits, pixels):
    result = run(plain_model, samplers, splits, config(PIXELS))
    assert {e["part"] for e in result["scores"]} == {"y"}
    assert result["split"] is None


def test_too_few_images_are_refused_or_marked(split_model, samplers, splits, pixels):
    few = config(PIXELS, num_samples=4)
    result = run(split_model, samplers, splits, few)
    assert all(e["value"] is None and "4 sample images" in e["skipped"] for e in result["scores"])
    with pytest.raises(UserError, match="singular"):
        run(split_model, samplers, splits, config(PIXELS, num_samples=4, strict=True))
    allowed = run(split_model, samplers, splits, config(PIXELS, num_samples=4, allow_few=True))
    assert all(e["value"] > 0 and "singular" in e["few"] for e in allowed["scores"])


def test_a_score_that_cannot_be_made_is_listed_with_its_reason(split_model, samplers, splits, pixels, tmp_path):
    fid = {"name": "fid", "features": {"name": "inception", "weights": tmp_path / "none.pt"}}
    [(metric, reason)] = missing(config(PIXELS, fid))
    assert metric == "fid" and "none.pt" in reason
    scores = run(split_model, samplers, splits, config(PIXELS, fid))["scores"]
    skipped = [e for e in scores if e["metric"] == "fid"]
    assert [e["generator"] for e in skipped] == ["reconstruction", "prior", "gmm"]
    assert all(e["value"] is None and "none.pt" in e["skipped"] for e in skipped)
    assert all(e["value"] is not None for e in scores if e["metric"] == "fd")
    for call in (missing, lambda c: run(split_model, samplers, splits, c)):
        with pytest.raises(UserError, match="none"):
            call(config(fid, strict=True))


def test_a_sampler_that_cannot_be_fitted_costs_only_its_own_scores(split_model, samplers, splits, pixels):
    samplers["gmm"] = build(SAMPLERS, SAMPLERS.get("gmm").Config(name="gmm", num_components=41), latent_shape=(4,))
    scores = by_place(run(split_model, samplers, splits, config(PIXELS)))
    assert "41 components" in scores["fd", "pixels", "gmm", "y"]["skipped"]
    assert scores["fd", "pixels", "prior", "y"]["value"] > 0


def test_fitting_on_the_reference_is_marked(split_model, samplers, splits, pixels):
    gmm = SAMPLERS.get("gmm").Config(name="gmm", num_components=2, fit_split="test")
    scores = run(split_model, {"gmm": build(SAMPLERS, gmm, latent_shape=(4,))}, splits, config(PIXELS))["scores"]
    assert {e["generator"]: "note" in e for e in scores} == {"reconstruction": False, "gmm": True}


def test_missing_split_and_diverged_model(split_model, samplers, splits, pixels):
    with pytest.raises(UserError, match="no split 'validation'"):
        run(split_model, {}, splits, config(PIXELS, reference="validation"))
    split_model.decode = lambda z: type(
        "Made", (), {"image": z.new_full((len(z), 3, 8, 8), torch.nan), "branches": {}, "maps": {}}
    )
    with pytest.raises(UserError, match="not finite"):
        run(split_model, {}, splits, config(PIXELS))


@given(st.integers(1, 30000), st.integers(1, 3000))
def test_rows_are_spread_one_to_a_stretch_and_in_no_phase(n, num):
    rows, num = spread(n, num), min(num, n)
    edges = np.arange(num + 1) * n // num
    assert (edges[:-1] <= rows).all() and (rows < edges[1:]).all()
    for period in (2, 3, 6):  # of whatever repeats in the set
        if num >= 1000 and n >= period * num:
            shares = np.bincount(rows % period, minlength=period) / num
            assert abs(shares - 1 / period).max() < 0.08  # five standard deviations


def test_reference_is_spread_over_the_split():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None]
    assert Spread(images, 4)[0:4].ravel().tolist() == spread(10, 4).tolist()
    assert len(Spread(images, None)) == len(Spread(images, 99)) == 10


def test_reconstructions_are_spread_over_the_reference(split_model, splits, pixels, monkeypatch):
    """Of a split that is sorted by class, the first images would be of its first classes alone."""
    decoded = []
    decode = split_model.decode
    monkeypatch.setattr(split_model, "decode", lambda z: decoded.append(z) or decode(z))
    run(split_model, {}, splits, config(PIXELS, num_samples=5))
    mean, _ = encode(split_model, splits["test"], Work(batch_size=7))
    assert torch.equal(torch.cat(decoded), mean[spread(20, 5)])


def test_mix_takes_equal_shares_of_all_branches():
    assert shares(7, ["y1", "y2"]) == {"y1": slice(0, 3), "y2": slice(3, 7)}
    assert shares(9, "abc") == {"a": slice(0, 3), "b": slice(3, 6), "c": slice(6, 9)}


def test_quantize_rounds_and_clamps():
    x = torch.tensor([-0.2, 0.0, 0.0019, 0.0021, 254.6 / 255, 1.0, 1.7])
    assert quantize(x).tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_encode_reads_uint8_as_zero_to_one(split_model, splits):
    mean, variance = encode(split_model, splits["test"], Work(batch_size=6))
    corners = splits["test"][:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=2) / 255
    np.testing.assert_allclose(mean, 8 * corners - 4, atol=1e-5)
    assert variance.shape == (20, 4)


@pytest.mark.parametrize(
    "metric, message",
    [
        ({"name": "fid", "features": "efficientnet_lite0"}, "name: fd, features: efficientnet_lite0"),
        ("frechet_fid", "no metrics part is called 'frechet_fid'"),
        ("fiid", "did you mean 'fid'"),
        ({"name": "fd", "feature": "x"}, "did you mean 'features'"),
        ({"name": "fd", "features": "inceptoin"}, "did you mean 'inception'"),
        (3, "expected"),
    ],
)
def test_a_wrong_metric_is_explained(metric, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(metrics=[metric])


def test_efficientnet_scores_real_digits_from_samples_of_them(samplers, plain_model):
    """The whole pipe with the built-in network: digits are nearer to digits than noise is."""
    from sklearn.datasets import load_digits

    digits = (load_digits().images[:32, :, :, None].repeat(3, axis=3) * 15.9).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    extractor = FEATURES.get("efficientnet_lite0")(FEATURES.get("efficientnet_lite0").Config(name="efficientnet_lite0"))
    sides = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in (digits[:16], digits[16:], noise)]
    a, b, c = (Statistics.of(extractor(side)) for side in sides)
    assert frechet_distance(a, b) < 0.5 * frechet_distance(a, c)


def test_the_references_statistics_are_kept_and_are_those_of_genzoo_fid(
    split_model, samplers, splits, released, monkeypatch, tmp_path
):
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path))
    prior = {"prior": samplers["prior"]}
    first = by_place(run(split_model, prior, splits, config(PIXELS)))
    assert released.num_seen == 20 + (16 + 16) * 3
    second = by_place(run(split_model, prior, splits, config(PIXELS)))
    assert released.num_seen == 20 + (16 + 16) * 3 * 2
    place = ("fd", "pixels", "prior", "y")
    assert first[place]["value"] == second[place]["value"]
    reference = from_array("test", splits["test"])
    assert first[place]["reference_sha256"] == reference.digest
    statistics_of(reference, make_extractor(config(PIXELS).metrics[0].features, "cpu"))
    assert released.num_seen == 20 + (16 + 16) * 3 * 2


def test_other_options_and_code_that_may_change_have_statistics_of_their_own(
    split_model, samplers, splits, released, pixels
):
    gain = {"name": "fd", "features": {"name": "pixels", "gain": 2}}
    result = by_place(run(split_model, {"prior": samplers["prior"]}, splits, config(PIXELS, gain)))
    one, four = (result["fd", label, "prior", "y"]["value"] for label in ("pixels", "pixels(gain=2.0)"))
    assert four == pytest.approx(4 * one)
    assert is_released("pixels") and not FEATURES._by_code
    FEATURES.register("scratch")(pixels)
    try:
        assert not is_released("scratch")
    finally:
        FEATURES.forget({"scratch"})


def test_every_score_states_how_it_was_made(split_model, samplers, splits, pixels):
    for entry in run(split_model, samplers, splits, config(PIXELS, {**PIXELS, "name": "kid"}))["scores"]:
        assert entry["weights_sha256"] == "none" and entry["seed"] == 0
        assert entry["protocol"]["name"] == "pixels" and entry["resize"] is None
        assert entry["versions"].keys() >= {"genzoo", "torch", "pillow", "python"}
        assert len(entry["reference_sha256"]) == 64 and entry["num_samples"] == 16 and entry["num_reference"] == 20
        assert entry["fit_split"] == ("train" if entry["generator"] == "gmm" else None)


def test_memorization_looks_at_the_training_images(split_model, samplers, splits, pixels):
    metric = {"name": "memorization", "features": "pixels"}
    for entry in run(split_model, samplers, splits, config(metric, PIXELS))["scores"]:
        train = entry["metric"] != "fd"
        assert entry["metric"] in ("memorization", "authenticity", "fd")
        assert (entry["reference"], entry["num_reference"]) == (("train", 40) if train else ("test", 20))
    with pytest.raises(UserError, match="no split 'x'"):
        run(split_model, samplers, splits, config({**metric, "split": "x"}))


def test_a_metric_is_listed_once():
    with pytest.raises(ValidationError, match="kid on efficientnet_lite0 is listed twice"):
        config({"name": "kid", "subset_size": 50}, {"name": "kid", "subset_size": 100})
    config({"name": "kid"}, {"name": "kid", "features": "inception"})
