"""What the commands (`python -m data.ingest`, `rl.train`, `serve.demo` ...) share: options, errors, exit status.

Exit status of every command:

    0    done
    1    done, and what was found is not as it should be: decisions differ (serve.audit), events were lost (serve.demo)
    2    refused: options, input or what is there cannot be used; standard error says why
    3    trained, but not registered (rl.train)
    130  interrupted by Ctrl-C

What the system refuses - a folder that cannot be written to, a full disk - is said in one line as well. All other
exceptions are faults of the code and end in a traceback.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Protocol

from data.errors import RecommenderError

DONE, AMISS, REFUSED, NOT_REGISTERED, INTERRUPTED = 0, 1, 2, 3, 130


class Command(Protocol):
    """What `python -m NAME` runs."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command with these arguments, or with those of the process; returns its exit status."""
        ...


def command(name: str) -> Callable[[Callable[[Sequence[str]], int]], Command]:
    """Make a command of a function that takes arguments and returns an exit status.

    What it raises of `RecommenderError` becomes one message, `NAME: what is wrong`, on standard error, and so
    does an error of the system.
    """

    def decorate(function: Callable[[Sequence[str]], int]) -> Command:
        @wraps(function)
        def main(arguments: Sequence[str] | None = None) -> int:
            try:
                return function(sys.argv[1:] if arguments is None else arguments)
            except RecommenderError as error:
                complain(name, str(error))
                return REFUSED
            except OSError as error:
                if error.errno is None:  # raised by code, not by the system
                    raise
                complain(name, f"{error.filename}: {error.strerror}" if error.filename else str(error))
                return REFUSED
            except KeyboardInterrupt:
                complain(name, "interrupted")
                return INTERRUPTED

        return main

    return decorate


def complain(name: str, message: str) -> None:
    """Say on standard error what is wrong."""
    print(f"{name}: {message}", file=sys.stderr)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a type of options: a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        with suppress(ValueError):
            if least <= (number := int(text)) and (most is None or number <= most):
                return number
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, got {text!r}")

    return parse


def seconds(text: str) -> float:
    """Parse a finite number of seconds from 0: a type of options."""
    with suppress(ValueError):
        if 0.0 <= (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"expected a number of seconds from 0, got {text!r}")


def argument_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of options; it exits with status 2 where they are wrong. A description keeps its lines."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
