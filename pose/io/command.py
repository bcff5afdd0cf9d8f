"""How commands run: arguments from a function's signature, log lines and errors on standard error."""

from __future__ import annotations

import argparse
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pose.io.errors import UserError


def run_stage(main: Callable[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Run the main function of a DVC stage; its parameters are the arguments, its docstring the help text.

    A parameter without a default is required. Exits with status 2 for wrong arguments, else as `run_command`.
    """
    module = getattr(sys.modules.get(main.__module__), "__spec__", None)
    parser = argparse.ArgumentParser(
        prog=f"python -m {module.name}" if module else None, description=inspect.getdoc(main)
    )
    for name, parameter in inspect.signature(main).parameters.items():
        if parameter.default is parameter.empty:
            parser.add_argument(name, metavar=name.upper())
        else:
            default = parameter.default
            parser.add_argument(
                name, metavar=name.upper(), nargs="?", default=default, help=f"default: {default}"
            )
    run_command(main, **vars(parser.parse_args(arguments)))


def run_command(main: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call `main`; a UserError exits with status 1 and one line on standard error, Ctrl-C with status 130."""
    configure_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text; standard error does this
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main(*args, **kwargs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe, `head` perhaps, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at exit
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def configure_logging() -> None:
    """Show the log lines of `pose` from INFO on. Only commands do: users of the library decide themselves."""
    logger = logging.getLogger("pose")
    if not logger.handlers:
        logger.addHandler(_ProgressBarHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False


class _ProgressBarHandler(logging.Handler):
    """Writes lines above progress bars instead of into them."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.auto import tqdm  # here, since most commands show no progress bar

        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        tqdm.write(prefix + self.format(record), file=sys.stderr)
