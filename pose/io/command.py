"""How commands run: their arguments, log lines and errors on standard error."""

from __future__ import annotations

import argparse
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pose.io.dvc_stage import unchanged_inputs
from pose.io.errors import UserError

# Modules that `pip install pose` leaves out: those of `pose[train]` in pyproject.toml.
OF_TRAINING = ("dvc", "faster_coco_eval", "jinja2", "matplotlib", "mlflow", "pandas", "pycocotools")

MAX_COORDINATE = 1e6  # pixels; no place in an image is further from its corner
MIN_SCALE, MAX_SCALE = 0.1, 8.0  # as of `evaluate.scales`
MAX_CROP_SCALE = 2.0  # as of `evaluate.crop_scales`: heatmaps of larger crops would lose their peaks
SCALES = f"numbers from {MIN_SCALE:g} to {MAX_SCALE:g}"


def run_stage(main: Callable[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Run the main function of a DVC stage; its parameters are the arguments, its docstring the help text.

    A parameter without a default is required. Exits with status 2 for wrong arguments, else as `run_command`.
    What the stage reads must stay as it is while it runs.
    """
    module = sys.modules["__main__"].__spec__
    prog = f"python -m {module.name}" if module else None
    parser = argparse.ArgumentParser(prog=prog, description=(inspect.getdoc(main) or "").partition("\n")[0])
    for name, parameter in inspect.signature(main).parameters.items():
        optional: dict[str, Any] = {
            "nargs": "?",
            "default": parameter.default,
            "help": "default: %(default)s",
        }
        required = parameter.default is parameter.empty
        parser.add_argument(name, metavar=name.upper(), **({} if required else optional))
    options = vars(parser.parse_args(arguments))

    def run() -> None:
        with unchanged_inputs():
            main(**options)

    run_command(run)


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
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OF_TRAINING:
            raise
        hint = "what trains needs pip install 'pose[train]'"
        print(f"error: {error.name}: not installed; {hint}", file=sys.stderr)
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


# --- types of arguments; a wrong one is named with what was expected ---


class Numbers:
    """So many numbers with commas between them."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, text: str) -> tuple[float, ...]:
        numbers = _numbers(text)
        if len(numbers) != self.count or not all(abs(number) <= MAX_COORDINATE for number in numbers):
            expected = f"{self.count} numbers with commas between them, none beyond {MAX_COORDINATE:g}"
            raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
        return numbers


def share(text: str) -> float:
    """A number from 0 to 1."""
    numbers = _numbers(text)
    if len(numbers) != 1 or not 0 <= numbers[0] <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0 to 1")
    return numbers[0]


def positive(text: str) -> float:
    """A number above 0, of at most a day in seconds."""
    numbers = _numbers(text)
    if len(numbers) != 1 or not 0 < numbers[0] <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number above 0 and at most 86400")
    return numbers[0]


def are_scales(numbers: Sequence[float]) -> bool:
    """Whether an image can be shown at these sizes, over the input's own; see `SCALES`."""
    return all(MIN_SCALE <= number <= MAX_SCALE for number in numbers)


def scales(text: str) -> list[float]:
    """Sizes at which an image is shown, over the input's own."""
    numbers = _numbers(text)
    if 1.0 not in numbers or not are_scales(numbers):
        expected = f"{SCALES} with commas between them, 1 among them"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return list(numbers)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """A number of a TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a port from 1 to 65535")
    return int(text)


def count_or_zero(text: str) -> int:
    """A whole number of at least 0."""
    return 0 if text == "0" else count(text)


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected KEY=VALUE")
    return key, value


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
