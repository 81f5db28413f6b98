"""Signals that end a run: the step in hand is finished and saved; a second signal stops at once."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

# Ctrl-C and an orderly end; a closed terminal; a batch system's time limit, announced (by default these two kill).
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1") if hasattr(signal, name)
)

# Seconds in which a second signal is still the first one: launchers pass on what the terminal has sent to everybody.
ECHO = 1.0


def resume_command(folder: Path) -> str:
    """What goes on with the run in this folder, to be pasted into a shell."""
    return shlex.join(["genzoo", "run", str(folder / "recipe.yaml"), "--out", str(folder), "--resume"])


def interrupt_on_signals() -> None:
    """Outside a training the signals of ENDING act as Ctrl-C does: what is open is left in order.

    SIGINT's handler is replaced whatever it was, unless it is ignored. Not in a launched process, which may sit in a
    collective where Python hears nothing: there a signal ends it at once.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        for number in ENDING:
            before = signal.getsignal(number)
            if before is signal.SIG_DFL or (number == signal.SIGINT and before is not signal.SIG_IGN):
                signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """Undo `interrupt_on_signals` when all is done: while Python ends, a signal would take the exit code's place."""
    for number in ENDING:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


class Interruption(KeyboardInterrupt):
    """Python ends a process by SIGINT, whatever it exits with, once a plain one has passed through an `exec`.

    Imports are full of those: dataclasses and named tuples are made so.
    """


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C; but leave at once while PyTorch is being imported: it takes no exception well, and nothing is open."""
    torch = sys.modules.get("torch")
    begins = torch is None or getattr(torch.__spec__, "_initializing", False)
    while begins and frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(OSError):
                os.write(2, b"genzoo: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise Interruption


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
