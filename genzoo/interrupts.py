"""Signals that end a command: what is open is left in order. A training hears them itself (genzoo.training.signals)."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

# Ctrl-C and an orderly end; a closed terminal; a batch system's time limit, announced (by default these two kill).
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1") if hasattr(signal, name)
)


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
