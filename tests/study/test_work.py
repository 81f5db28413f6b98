"""Studies of tiny runs: killed and gone on with, shared out, failing in one cell, with a third party's decoder."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from genzoo.errors import UserError
from genzoo.study.cells import expand
from genzoo.study.study import read
from genzoo.study.work import Place, Work, environment, threads_of

TINY = """\
name: tiny
seeds: [0]
edits:
  model.encoder.base_dim: 2
  model.head.decoder.base_dim: 2
  train.steps: 3
  train.batch_size: 8
  samplers: [prior]
  evaluation.num_samples: 4
  evaluation.num_reference: 4
  report: false
arms: {split: svae_digits, plain: vae_digits}
"""
DECODER = """\
import math
from torch import nn
import genzoo

@genzoo.DECODERS.register("third/party")
class Decoder(nn.Module):
    class Config(genzoo.Config):
        pass

    def __init__(self, config, in_shape, out_shape):
        super().__init__()
        dense = nn.Linear(math.prod(in_shape), math.prod(out_shape))
        self.layers = nn.Sequential(nn.Flatten(), dense, nn.Unflatten(1, out_shape))

    def forward(self, features):
        return self.layers(features)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def begun(*words):
    command = [sys.executable, "-m", "genzoo", "study", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(file):
    """Until something is written in it: a log is opened before its first step."""
    end = time.monotonic() + 100
    while not file.is_file() or not file.stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.02)


def events(folder):
    return [json.loads(line) for line in (folder / "study.jsonl").read_text().splitlines()]


def scores(facts):
    return {file.stem: json.loads(file.read_text())["scores"] for file in sorted(facts.rglob("*.json"))}


