"""The one exception a user's mistake raises: a message that names the place and the remedy."""


class UserError(Exception):
    """Something the user can put right. The command line prints the message alone and exits 2."""


def nearest(name: str, known) -> str:
    """`"; did you mean 'resnet'?"` when a known name is close, else an empty string."""
    import difflib

    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""
