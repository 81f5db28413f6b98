import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Container
from pathlib import Path

import pytest

from genzoo.recipe import read
from genzoo.run import run

QUICK = [
    "train.steps=2", "train.batch_size=4", "train.checkpoint_every=1", "train.panel_every=0", "train.precision=fp32",
    "evaluation.num_samples=4", "evaluation.num_reference=4", "evaluation.metrics=[]", "report=false",
    "samplers=[{name: gmm, num_components: 2}]", "model.encoder.base_dim=2", "model.encoder.embed_dim=8",
    "model.latent.dim=3", "model.head.decoder.base_dim=2",
]  # fmt: skip
SECONDS, MEGABYTES = 10, 1024  # of a core and of memory: what an attack may cost


class Attack:
    """Runs cases in a worker process that is made anew when it dies or hangs; counts and prints what came of them.

    A case is given a folder of its own and makes its files there; what appears beside it is a fault, as are a
    traceback, more than 10 s of a core, two minutes without an answer, more than 1 GB, and the worker's death.
    """

    def __init__(self, root: Path):
        self.root, self.worker = root, None
        self.kinds: dict[str, Counter[str]] = {}
        self.faults: dict[str, str] = {}

    def case(self, kind: str, name: str, folder: Path, commands: list[list[str]]) -> dict:
        before = self._beside(folder)
        answer = self.ask(commands)
        outcome = answer["outcome"]
        if answer["seconds"] > SECONDS or answer["megabytes"] > MEGABYTES:
            outcome = "fault"
        if new := self._beside(folder) - before:
            outcome, answer["text"] = "fault", f"written outside: {sorted(new)}"
        self.count(kind, name, outcome, f"{answer['seconds']:.1f} s, {answer['megabytes']:.0f} MB\n{answer['text']}")
        subprocess.run(["rm", "-rf", folder], check=True)  # shutil fails at a thousand folders in each other
        return answer

    def count(self, kind: str, name: str, outcome: str, text: str) -> None:
        self.kinds.setdefault(kind, Counter()).update([outcome, "tried"])
        if outcome == "fault":
            self.faults[f"{kind}: {name}"] = text

    def _beside(self, folder: Path) -> set[str]:
        """Everything in the attack's world but the case's own folder and the cache."""
        own = {folder, self.root / "cache"}
        return {str(path) for place in (self.root, self.root / "home") for path in place.iterdir() if path not in own}

    def ask(self, commands: list[list[str]]) -> dict:
        if self.worker is None:
            environment = {
                **os.environ,
                "GENZOO_CACHE": str(self.root / "cache"),
                "HOME": str(self.root / "home"),
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            self.worker = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("worker.py"))],
                cwd=self.root / "home",
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self.root / "cache" / "stderr").open("wb"),
                text=True,
            )
            began = self._exchange([["--version"]], 120)
            assert self.worker, f"the worker does not start: {began['text']}"
        return self._exchange(commands, 12 * SECONDS)

    def _exchange(self, commands: list[list[str]], seconds: float) -> dict:
        began = time.monotonic()
        self.worker.stdin.write(json.dumps({"commands": commands}) + "\n")
        self.worker.stdin.flush()
        ready, _, _ = select.select([self.worker.stdout], [], [], seconds)
        line = self.worker.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        self.close()
        end = "it died" if ready else "it hung"
        return {"outcome": "fault", "text": end, "seconds": time.monotonic() - began, "megabytes": 0.0}

    def close(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.communicate()
            self.worker = None

    def told(self, known: Container[str] = ()) -> str:
        """The faults that are not known, each with its place."""
        return "\n\n".join(f"{name}: {text}" for name, text in self.faults.items() if name not in known)

    def report(self) -> str:
        rows = [
            f"{kind:12} tried {n['tried']:5}  refused {n['refused']:5}  accepted {n['accepted']:5}  faults {n['fault']:3}"
            for kind, n in self.kinds.items()
        ]
        return "\n".join(rows)


@pytest.fixture
def attack(tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is measured by Linux's /proc")
    for name in ("cache", "home"):
        (tmp_path / name).mkdir()
    made = Attack(tmp_path)
    yield made
    made.close()
    print(made.report())


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a small run that has ended."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(read("vae_digits", QUICK), folder)
    assert (folder / "metrics.json").is_file() and (folder / "lock.json").is_file()
    return folder


@pytest.fixture(scope="session")
def sound(finished, tmp_path_factory):
    """Pictures, and latents of the finished run."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("sound")
    (folder / "images").mkdir()
    for k in range(4):
        Image.new("RGB", (32, 32), (k, 9, 9)).save(folder / "images" / f"{k}.png")
    np.savez(folder / "z.npz", z=np.zeros((200, 3), np.float32))
    return folder