def test_a_killed_study_goes_on_and_two_shards_are_one(folder, call, caplog):
    one = begun("tiny.yaml")
    wait_for(folder / "runs/tiny/tiny/plain_seed=0/recipe.yaml")
    one.kill()  # no chance to tell its second run, which goes on alone
    one.wait()
    assert len(scores(folder / "facts")) == 1
    code, out, _ = call("study", "tiny.yaml")
    assert code == 0 and "2 of 2 cells are done" in out
    assert "1 of 2 cells are done already" in caplog.text
    assert [event["cell"] for event in events(folder / "runs/tiny")] == ["tiny/split_seed=0"]  # nothing twice
    whole = scores(folder / "facts")
    assert len(whole) == 2 and all(whole.values())
    caplog.clear()
    assert call("study", "tiny.yaml")[0] == 0
    assert "2 of 2 cells are done already" in caplog.text and "begins" not in caplog.text
    for shard in ("2/2", "1/2"):  # from scratch, elsewhere
        code, out, _ = call("study", "tiny.yaml", "--shard", shard, "--repeat", f"again-{shard[0]}")
        assert code == 0 and "0.00% from its facts" in out and "within" in out
        assert len(events(folder / f"again-{shard[0]}")) == 1
    assert scores(folder / "again-1/facts") | scores(folder / "again-2/facts") == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_study_saves_the_step_in_hand_and_goes_on_from_it(folder, call, number):
    (folder / "long.yaml").write_text(
        TINY.replace("steps: 3", "steps: 100000\n  train.log_every: 1").replace(", plain: vae_digits", "")
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does to what it starts in the background
    one, run = begun("long.yaml"), folder / "runs/tiny/tiny/split_seed=0"
    signal.signal(signal.SIGINT, before)
    wait_for(run / "train.jsonl")
    one.send_signal(number)
    _, err = one.communicate(timeout=60)
    assert one.returncode == 130 and "go on with: genzoo study long.yaml" in err
    rows = json.loads(call("study", "long.yaml", "--plan", "--json")[1])
    assert [row["state"] for row in rows] == ["begun"] and rows[0]["step"] > 0
    assert list((run / "checkpoints").glob("step-*")) and events(folder / "runs/tiny")[0]["exit"] == 130


def test_a_cell_fails_alone_and_is_said_so(folder, call):
    code = DECODER.replace("third/party", "third/failing")
    (folder / "mine.py").write_text(
        code.replace(
            "        return",
            "        if not features.is_meta:\n            raise RuntimeError('no luck')\n        return",
        )
    )
    (folder / "tiny.yaml").write_text(study_of_decoders("third/failing", "mlp"))
    bad, good = (f"tiny/vae_digits_model.head.decoder.name={name}_seed=0" for name in ("third-failing", "mlp"))
    code, out, err = call("study", "tiny.yaml")
    assert code == 1 and "1 of 2 cells are done" in out
    assert f"failed: {bad}: exit 1: genzoo: failed: RuntimeError: no luck" in err
    rows = {row["cell"]: row for row in json.loads(call("study", "tiny.yaml", "--plan", "--json")[1])}
    assert rows[bad]["state"] == "failed" and "no luck" in rows[bad]["reason"]
    assert rows[good]["state"] == "done"


def test_a_third_partys_decoder_has_its_row_by_its_name_alone(folder, call):
    """And a program that scores more of each run is asked after it."""
    (folder / "mine.py").write_text(DECODER)
    (folder / "more.py").write_text(
        "import json, sys\n"
        "made = json.load(open(sys.argv[1] + '/metrics.json'))\n"
        "print(json.dumps({'scores': [{**one, 'part': one['part'] + sys.argv[2]} for one in made['scores']]}))\n"
    )
    table = "{title: All, where: {metric: fd, generator: prior}, rows: [model.head.decoder.name], columns: [part]}"
    more = f"after: [more.py +more]\ntables: [{table}]\n"
    (folder / "tiny.yaml").write_text(study_of_decoders("mlp", "third/party") + more)
    code, _, err = call("study", "tiny.yaml")
    assert code == 0, err
    assert call("study", "tiny.yaml", "--table")[1] == "tiny.md\n"
    rows = [line for line in (folder / "tiny.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[0] == "| model.head.decoder.name | y | y+more |"
    assert rows[2].startswith("| mlp | ") and rows[3].startswith("| third/party | ")
    first, second = (cell.strip() for cell in rows[3].split("|")[2:4])
    assert float(first) == float(second)
    assert "n = 1: no intervals" in (folder / "tiny.md").read_text()
    runs = [event for event in events(folder / "runs/tiny") if event["step"] == "run"]
    (folder / "tiny.yaml").write_text(study_of_decoders("mlp", "third/party") + more.replace("+more", "+other"))
    assert call("study", "tiny.yaml")[0] == 0  # another program after it: the runs are not made again
    assert [event for event in events(folder / "runs/tiny") if event["step"] == "run"] == runs
    assert call("study", "tiny.yaml", "--table")[0] == 0 and "y+other" in (folder / "tiny.md").read_text()


def study_of_decoders(*names):
    text = TINY.replace("  model.head.decoder.base_dim: 2\n", "")
    axis = f"matrix: {{model.head.decoder.name: [{', '.join(names)}]}}"
    return text.replace(
        "arms: {split: svae_digits, plain: vae_digits}", f"recipe: vae_digits\n{axis}\nplugins: [mine.py]"
    )


def test_a_cell_that_another_process_has_in_hand_is_left_alone(folder):
    study, path, origins = read(folder / "tiny.yaml")
    place = Place(path, folder / "runs", folder / "facts")
    cells = expand(study, path, origins)
    one, other = Work(cells, place, 1), Work(cells, place, 1)
    job = one._taken(cells[0], [])
    child = subprocess.Popen(["sleep", "100"], pass_fds=[job.lock.fileno()])
    job.lock.close()  # the study dies, what it has begun lives
    assert other._taken(cells[0], []) is None and other._taken(cells[1], [])
    child.kill()
    child.wait()
    assert other._taken(cells[0], [])


def test_jobs_share_the_cores_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [threads_of(jobs) for jobs in (1, 2, 3, 8)] == [8, 4, 2, 1]
    with pytest.raises(UserError, match="--jobs 9: there are 8 cores"):
        threads_of(9)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_of(jobs) for jobs in (1, 2, 4)] == [3, 3, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    made = [environment(slot, 3, 2) for slot in range(3)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in made] == ["4", "6", "4"] and made[0]["OMP_NUM_THREADS"] == "2"
