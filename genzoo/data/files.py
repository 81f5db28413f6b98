"""Where a dataset's files are, and what identifies them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from genzoo.errors import quoted


def _absolute(path: Path) -> Path:
    """So that a run folder's recipe finds it from anywhere."""
    try:
        path = path.expanduser().absolute()
        if "\0" in str(path) or len(os.fsencode(path)) > 4095 or max(len(os.fsencode(one)) for one in path.parts) > 255:
            raise ValueError("no file can be called so")
        if "\n" in str(path):
            raise ValueError("a name with a line break is not taken; rename it")
    except (RuntimeError, ValueError) as error:  # of a home that nobody has, and of what no name can hold
        raise ValueError(f"{quoted(str(path))} is no path: {error}") from None
    return path


Root = Annotated[Path, AfterValidator(_absolute)]


def identify(paths: Iterable[Path]) -> list[dict]:
    """Path, size and modification time: what changes when a file does."""
    return [
        {"path": str(path.resolve()), "num_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        for path, status in ((path, path.stat()) for path in paths)
    ]
