"""Tiny runs to write pages about; tests copy what they change."""

import json
import shutil
from html.parser import HTMLParser

import pytest

from genzoo.recipe import read

TINY = [
    "train.steps=3", "train.batch_size=4", "train.log_every=1", "train.checkpoint_every=1", "train.panel_every=3",
    "train.precision=fp32", "evaluation.num_samples=4", "evaluation.num_reference=6", "evaluation.allow_few=true",
    "evaluation.metrics=[fd]", "samplers=[prior]", "model.encoder.base_dim=2", "model.encoder.embed_dim=8",
    "model.latent.dim=3", "model.head.decoder.base_dim=2",
]  # fmt: skip
FACES = ["data={name: faces, num_train: 12, num_test: 6, size: 32}"]


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self._in = [], [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if not self._in:
            self.texts.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture
def page_of():
    """page_of(path): the page as a test reads it."""
    return Page


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """name -> a run: split and again (another seed; one channel), faces (split, three channels), plain, codes."""
    from genzoo.run import run

    root = tmp_path_factory.mktemp("runs")
    run(read("svae_digits", TINY), root / "split")
    run(read("svae_digits", [*TINY, *FACES, "seed=1"]), root / "faces")
    run(read("vae_digits", TINY), root / "plain")
    run(read("svae_digits", [*TINY, "seed=7", "name=again", "report=false"]), root / "again")
    words = [word for word in TINY if word != "model.latent.dim=3"]
    run(read("svae_digits", [*words, "model.latent={name: vq, num_codes: 16, dim: 4}"]), root / "codes")
    return {name: root / name for name in ("split", "again", "faces", "plain", "codes")}


@pytest.fixture
def copy(runs, tmp_path):
    """copy("split"): a run of one's own, with `edit` made to its metrics.json."""

    def make(name, edit=None, to="run"):
        folder = shutil.copytree(runs[name], tmp_path / to)
        if edit:
            metrics = json.loads((folder / "metrics.json").read_text())
            edit(metrics)
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make


@pytest.fixture
def interrupted(copy):
    """A run that ended at step 2 of 3, and was never scored."""
    folder = copy("split", to="interrupted")
    (folder / "metrics.json").unlink()
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "checkpoints" / "step-00000003")
    lines = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[:2]))
    return folder
