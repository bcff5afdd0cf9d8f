"""What the modules of commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse has no public name for it


def add_command(commands: Commands, name: str, function: Callable[..., Any], help: str, more: str) -> Any:
    """Add a command; returns what adds its arguments."""
    description = f"{help[0].upper()}{help[1:]}. {more}"
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=description)
    command.set_defaults(function=function)
    return command.add_argument
