"""What is tabulated, made bold, claimed and drawn, from facts that are made up."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from genzoo.errors import UserError
from genzoo.study.cells import expand
from genzoo.study.claims import verdicts
from genzoo.study.facts import facts_file, farthest
from genzoo.study.facts import read as read_facts
from genzoo.study.measures import mark, pivot, records
from genzoo.study.page import Page
from genzoo.study.study import Claim, facts_folder, read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

STUDY = """\
name: made_up
seeds: [0, 1, 2]
arms: {split: svae_digits, plain: vae_digits}
pages: [page.md]
claims:
  - says: y1 is nearer than y
    where: {metric: fd, generator: prior, arm: split}
    less: {part: y1}
    than: {part: y}
tables:
  - {title: By image, where: {metric: fd}, rows: [generator], columns: [arm, part], figure: true}
  - {title: Kinds, where: {metric: [split.kind, train.kl]}, rows: [arm]}
  - {title: Best, where: {metric: fd, generator: [reconstruction, best], part: y}, rows: [arm], columns: [generator]}
scatters:
  - {title: Rate, points: [arm], x: {metric: train.kl}, y: {metric: fd, generator: prior, part: y}}
pictures:
  - {title: Each kind, file: panels/prior.png, each: [split.kind], where: {arm: split}}
