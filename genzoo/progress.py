"""How far whatever counts images has come, on stderr."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger("genzoo")

Progress = Callable[[str, int, int | None], None]  # what is being done, images done, images in all where known


def silent(what: str, done: int, total: int | None) -> None:
    """The progress that nobody is shown."""


@contextmanager
def said_when_long(place: str, options: Mapping[str, object], seconds: float = 30) -> Iterator[None]:
    """A line once the body has taken that long, with the options that decide it: of what shows no other progress."""
    words = ", ".join(f"{key}: {value}" for key, value in options.items() if key not in ("name", "features"))
    timer = threading.Timer(seconds, log.info, (f"%s takes more than {seconds:g} s (%s)", place, words))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def shown() -> Iterator[Progress]:
    """A bar for each thing that is done; where stderr is no terminal, a line when it begins."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, TaskID, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    hidden = not console.is_terminal or os.environ.get("RANK", "0") != "0"  # of several processes, the main one speaks
    columns = ("{task.description:>16}", *Bars.get_default_columns()[1:2], MofNCompleteColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console, disable=hidden) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if hidden:
                    log.info("%s: %s images", what, f"{total:,}" if total else "reading")
            bars.update(tasks[what], completed=done, total=total)

        yield report
