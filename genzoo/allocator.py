"""glibc's allocator, told to keep the memory it has."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Stop glibc from returning large buffers to the system after every operation; True when it was done.

    Otherwise each activation of a CPU network is mapped, zeroed page by page and unmapped anew, which costs most in
    evaluation networks (benchmarks/options.py). Call before the first allocation; `GENZOO_MALLOC=system` prevents it.
    """
    return _set({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})


def return_freed_memory() -> bool:
    """Let glibc return large buffers again: of images of hundreds of megabytes it would keep gigabytes in pieces."""
    return _set({M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 8 << 20, M_TRIM_THRESHOLD: 64 << 20})


def _set(options: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux") or os.environ.get("GENZOO_MALLOC") == "system":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(option, value) for option, value in options.items()])
