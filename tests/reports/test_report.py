"""A run's report: what is in it, what it says where something is missing, and that nothing in it is believed."""

import json
import re
import shutil

import pytest

from genzoo.reports.report import report
from genzoo.reports.walls import walls

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)> \' & Жук 🎲'


@pytest.fixture
def written(page_of):
    """written(folder, **options): the report of a run, written anew."""
    return lambda folder, **options: page_of(report(folder, lambda: walls(folder), **options))


def test_a_run_leaves_a_page_with_everything_in_it(runs, page_of):
    path = runs["split"] / "report.html"
    page = page_of(path)
    assert path.stat().st_size < 5_000_000
    assert not re.search(r"(src|href)=\"(?!data:|#)", page.source)
    assert "url(http" not in page.source and "@import" not in page.source
    for said in ("finished", "Reconstructions", "Samples: prior", "Traversals", "fd on efficientnet_lite0 features", "The split",
                 "variance law", "learning rate", "latent: name: gaussian dim: 3", "lock.json", "genzoo run"):  # fmt: skip
        assert said in page.text or said in page.source, said
    value = next(e["value"] for e in json.loads((runs["split"] / "metrics.json").read_text())["scores"])
    assert f"{value:.2f}" in page.text
    assert {attrs["data-part"] for attrs in page.all("div") if "data-part" in attrs} == {"x", "y", "y1", "y2", "sigma"}


def test_every_picture_says_what_is_seen(runs, page_of):
    for name in ("split", "faces", "plain", "codes"):
        page = page_of(runs[name] / "report.html")
        assert all(attrs.get("alt") for attrs in page.all("img"))
        assert all(len(attrs["aria-label"]) > 20 for attrs in page.all("svg"))
        assert all("images" in attrs["aria-label"] for attrs in page.all("div") if attrs.get("role") == "img")


def test_identifiers_are_unique(runs, page_of):
    ids = [attrs["id"] for _, attrs in page_of(runs["faces"] / "report.html").tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_a_plain_run_has_no_split_and_one_part(runs, page_of):
    page = page_of(runs["plain"] / "report.html")
    assert "The split" not in page.text and "#split" not in page.source
    assert {attrs["data-part"] for attrs in page.all("div") if "data-part" in attrs} == {"x", "y"}


def test_report_false_writes_none_and_the_command_does(copy, call, page_of):
    folder = copy("plain")
    (folder / "report.html").unlink()
    code, _, err = call("eval", folder)
    assert code == 0 and (folder / "report.html").is_file(), err
    (folder / "report.html").unlink()
    (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text().replace("report: true", "report: false"))
    code, _, err = call("eval", folder)
    assert code == 0 and not (folder / "report.html").exists(), err
    code, out, err = call("report", folder, "--out", "here.html")
    assert (code, out.strip()) == (0, "here.html"), err
    assert "finished" in page_of(folder.parent / "here.html").text


def test_an_interrupted_run(interrupted, written):
    page = written(interrupted)
    assert "interrupted at step 2 of 3" in page.text
    assert "no scores yet" in page.text and "genzoo eval" in page.text and "--resume" in page.text
    assert "Samples: prior" in page.text, "its newest checkpoint is drawn"


def test_without_a_checkpoint_the_panels_are_shown_and_the_reason_said(interrupted, written):
    shutil.rmtree(interrupted / "checkpoints")
    page = written(interrupted)
    assert "The model cannot be used here" in page.text and "Panels of this run" in page.text
    assert page.all("img")


def test_a_part_that_is_not_installed(copy, written):
    folder = copy("split")
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("name: resnet", "name: absent", 1))
    page = written(folder)
    assert "The recipe cannot be used here" in page.text and "absent" in page.text
    assert "name: absent" in page.text, "the recipe is shown as it stands"


