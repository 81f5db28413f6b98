"""`genzoo`, `python -m genzoo`, and so `accelerate launch -m genzoo` and `torchrun -m genzoo`."""

import os
import signal


def main() -> None:
    """The command line. Ctrl-C in its first moments, too, ends it with a word and without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: (os.write(2, b"genzoo: interrupted\n"), os._exit(130)))
    from genzoo.cli import main as run

    run()


if __name__ == "__main__":
    main()
