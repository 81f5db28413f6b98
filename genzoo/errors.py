"""The exception of a user's mistake, whose message names the place and the remedy, and that of a signal.

Whatever a message quotes, of a recipe, a file name or a plugin, may have been written by anybody. Here, in one place,
it is shortened and loses what a terminal would act on.
"""

LONGEST = 2000  # characters of one line of a message


class UserError(Exception):
    """Something the user can put right. The command line prints the message alone and exits 2."""

    def __init__(self, message: object = ""):
        super().__init__(plain(str(message)))


def plain(text: str) -> str:
    """Text as it may be shown: clean, and no line of it endless."""
    return "\n".join(shortened(line, LONGEST) for line in clean(text).split("\n"))


class TooLarge(ValueError):
    """A part takes more memory or more work than there is (genzoo.budget): the message says of what."""


class Interrupted(Exception):
    """Training was stopped by a signal, after saving. The message says how to go on; the command line exits 130."""


def clean(text: str) -> str:
    """Text with control characters, direction marks and lone surrogates as escapes; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(
        one if one == "\n" or one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def shortened(text: str, longest: int) -> str:
    """Text without its middle where it is longer than that: the place stands in front, the remedy at the end."""
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} [... {len(text) - longest:,} characters ...] {text[-(longest // 3) :]}"


def quoted(value: object) -> str:
    """A value as a message shows it: its repr, on one line and not long."""
    if isinstance(value, str):
        value = shortened(value, 200)
    return shortened(clean(repr(value)), 240)


def suggestion(name: str, known) -> str:
    """`"; did you mean 'resnet'?"` when a known name is close, else an empty string."""
    import difflib

    match = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""


def refusal(error: OSError) -> str:
    """What the system refuses, with the place and the remedy, in one sentence."""
    import errno
    import os

    name = error.filename or error.filename2
    place = f"{clean(os.fsdecode(name))}: " if name else "standard output, or a file: "
    return {
        errno.ENOSPC: f"{place}the disk is full; make room there, or choose another place (--out, or GENZOO_CACHE)",
        errno.EDQUOT: f"{place}your quota of the disk is full; make room there, or choose another place (--out)",
        errno.EROFS: f"{place}nothing can be written there; choose another place (--out, or GENZOO_CACHE)",
        errno.EACCES: f"{place}permission is denied; change the permissions, or choose another place",
        errno.EPERM: f"{place}the system does not permit it; change the permissions, or choose another place",
        errno.EMFILE: f"{place}too many files are open at once; raise the limit (`ulimit -n 1024`)",
        errno.ENFILE: f"{place}too many files are open on this machine; end other programs",
        errno.ENOMEM: f"{place}there is no memory left; end other programs, or ask for less at once",
        errno.ENOENT: f"{place}there is no such file or folder; correct the path",
        errno.ENOTDIR: f"{place}a file is where a folder is to be; move it away, or choose another place",
        errno.EISDIR: f"{place}a folder is where a file is to be; move it away, or choose another place",
        errno.EEXIST: f"{place}something else has that name already; move it away, or choose another place",
        errno.ENAMETOOLONG: f"{place}the name is too long; choose a shorter one",
        errno.ELOOP: f"{place}links lead in a circle; correct them",
        errno.EIO: f"{place}the disk cannot be read or written; look at it before anything else",
        errno.EFBIG: f"{place}the file is larger than is allowed here; raise the limit (`ulimit -f`), or make less",
    }.get(error.errno, f"{place}{error.strerror or error}")


def reason(error: BaseException) -> str:
    """One line that says why code from outside failed, with the remedy where it is known."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package '{error.name.partition('.')[0]}' is not installed ({error})"
    text = shortened(" ".join(str(error).split()), 500)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
