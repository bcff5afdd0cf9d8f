"""Types of command-line arguments; a wrong one is named with what was expected."""

from __future__ import annotations

import argparse

MAX_COORDINATE = 1e6  # pixels; no place in an image is further from its corner
MIN_SCALE, MAX_SCALE = 0.1, 8.0  # as of `evaluate.scales`


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


def scales(text: str) -> list[float]:
    """Sizes at which an image is shown, over the input's own."""
    numbers = _numbers(text)
    if 1.0 not in numbers or not all(MIN_SCALE <= number <= MAX_SCALE for number in numbers):
        expected = f"numbers from {MIN_SCALE:g} to {MAX_SCALE:g} with commas between them, 1 among them"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return list(numbers)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


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
