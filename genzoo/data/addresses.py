"""Addresses that a recipe or a dataset's own files may name: plain paths and a list of protocols, never a chain."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock

from genzoo.errors import UserError, quoted

PROTOCOLS = ("file", "http", "https", "s3", "gs", "abfs", "hf")
# What `datasets` chains by itself: archives and packed files that lie at one of the addresses above.
PACKED = ("local", "zip", "gzip", "bz2", "xz", "lz4", "zstd")


def refuse(address: str, key: str) -> None:
    """UserError for an address that fsspec would take for a chain, or of a protocol that is not on the list.

    Some of fsspec's protocols fill in templates, unpickle what they have cached, or run programs.
    """
    protocol, colon, _ = address.partition("://")
    if "::" in address or "\0" in address:
        problem = "addresses are not chained with `::`"
    elif "\n" in address:
        problem = "it holds a line break"
    elif address.startswith("data:"):
        problem = "it is data, not an address"
    elif colon and protocol not in PROTOCOLS:
        problem = f"'{protocol}' is none of the protocols {', '.join(PROTOCOLS)}"
    else:
        return
    raise UserError(f"{key}: {quoted(address)} is refused: {problem}; give a path, or an address such as s3://...")


_lock = Lock()
_inside: list[Callable[[str], type]] = []  # fsspec's own look-up, once for each time that it is replaced


@contextmanager
def only_listed() -> Iterator[None]:
    """Inside, fsspec knows no other protocols, whoever asks it: `datasets` takes addresses out of a set's own README.

    fsspec raises ValueError for those. Generators may be inside together and leave in any order.
    """
    modules = [import_module(name) for name in ("fsspec.registry", "fsspec.core")]
    with _lock:
        find = _inside[0] if _inside else modules[0].get_filesystem_class
        _inside.append(find)

        def listed(protocol: str) -> type:
            if protocol and protocol not in (*PROTOCOLS, *PACKED):
                raise ValueError(f"addresses of the protocol {quoted(protocol)} are refused")
            return find(protocol)

        for module in modules:
            module.get_filesystem_class = listed
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            for module in modules if not _inside else ():
                module.get_filesystem_class = find
