"""Runs on several processes, through the launcher and the command line as users start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import genzoo
from genzoo.recipe import read
from genzoo.run import run
from genzoo.run_scores import evaluate_run

ROOT = Path(genzoo.__file__).parent.parent
TINY = [
    "svae_digits", "data.size=16", "model.encoder.base_dim=2", "model.encoder.num_scales=2", "model.encoder.embed_dim=8",
    "model.latent.dim=3", "model.head.decoder.base_dim=2", "train.batch_size=12", "train.log_every=2",
    "train.checkpoint_every=2", "train.panel_every=0", "evaluation.metrics=[]", "samplers=[prior]",
]  # fmt: skip


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node"]
# --cpu starts a single process; without it and without a GPU, the processes find out that they are on CPUs.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0", "--num_processes"]


def start(*words, num=2, launcher=TORCHRUN, program=("-m", "genzoo")):
    command = [sys.executable, "-m", *launcher, str(num), *program, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def lines(folder):
    file = folder / "train.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for a process in /proc")
def test_a_process_that_dies_ends_the_run_which_goes_on_with_another_number(tmp_path):
    folder = tmp_path / "run"
    process = start("run", *TINY, "train.steps=100000", "--out", folder)
    while len(lines(folder)) < 3 and process.poll() is None:
        time.sleep(0.05)
    if process.poll() is not None:
        pytest.fail(end(process)[2])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(
        int(next(pid for pid in children if "\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_text())), signal.SIGKILL
    )
    code, out, err = end(process)
    assert code != 0 and not out
    assert err.count("another process of this run has ended") == 1
    assert f"go on with: genzoo run {folder}/recipe.yaml --out {folder} --resume" in err
    done = lines(folder)[-1]["step"]

    code, _, err = end(
        start("run", *TINY, "train.steps=100000", "--out", folder)
    )  # one message, whatever the number of processes
    assert code != 0 and err.count("exists: --resume goes on with that run") == 1

    steps = done + 7
    run(read(TINY[0], [*TINY[1:], f"train.steps={steps}"]), folder, resume=True)
    code, out, err = end(start("run", *TINY, f"train.steps={steps + 6}", "--out", folder, "--resume"))
    assert code == 0, err
    assert out.count("svae_digits: ") == 1
    logged = [line["step"] for line in lines(folder)]
    assert logged == sorted(set(logged)) and logged[-1] == steps + 6
    assert json.loads((folder / "metrics.json").read_text())["train"]["steps"] == steps + 6
    assert json.loads((folder / "lock.json").read_text())["num_processes"] == 2
    assert genzoo.load(folder).image_shape == (1, 16, 16)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for threads in /proc")
def test_no_thread_of_gloo_outlives_the_work(tmp_path):
    """One that frees its last tensors while the interpreter ends would abort a process that has done everything."""
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, os, sys\n"
        "from pathlib import Path\n"
        "from genzoo.launch import launched\n"
        "def count(when):\n"
        "    num = sum('gloo' in file.read_text() for file in Path('/proc/self/task').glob('*/comm'))\n"
        "    Path(sys.argv[1], when + os.environ['RANK']).write_text(str(num))\n"
        "atexit.register(count, 'after')\n"
        "for _ in range(2):\n"  # one run after the other, in one program
        "    launch = launched()\n"
        "    with launch.ends_as_one():\n"
        "        with launch.first('place'):\n"
        "            import torch.distributed.nn.functional\n"
        "        torch.distributed.all_reduce(torch.ones(3))\n"
        "count('before')\n"
    )
    code, _, err = end(start(tmp_path, program=[str(program)]))
    assert code == 0, err
    for rank in "01":
        assert int((tmp_path / f"before{rank}").read_text()) > 0
        assert int((tmp_path / f"after{rank}").read_text()) == 0


def test_shares_of_the_weights_come_together_in_the_run_folder(tmp_path):
    """Trained on two processes, each with a share of the weights, which are whole when they are scored and loaded."""
    folder = tmp_path / "run"
    options = ["evaluation.num_samples=11", "evaluation.num_reference=11", "evaluation.metrics=[fd]", "train.steps=4",
               "evaluation.allow_few=true", "train.panel_every=2", "train.parallel=fsdp", "train.ema=0.9"]  # fmt: skip
    code, out, err = end(start("run", *TINY, *options, "--out", folder, launcher=ACCELERATE))
    assert code == 0, err
    assert out.count("svae_digits: ") == 1
    assert json.loads((folder / "lock.json").read_text())["num_processes"] == 2
    assert (folder / "panels" / "step-00000002_sample.png").is_file()
    scores = json.loads((folder / "metrics.json").read_text())["scores"]
    again = evaluate_run(folder)["scores"]  # alone, with the weights of the checkpoint
    assert [score["value"] for score in again] == pytest.approx([score["value"] for score in scores], rel=1e-6)


SLOW = """
import time
from datetime import timedelta
import torch.distributed
from genzoo.cli import main
from genzoo.evaluation import evaluate, scorer

extract, scores = evaluate.extract, scorer.Measure.scores

def then_impatient(*words):
    made = extract(*words)
    torch.distributed.set_timeout(timedelta(seconds=5))
    return made

def slow(self, *words):
    scorer.Measure.scores = scores
    time.sleep(8)
    return scores(self, *words)

evaluate.extract, scorer.Measure.scores = then_impatient, slow
main()
"""


def test_processes_share_an_evaluation_and_change_no_value(tmp_path):
    """The main one scores alone; the others wait for it longer than collectives would let them."""
    folder = tmp_path / "run"
    options = ["evaluation.num_samples=11", "evaluation.num_reference=11", "evaluation.batch_size=2",
               "evaluation.metrics=[fd,kid]", "evaluation.allow_few=true", "samplers=[prior,gmm]"]  # fmt: skip
    run(read(TINY[0], [*TINY[1:], "train.steps=2"]), folder)
    alone = evaluate_run(folder, tuple(options))
    (folder / "samplers" / "gmm.safetensors").unlink()
    (program := tmp_path / "slow.py").write_text(SLOW)
    code, out, err = end(start("eval", folder, *options, num=3, program=[str(program)]))
    assert code == 0, err
    assert out.count("svae_digits: ") == 1
    shared = json.loads((folder / "metrics.json").read_text())
    assert len(shared["scores"]) == len(alone["scores"]) == 2 * 3 * 4
    for one, other in zip(alone["scores"], shared["scores"], strict=True):
        assert other.pop("value") == pytest.approx(one.pop("value"), rel=1e-6)
        assert (other.pop("standard_error", 0) or 0) == pytest.approx(one.pop("standard_error", 0) or 0, rel=1e-6)
        assert one == other
    assert shared["split"] == alone["split"] and shared["train"] == alone["train"]
    assert shared["latent"] == alone["latent"]
