"""The command line. Results go to stdout, progress and log to stderr; nothing slow is imported before it is needed."""

import atexit
import gc
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from genzoo import __version__
from genzoo.allocator import keep_freed_memory
from genzoo.errors import Interrupted, UserError, plain, refusal
from genzoo.interrupts import ignore_signals, interrupt_on_signals

COMMANDS = {
    "cache": "cache:cache",
    "check": "parts:check",
    "compare": "compare:compare",
    "data": "data:data",
    "decode": "trained:decode",
    "encode": "trained:encode",
    "eval": "run:evaluate",
    "explore": "trained:explore",
    "export": "trained:export",
    "fid": "scores:fid",
    "list": "parts:list_parts",
    "neighbors": "images:neighbors",
    "new": "parts:new",
    "panels": "trained:panels",
    "plugins": "parts:list_plugins",
    "recipes": "recipes:recipes",
    "reconstruct": "trained:reconstruct",
    "report": "reports:report",
    "run": "run:run",
    "sample": "run:sample",
    "show": "parts:show",
    "stats": "images:stats",
    "study": "study:study",
}


class Commands(Mapping[str, click.Command]):
    """By name. The module of a command is imported when the command is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = COMMANDS[name].partition(":")
        return getattr(import_module(f"genzoo.cli.{module}"), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Plain(logging.Formatter):
    """What is logged may quote file names and recipes: without what a terminal would act on."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def main() -> None:
    """Exit code 0; 2 for a user's mistake (one message, no traceback); 1 for a failure; 130 when interrupted."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    keep_freed_memory()
    atexit.register(gc.freeze)  # Python's last look at PyTorch's objects takes half a second and finds nothing
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("genzoo").setLevel(logging.INFO)
    try:
        interrupt_on_signals()
        atexit.register(ignore_signals)
        sys.exit(cli(arguments, prog_name="genzoo", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:  # click makes the one of the other
        click.echo("genzoo: interrupted", err=True)
        for note in getattr(error.__cause__ or error.__context__ or error, "__notes__", ()):
            click.echo(note, err=True)
        sys.exit(130)
    except Interrupted as error:
        click.echo(f"genzoo: {error}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None):
            told = error if isinstance(error, UserError) else plain(refusal(error))
            click.echo(f"genzoo: {told}", err=True)
            for note in getattr(error, "__notes__", ()):
                click.echo(plain(note), err=True)
            sys.exit(2)
        click.echo(plain(f"genzoo: failed: {type(error).__name__}: {error} (--debug shows where)"), err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(plain(note), err=True)
        sys.exit(1)


@click.group(commands=Commands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genzoo")
@click.option("--trust-weights", multiple=True, metavar="SHA256", help="Run the TorchScript file of this sha256, too.")
def cli(trust_weights: tuple[str, ...]) -> None:
    """A pluggable zoo of generative image models. Add --debug to any command to see tracebacks."""
    if trust_weights:
        from genzoo.features import inception

        inception.trusted.update(trust_weights)
