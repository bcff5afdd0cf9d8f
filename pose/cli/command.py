"""What the modules of commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse has no public name for it


class CommandParser(argparse.ArgumentParser):
    """Options may stand between positional arguments: `pose predict WEIGHTS --no-draw IMAGE`."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        has_commands = any(action.nargs == argparse.PARSER for action in self._get_positional_actions())
        if self._intermixed or has_commands:
            return super().parse_known_args(args, namespace)
        self._intermixed = True  # argparse calls this method for the two halves
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def add_command(commands: Commands, name: str, function: Callable[..., Any], help: str, more: str) -> Any:
    """Add a command; returns what adds its arguments."""
    description = f"{help[0].upper()}{help[1:]}. {more}"
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=description)
    command.set_defaults(function=function)
    return command.add_argument
