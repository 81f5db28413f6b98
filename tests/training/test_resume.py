import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genzoo.training.checkpoint import newest
from genzoo.training.trainer import Trainer

SETTINGS = [
    {},
    {"ema": None, "grad_accumulation": 2, "clip_grad_norm": 1.0, "optimizer": {"name": "sgd", "momentum": 0.8}},
    {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "schedule": {"name": "cosine", "warmup_steps": 5}},
    {"precision": "bf16", "on_nonfinite": "skip", "optimizer": {"name": "lamb"}},
    {"channels_last": False, "compile": "off", "optimizer": {"name": "adafactor"}, "schedule": {"name": "poly"}},
]


def outcome(folder):
    """Everything that an undisturbed run and a resumed one must share, bit for bit."""
    last = newest(folder)
    tensors = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
    state = json.loads((last / "state.json").read_text())
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for timed in [state, *lines]:
        timed.pop("seconds"), timed.pop("images_per_s", None)
    return tensors, state, lines


class Killed(Exception):
    pass


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_killed_and_resumed_equals_undisturbed(tmp_path, run, monkeypatch, settings):
    settings = {"checkpoint_every": 3, **settings}
    model, _, _ = run(tmp_path / "whole", **settings)
    clip = Trainer._clip
    for kill in (1, 2, 7, 9, 18):

        def dying(self, kill=kill):
            if self.state.done == kill:  # gradients are computed, nothing is saved
                raise Killed
            return clip(self)

        monkeypatch.setattr(Trainer, "_clip", dying)
        with pytest.raises(Killed):
            # Before the first checkpoint the recipe's seed makes the weights; afterwards only the checkpoint may.
            run(tmp_path / "killed", resume=True, model_seed=0 if kill < 9 else kill, **settings)
    monkeypatch.undo()
    resumed, _, _ = run(tmp_path / "killed", resume=True, model_seed=99, **settings)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    weights, expected = resumed.state_dict(), model.state_dict()
    assert all(weights[name].equal(expected[name]) for name in expected)


def test_sigkill(tmp_path, run):
    settings = {"steps": 120, "checkpoint_every": 1, "log_every": 7}
    command = [sys.executable, str(Path(__file__).with_name("conftest.py")), str(tmp_path / "killed")]
    command += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    kills = 0
    for seen in (1, 40, 80):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        while process.poll() is None and not any((tmp_path / "killed/checkpoints").glob(f"*step-{seen:08d}")):
            time.sleep(0.0005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
    assert kills
    run(tmp_path / "killed", resume=True, **settings)
    run(tmp_path / "whole", **settings)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
