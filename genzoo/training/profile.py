"""`genzoo run --profile`: a Chrome trace of a few steps, and a table of where their time went."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import profile, record_function, schedule

log = logging.getLogger("genzoo")

WARMUP, STEPS = 10, 10  # steps before, and recorded
STAGES = ("feed", "forward", "backward", "optimizer", "ema")


def stage(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, recorded under the name of a stage."""

    def recorded(*arguments: Any) -> Any:
        with record_function(name):
            return call(*arguments)

    return recorded


@contextmanager
def profiling(folder: Path) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after every step; writes `folder/profile/` once enough steps are recorded."""

    def write(profiler: profile) -> None:
        place = folder / "profile"
        place.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(place / "trace.json"))
        (place / "table.txt").write_text(table(profiler), encoding="utf-8")
        log.info("%s: where time went; trace.json beside it is for ui.perfetto.dev", place / "table.txt")

    num_steps = 0

    def tick() -> None:
        nonlocal num_steps
        num_steps += 1
        profiler.step()

    with profile(
        schedule=schedule(wait=WARMUP - 2, warmup=2, active=STEPS, repeat=1), on_trace_ready=write, profile_memory=True
    ) as profiler:
        yield tick
    if num_steps <= WARMUP:
        log.warning("nothing is recorded in %d steps: the first %d are warm-up", num_steps, WARMUP)


def table(profiler: profile) -> str:
    """Stages by their time on the host, then operators by their own time on the device (the host's without one)."""
    events = profiler.key_averages()
    # A GPU shows each stage and step once more, without time on the host.
    seconds = {event.key: event.cpu_time_total / 1e6 for event in events if event.device_type == DeviceType.CPU}
    on_host = (event for event in profiler.events() if event.device_type == DeviceType.CPU)
    steps = [event.cpu_time_total / 1e6 for event in on_host if event.name.startswith("ProfilerStep")]
    whole = sum(steps)
    spent = {name: seconds[name] for name in STAGES if name in seconds}
    spent["rest"] = whole - sum(spent.values())
    on_device = any(getattr(event, "self_device_time_total", 0) for event in events)
    lines = [
        f"{'stage':12}{'ms a step':>12}{'share':>8}   on the host" + ("; a GPU works behind it" if on_device else "")
    ]
    lines += [f"{name:12}{1000 * time / len(steps):12.3f}{time / whole:8.1%}" for name, time in spent.items()]
    order = "self_device_time_total" if on_device else "self_cpu_time_total"
    return "\n".join([*lines, "", events.table(sort_by=order, row_limit=30, max_name_column_width=60)]) + "\n"
