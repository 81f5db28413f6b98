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