"""
# seed -> values, of (arm, generator, part)
FD = {
    ("split", "prior", "y"): [28.0, 28.4, 28.2],
    ("split", "prior", "y1"): [19.0, 20.0, 21.0],
    ("split", "gmm", "y"): [27.0, 27.1, 27.2],
    ("split", "gmm", "y1"): [25.0, 27.0, 29.0],
    ("split", "reconstruction", "y"): [20.0, 20.1, 20.2],
    ("plain", "prior", "y"): [27.0, 27.5, 28.0],
    ("plain", "gmm", "y"): [29.0, 29.2, 29.4],
    ("plain", "reconstruction", "y"): [19.0, 19.5, 20.5],
}
KINDS = ["semantic", "semantic", "syntactic"]


def protocol(**changed):
    return {"num_samples": 100, "num_reference": 100, "reference": "test", "protocol": {"size": 224}, **changed}


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "made_up.yaml"
    file.write_text(STUDY)
    parsed, path, origins = read(file)
    cells = expand(parsed, path, origins)
    for cell in cells:
        arm, seed = cell.dims["arm"], int(cell.dims["seed"])
        scores = [
            {"metric": "fd", "features": "lite0", "generator": g, "part": p, "value": values[seed], "protocol": 0}
            for (a, g, p), values in FD.items()
            if a == arm
        ]
        facts = {
            "cell": cell.name,
            "dims": cell.dims,
            "asked": cell.asked,
            "numbers": {"train.kl": 30.0 + seed, **({"split.kind": KINDS[seed]} if arm == "split" else {})},
            "lower": {"fd": True},
            "versions": {"genzoo": "0", "torch": "2"},
            "device": "cpu",
            "effort": {"seconds": 60.0, "jobs": 1, "threads": 1},
            "scores": scores,
            "protocols": [protocol()],
        }
        place = facts_file(tmp_path / "facts/made_up", cell)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(facts))
    return parsed, path, cells


def facts_of(study):
    return read_facts(study[1].parent / "facts/made_up", study[2])[0]


def test_the_page_holds_means_intervals_rates_and_verdicts(study):
    parsed, path, cells = study
    page = Page(parsed, path, cells, facts_of(study), [], path.parent / "runs")
    rows = {line.split("|")[1].strip(): line for line in page.whole(path) if line.startswith("| ")}
    # Student's t with 2 degrees of freedom: 4.3027 standard errors
    assert rows["prior"] == "| prior | 28.20 ± 0.50 | **20.0 ± 2.5** | 27.5 ± 1.2 |"
    assert rows["gmm"] == "| gmm | 27.10 ± 0.25 | 27.0 ± 5.0 | 29.20 ± 0.50 |"  # y1's interval holds others
    assert rows["reconstruction"] == "| reconstruction | 20.10 ± 0.25 |  | 19.7 ± 1.9 |"
    assert "2/3 (0.21–0.94)" in "\n".join(page.whole(path)) and "1/3 (0.06–0.79)" in "\n".join(page.whole(path))
    assert rows["y1 is nearer than y"] == "| y1 is nearer than y | **holds** -8.2 ± 2.3 (less in 3 of 3 pairs) |"
    assert "100 images against 100 of `test`" in "\n".join(page.whole(path))
    best = page.whole(path)[page.whole(path).index("## Best") + 4 :]
    assert best[0] == "| split | 20.10 ± 0.25 | 27.10 ± 0.25 (gmm) |" and "(prior)" in best[1]


def test_questions_are_answered_at_the_head_of_the_page(study):
    parsed, path, cells = study
    claim = parsed.claims[0].model_copy(update={"answers": "Which is nearer?"})
    other = claim.model_copy(update={"says": "gmm is", "less": {"generator": "gmm"}, "than": {"generator": "prior"},
                                     "where": {"metric": "fd", "part": "y"}, "each": ["arm"]})  # fmt: skip
    asked = parsed.model_copy(update={"claims": [claim, other]})
    lines = Page(asked, path, cells, facts_of(study), [], path.parent / "runs").whole(path)
    head = ["*Which is nearer?*", "", "- y1 is nearer than y: **holds** (less in 3 of 3 pairs)"]
    other = "- gmm is: **holds** on split (less in 3 of 3 pairs); **fails** on plain (less in 0 of 3 pairs)"
    assert lines[2:7] == [*head, other, ""]
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == "| claim | all | split | plain |" and rows[2].endswith(" (less in 3 of 3 pairs) |  |  |")
    none = Page(asked, path, cells, [], [], path.parent / "runs").whole(path)
    assert none[4] == "- y1 is nearer than y: no runs yet" and "| y1 is nearer than y | no runs yet |" in none


@pytest.mark.parametrize("name", ["flagship", "zoo"])
def test_the_committed_pages_are_those_of_the_committed_facts(name):
    parsed, path, origins = read(BENCHMARKS / f"{name}.yaml")
    cells = expand(parsed, path, origins)
    page = Page(parsed, path, cells, *read_facts(facts_folder(parsed, path), cells), path.parent / "no_runs")
    for file in page.pages:
        text = file.read_text(encoding="utf-8")
        assert text == page.filled(text, file), f"{file}: run genzoo study benchmarks/{name}.yaml --table"
    for figure, content in page.files.items():
        assert figure.read_bytes() == content, figure


def test_unequal_protocols_are_neither_ranked_nor_decided(study):
    facts = facts_of(study)
    facts[0]["scores"][1] |= {"num_samples": 99}
    dims = ["generator", "arm", "part"]
    made = pivot(records(facts, {"metric": "fd"}), dims, {}, "t")
    mark(made, dims, ["arm", "part"])
    assert not any(measure.bold for measure in made.values())
    assert {key[0] for key, measure in made.items() if measure.unlike == ("num_samples",)} == {"prior"}
    (verdict,) = verdicts(study[0].claims[0], facts)
    assert (verdict.word, verdict.reason) == ("undecided", "protocols differ in num_samples")


@pytest.mark.parametrize(
    ("less", "than", "where", "word"),
    [
        ({"part": "y"}, {"part": "y1"}, {"arm": "split", "generator": "prior"}, "fails"),
        ({"generator": "gmm"}, {"generator": "prior"}, {"arm": "split", "part": "y"}, "holds"),
        ({"generator": "gmm"}, {"generator": "prior"}, {"arm": "split", "part": "y1"}, "fails"),
        ({"part": "y1"}, {"part": "y"}, {"arm": "split", "generator": "gmm"}, "undecided"),
    ],
)
def test_a_claim_is_decided_by_pairs_of_a_seed(study, less, than, where, word):
    claim = Claim(says="so", where={"metric": "fd", **where}, less=less, than=than)
    (verdict,) = verdicts(claim, facts_of(study))
    assert verdict.word == word and verdict.difference.num == 3


def test_a_claim_of_few_or_ambiguous_runs(study):
    facts, claim = facts_of(study), study[0].claims[0]
    kinds = claim.model_copy(update={"where": {**claim.where, "split.kind": "syntactic"}})
    (verdict,) = verdicts(kinds, facts)
    assert (verdict.word, verdict.difference.num, verdict.reason) == ("undecided", 1, "one pair of runs")
    with pytest.raises(UserError, match="fits several numbers"):
        verdicts(
            claim.model_copy(update={"where": {"metric": "fd"}, "less": {"generator": "gmm"}, "than": {"part": "y"}}),
            facts,
        )


def test_only_seeds_are_averaged_and_filters_know_what_there_is(study):
    with pytest.raises(UserError, match="'t': runs that differ in arm"):
        pivot(records(facts_of(study), {"metric": "fd"}), ["generator", "part"], {}, "t")
    with pytest.raises(UserError, match=r"no run has split.kin; did you mean 'split.kind'"):
        records(facts_of(study), {"split.kin": "semantic"})


def test_pages_keep_what_is_not_the_studys(study):
    parsed, path, cells = study
    run = path.parent / "runs" / cells[0].name / "panels"
    run.mkdir(parents=True)
    (run / "prior.png").write_bytes(b"picture")
    page = path.parent / "page.md"
    page.write_text("# Mine\n\n<!-- study made_up: Kinds -->\n<!-- end of study -->\nafter\n<!-- study other -->\nx\n<!-- end of study -->\n<!-- study made_up -->\n<!-- end of study -->\n")  # fmt: skip

    def written():
        return Page(parsed, path, cells, facts_of(study), [], path.parent / "runs").write()

    written()
    text = page.read_text()
    assert (
        text.startswith("# Mine\n\n<!-- study made_up: Kinds -->\n\n| arm |")
        and "after\n<!-- study other -->\nx\n" in text
    )
    for figure in ("by-image.svg", "rate.svg"):
        ElementTree.parse(path.parent / "figures" / f"made_up-{figure}")
        assert f"(figures/made_up-{figure})" in text
    assert (path.parent / "figures/made_up-each-kind-semantic.png").read_bytes() == b"picture"
    (run / "prior.png").unlink()  # from the facts alone, as on another machine
    written()
    assert page.read_text() == text
    page.write_text("# Mine\n")
    with pytest.raises(UserError, match="has no place for this study"):
        written()


def test_the_table_needs_no_torch_and_no_runs(study):
    code = (
        "import sys; sys.argv[0] = 'genzoo'\n"
        "from genzoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "study", str(study[1]), "--table"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "page.md" in done.stdout and (study[1].parent / "page.md").read_text().count("| prior |") == 1


def test_facts_of_an_earlier_study_do_not_count(study, tmp_path):
    parsed, path, cells = study
    file = facts_file(tmp_path / "facts/made_up", cells[0])
    file.write_text(json.dumps({**json.loads(file.read_text()), "asked": "other"}))
    facts, stale = read_facts(tmp_path / "facts/made_up", cells)
    assert len(facts) == 5 and stale == [cells[0].name]
    text = "\n".join(Page(parsed, path, cells, facts, stale, tmp_path).whole(path))
    assert "5 of 6 cells have ended" in text and "1 more are of an earlier form of the study" in text
    file.write_text("{}")
    with pytest.raises(UserError, match=r"seed=0.json lacks .*asked"):
        read_facts(tmp_path / "facts/made_up", cells)


def test_scores_without_a_protocol_of_features_are_compared(study):
    parsed, path, cells = study
    for number, cell in enumerate(cells):  # its place among the run's protocols is no part of how it was made
        file = facts_file(path.parent / "facts/made_up", cell)
        facts = json.loads(file.read_text())
        facts["protocols"] += [{"filler": n} for n in range(number)] + [{"num_draws": 64, "unconverged": True}]
        nll = {"metric": "nll", "features": "", "generator": "model", "part": "y", "value": 9.0, "protocol": number + 1}
        file.write_text(json.dumps({**facts, "scores": [*facts["scores"], nll]}))
    table = parsed.tables[0].model_copy(update={"where": {"metric": "nll"}, "rows": ["arm"], "columns": ["metric"]})
    text = "\n".join(Page(parsed, path, cells, facts_of(study), [], path.parent).part(table, path))
    assert "≠" not in text and "n = 3. The likelihood is a bound that still falls with more draws." in text


def test_the_farthest_score(study):
    one, other = facts_of(study)[0], facts_of(study)[0]
    other["scores"][1]["value"] *= 1.02
    assert farthest(one, one)[0] == 0
    distance, where = farthest(one, other)
    assert distance == pytest.approx(1 - 1 / 1.02) and where == "fd lite0 prior y1"
    other["scores"].pop()
    assert farthest(one, other)[0] == float("inf")
