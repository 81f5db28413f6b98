"""Signals that end a run: the step in hand is finished and saved; a second signal stops at once."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from genzoo.interrupts import ENDING

# Seconds in which a second signal is still the first one: launchers pass on what the terminal has sent to everybody.
ECHO = 1.0


def resume_command(folder: Path) -> str:
    """What goes on with the run in this folder, to be pasted into a shell."""
    return shlex.join(["genzoo", "run", str(folder / "recipe.yaml"), "--out", str(folder), "--resume"])


class Signals:
    """While entered, the first signal of ENDING only sets `received` to its name; the next one acts as it used to.

    SIGHUP that is ignored stays so: `nohup` asks for that.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Python delivers signals to the main thread only, and only there may a handler be set.
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in ENDING if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _note(self, number: int, frame: object) -> None:
        if self.received is None:
            self.received, self._at = signal.Signals(number).name, time.monotonic()
            # Not print: a handler may interrupt another write to the same stream.
            with suppress(OSError):  # a closed terminal takes no words
                os.write(2, f"\n{self.received}: finishing the step and saving; again to stop at once\n".encode())
        elif time.monotonic() - self._at > ECHO:
            self.__exit__()
            signal.raise_signal(number)
