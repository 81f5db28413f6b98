"""The one exception a user's mistake raises: a message that names the place and the remedy."""


class UserError(Exception):
    """Something the user can put right. The command line prints the message alone and exits 2."""


def nearest(name: str, known) -> str:
    """`"; did you mean 'resnet'?"` when a known name is close, else an empty string."""
    import difflib

    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""


def reason(error: BaseException) -> str:
    """One line that says why code from outside failed, with the remedy where it is known."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package '{error.name.partition('.')[0]}' is not installed ({error})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__
