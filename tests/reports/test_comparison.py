"""Several runs on one page: differences first, pictures of the same images, ranks and spreads only where they hold."""

import json
import shutil
from statistics import fmean, stdev

import numpy as np
import pytest

from genzoo.reports.facts import read
from genzoo.reports.walls import walls_beside


@pytest.fixture
def compared(call, page_of, tmp_path):
    """compared(folder, ...): the page of these runs."""

    def make(*folders):
        code, _, err = call("compare", *folders, "--html", "page.html")
        assert code == 0, err
        return page_of(tmp_path / "page.html")

    return make


def rows(page, heading):
    """The text after a heading, up to the next section."""
    return page.text.partition(heading)[2].partition("Spread over seeds" if heading == "Scores" else "Pictures")[0]


def test_the_recipes_differ_only_where_they_do(runs, compared):
    page = compared(runs["split"], runs["plain"])
    assert "2 runs" in page.text and "model.head.name" in page.text and "single" in page.text
    assert "model.encoder.base_dim" not in page.text, "what is equal is not shown"
    assert page.text.index("What differs") < page.text.index("Spread") if "Spread" in page.text else True
    assert page.text.index("What differs") < page.text.index("A row a run")


def test_the_page_is_self_contained_and_small(runs, compared, tmp_path):
    page = compared(*runs.values())
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    assert "http" not in page.source.replace("http-equiv", "")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_pictures_are_of_the_same_images_and_latents(runs):
    folders = {name: runs[name] for name in ("split", "again", "plain")}
    walls, notes = walls_beside(folders)
    reconstruction, prior = walls
    assert notes == [] and reconstruction.rows == ["x", "split", "again", "plain"]
    assert prior.rows == ["split", "again", "plain"] and "the same latents" in prior.about
    columns = len(reconstruction) // 4
    x = reconstruction.parts["y"][:columns]
    from genzoo.evaluation.images import Spread
    from genzoo.preparation import build_used, prepare_splits
    from genzoo.recipe import read as read_recipe

    recipe = read_recipe(runs["plain"] / "recipe.yaml")
    test = prepare_splits(build_used(recipe), recipe)["test"].images
    assert (x == np.asarray(Spread(test, columns)[:])).all()
    assert (reconstruction.parts["y1"][:columns] == x).all(), "the first row stays as parts are switched"
    blank = reconstruction.parts["y1"][3 * columns :]
    assert (blank == blank[:1]).all() and not (reconstruction.parts["y"][3 * columns :] == blank).all()


def test_runs_on_other_images_are_left_out_and_said(runs, compared):
    page = compared(runs["split"], runs["faces"])
    assert "faces is not among the pictures: its images are not those of split" in page.text


def test_ranks_stand_only_where_protocols_are_equal(copy, runs, compared):
    def other(metrics):
        for entry in metrics["scores"]:
            if entry["generator"] == "prior":
                entry["num_samples"] = 99

    page = compared(runs["split"], copy("again", other, "again"))
    assert page.text.count("(best)") == 4, "y, y1, y2 and mix of reconstructions"
    assert "≠ num_samples: split 4; again 99" in page.text
    assert "prior, y" not in rows(page, "Spread over seeds"), "what was made differently has no spread either"


def test_rate_and_distortion_are_a_point_a_run(copy, runs, compared):
    def scored(rate, distortion, **protocol):
        made = {"features": "", "generator": "model", "part": "y", **protocol}

        def edit(metrics):
            pairs = (("rate", rate), ("distortion", distortion))
            metrics["scores"] += [{**made, "metric": name, "value": value} for name, value in pairs]

        return edit

    one, other = copy("split", scored(25.0, 0.03), "one"), copy("plain", scored(75.0, 0.01), "other")
    page = compared(one, other, runs["again"])
    dots = {attrs["class"]: attrs for attrs in page.all("circle") if attrs["class"].startswith("point")}
    assert dots.keys() == {"point c0", "point c1"}, "a run without these scores has none"
    assert float(dots["point c0"]["cx"]) < float(dots["point c1"]["cx"])
    assert float(dots["point c0"]["cy"]) < float(dots["point c1"]["cy"])
    assert "Rate against distortion" in page.text and "one: 0.03 at rate, nats per image 25" in page.text
    strange = copy("plain", scored(75.0, 0.01, num_reference=5), "strange")
    assert "Rate against distortion" not in compared(one, strange).text, "what was made differently"
    assert "Rate against distortion" not in compared(runs["split"], runs["again"]).text


def test_the_spread_is_over_runs_that_differ_in_the_seed_alone(runs, compared):
    page = compared(runs["split"], runs["again"], runs["plain"])
    values = [
        next(e["value"] for e in read(runs[name]).scores() if (e["generator"], e["part"]) == ("prior", "y"))
        for name in ("split", "again")
    ]
    assert "2 runs, seeds 0, 7" in page.text and "1 run, seed 0" in page.text
    assert f"{fmean(values):.4g} ± {stdev(values):.2g}" in page.text


def test_without_repetitions_there_is_no_spread(runs, compared):
    assert "Spread over seeds" not in compared(runs["split"], runs["plain"]).text


def test_a_run_without_scores_or_model_has_its_place(interrupted, runs, compared):
    shutil.rmtree(interrupted / "checkpoints")
    page = compared(runs["split"], interrupted)
    assert "interrupted at step 2 of 3" in page.text and "interrupted is not among the pictures" in page.text


def test_user_text_is_shown_as_text(copy, runs, compared):
    nasty = "<script>alert('x')</script>"

    def rename(metrics):
        for entry in metrics["scores"]:
            entry |= {"generator": nasty, "reference_sha256": nasty}

    folder = copy("again", rename, "<b>run & 'co'")
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: again", f"name: {json.dumps(nasty)}"))
    page = compared(runs["split"], folder)
    assert (len(page.all("script")) == 1 and not page.all("b")) or all(not attrs for attrs in page.all("b"))
    assert nasty in page.text and "<b>run & 'co'" in page.text
