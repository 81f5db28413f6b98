"""Runs command lines one after another in this process, told over its standard input: what came of each, at what cost.

A line in: {"commands": [[word, ...], ...]}. A line out: {"outcome": "accepted" | "refused" | "fault", "text", "seconds",
"megabytes"}; the megabytes are what was held at the highest above what was held before.
"""

import contextlib
import io
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

MAX_HELD = 640 << 20  # of parts, so that what is accepted stays below what an attack may cost
MAX_BYTES = 8 << 30  # beyond that an allocation fails, so that no attack harms the machine


def held(key: str) -> float:
    """Megabytes: VmRSS now, VmHWM at the highest."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def run(commands: list[list[str]], cli) -> dict:
    import click

    from genzoo.errors import UserError, refusal

    Path("/proc/self/clear_refs").write_text("5")  # the highest is counted from here
    before, began = held("VmRSS"), time.process_time()  # not the clock: others may want the cores, too
    outcome, text = "accepted", ""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for words in commands:
                cli(words, prog_name="genzoo", standalone_mode=False)
    except (UserError, click.ClickException) as error:
        outcome, text = "refused", str(error)
        if not text.strip() or not all(one == "\n" or one.isprintable() for one in text):
            outcome = "fault"
    except OSError as error:  # as the command line tells it
        outcome, text = "refused" if error.errno and error.filename else "fault", refusal(error)
    except SystemExit as end:  # such as that two recipes differ
        outcome, text = "accepted" if end.code in (None, 0, 1) else "fault", f"exit code {end.code}"
    except BaseException:
        outcome, text = "fault", traceback.format_exc()
    seconds, megabytes = time.process_time() - began, held("VmHWM") - before
    return {"outcome": outcome, "text": text[-3000:], "seconds": seconds, "megabytes": megabytes}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    import torch  # noqa: F401 - what is imported once is no attack's cost

    from genzoo import budget, tracing
    from genzoo.cli import cli
    from genzoo.registry import FEATURES, Entry
    from genzoo.testing.features import Pixels

    FEATURES._builtin["pixels"] = Entry("pixels", Pixels, "genzoo")
    for module in (budget, tracing):  # a machine that small; what is held is then what was not refused
        module.memory = lambda: MAX_HELD
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line)["commands"], cli)), file=answers, flush=True)


if __name__ == "__main__":
    main()
