"""The one exception for a user's mistake, and how the commands show it: one line, no traceback, a non-zero exit."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any


class UserError(ValueError):
    """Input that cannot be used. The message names the file or key, what was found and what was expected."""


class Damaged(UserError):
    """A file that is there and can be read, but does not hold what it should."""


def run_main(main: Callable[..., Any], *args: Any) -> None:
    """Run a command; a UserError ends it with `error: ...` on standard error and exit status 1, Ctrl-C with 130."""
    wanted = inspect.signature(main)
    try:
        wanted.bind(*args)
    except TypeError:
        names = " ".join(name.upper() for name in wanted.parameters) or "none"
        print(f"error: found {len(args)} arguments, expected {names}", file=sys.stderr)
        sys.exit(1)
    try:
        main(*args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # its reader, `head` perhaps, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python would still write at its end
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