def test_skipped_scores_say_why(copy, written):
    def skip(metrics):
        for entry in metrics["scores"]:
            if entry["generator"] == "prior":
                entry |= {"value": None, "skipped": f"no weights {NASTY}", "part": "y"}

    page = written(copy("split", skip))
    assert f"skipped: no weights {NASTY}" in page.text and "score(s) skipped" in page.text


def test_user_text_is_shown_as_text(copy, page_of, written):
    def rename(metrics):
        metrics["name"] = NASTY
        metrics["split"]["kind"] = NASTY
        for entry in metrics["scores"]:
            entry |= {"metric": NASTY, "features": NASTY, "note": NASTY, "few": NASTY}
            entry["generator"] += NASTY

    folder = copy("split", rename)
    clean = len(page_of(folder / "report.html").all("script"))
    lock = json.loads((folder / "lock.json").read_text()) | {"command": ["genzoo", NASTY], "device": NASTY}
    (folder / "lock.json").write_text(json.dumps(lock))
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text(
        "\n".join(json.dumps({**json.loads(line), NASTY: k}) for k, line in enumerate(lines))
    )
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("base_dim: 2", f"base_dim: {json.dumps(NASTY)}", 1))
    page = written(folder)
    assert len(page.all("script")) == clean and not any("onerror" in attrs for _, attrs in page.tags)
    assert page.text.count(NASTY) > 5
    assert "sha256-" in page.all("meta")[2]["content"], "a script that got in would not run"


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{",
        "",
        '{"scores": 3}',
        '{"scores": [{}]}',
        '{"latent": []}',
        '{"split": 1, "train": "x"}',
        '{"train": {"steps": "x"}}',
    ],
)
def test_a_damaged_metrics_file_is_told_not_met(copy, call, text, page_of):
    folder = copy("plain")
    (folder / "metrics.json").write_text(text)
    code, _, err = call("report", folder)
    assert (code == 2 and "metrics.json" in err) or (
        code == 0 and "metrics.json" in page_of(folder / "report.html").text
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null\n",
        '{"step": 1}\n{"step": "x"}\n',
        '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.0}\n{"step": 3, "loss": 2.0}',
    ],
)
def test_a_damaged_log_is_told(copy, text, written):
    folder = copy("plain")
    (folder / "train.jsonl").write_text(text)
    assert "Training" in written(folder).text


def test_a_folder_that_is_no_run(call, tmp_path):
    code, _, err = call("report", tmp_path)
    assert code == 2 and "not a run folder" in err


def test_the_floor_stands_beside_equal_protocols_only(copy, written):
    folder = copy("split")
    scores = json.loads((folder / "metrics.json").read_text())["scores"]
    floor = {**scores[0], "generator": "digits:train", "value": 0.125}
    page = written(folder, floor=[floor])
    assert "floor: digits:train" in page.text and "0.12" in page.text and "not comparable" not in page.text
    page = written(folder, floor=[{**floor, "num_samples": 7}])
    assert "not comparable: num_samples 4 here, 7 there" in page.text


def test_a_twin_stands_beside(copy, runs, written):
    page = written(copy("split"), twin=runs["plain"])
    assert "vae_digits: prior" in page.text and "not comparable" not in page.text


def test_a_prior_that_is_no_standard_normal_has_no_variance_law(copy, written):
    def unlawful(metrics):
        metrics["latent"] |= {"variance_law": None, "inactive_by_mean_variance": None}
        metrics["latent"] |= {"inactive_by_posterior_variance": None}

    page = written(copy("split", unlawful))
    assert "variance law" not in page.text and "variance of the mean, over images" in page.text


def test_codes_in_use_are_shown(runs, page_of):
    page = page_of(runs["codes"] / "report.html")
    (level,) = json.loads((runs["codes"] / "metrics.json").read_text())["latent"]["codebook"]
    assert f"{level['num_used']} of 16 codes in use, perplexity {level['perplexity']:.1f}" in page.text
    assert "Traversals" not in page.text and "inactive:" not in page.text
