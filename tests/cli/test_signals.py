import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from genzoo import cli, run
from genzoo.run_folder import RunFolder

def waits(*_, **__):
    with RunFolder("runs/x").said_how_to_go_on():
        print("ready", flush=True)
        time.sleep(60)

run.run = waits
sys.argv = ["genzoo", "run", "svae_digits"]
cli.main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_a_signal_outside_training_ends_with_the_way_to_go_on(tmp_path, name):
    alone = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=alone, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "genzoo: interrupted" in said and "go on with: genzoo run" in said and "Traceback" not in said


def test_it_is_130_also_out_of_what_an_import_executes(tmp_path):
    """A dataclass is made by `exec`, after which Python would have `python -m` end by the signal itself."""
    (tmp_path / "made.py").write_text("exec('import time; print(\"ready\", flush=True); time.sleep(60)')")
    (tmp_path / "program.py").write_text(PROGRAM.replace("    with RunFolder", "    import made\n    with RunFolder"))
    alone = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "program"], cwd=tmp_path, env=alone, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "genzoo: interrupted" in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_a_signal_when_all_is_done_changes_no_exit_code(tmp_path, name):
    (tmp_path / "program.py").write_text(
        f"import atexit, os, signal, sys\n"
        f"atexit.register(lambda: os.kill(os.getpid(), signal.{name}))\n"  # the first that is registered is the last
        f"from genzoo import cli\n"
        f"sys.argv = ['genzoo', 'list', 'latents']\n"
        f"cli.main()\n"
    )
    alone = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    done = subprocess.run([sys.executable, "-m", "program"], cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0 and "gaussian" in done.stdout and not done.stderr
