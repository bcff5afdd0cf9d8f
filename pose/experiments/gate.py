"""The gate of a pull request: have the figures dropped by more than `.github/tolerance.yaml` allows?"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.io.errors import UserError
from pose.io.schema import read_yaml

TOLERANCE = Path(".github/tolerance.yaml")


@dataclass(frozen=True)
class Verdict:
    """What became of one figure, higher being better. None: not there, or not a number."""

    file: str
    name: str
    old: float | None
    new: float | None
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is there and has not dropped by more than allowed; what the base lacks is new and passes."""
        return self.new is not None and (
            self.old is None or self.old - self.new <= self.allowed + 1e-9
        )  # not by rounding

    def __str__(self) -> str:
        if self.new is None:
            change = "is missing"
        elif self.old is None:
            change = f"{self.new:g}, new"
        else:
            change = f"{self.old:g} -> {self.new:g} ({self.new - self.old:+.3g}, allowed -{self.allowed:g})"
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.file} {self.name}: {change}"


def read_tolerance(path: str | Path = TOLERANCE) -> dict[str, dict[str, float]]:
    """Largest allowed drop of each figure, by metrics file; UserError for anything but numbers of at least 0."""
    found = read_yaml(path)
    for file, figures in found.items():
        if not isinstance(figures, dict) or not figures:
            raise UserError(
                f"{path}: {file}: found {figures!r}, expected figures with the drop that each may take"
            )
        for name, allowed in figures.items():
            if isinstance(allowed, bool) or not isinstance(allowed, (int, float)) or not allowed >= 0:
                raise UserError(f"{path}: {file}: {name}: found {allowed!r}, expected a number of at least 0")
    return {
        file: {str(name): float(allowed) for name, allowed in figures.items()}
        for file, figures in found.items()
    }


def metrics_diff(base: str) -> dict[str, dict[str, Any]]:
    """`dvc metrics diff`: the figures of a revision beside the workspace's; UserError if DVC refuses."""
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--all", "--json", base]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"dvc metrics diff {base}: {reason[0].removeprefix('ERROR: ')}")
    diff: dict[str, dict[str, Any]] = json.loads(done.stdout or "{}")
    return diff


def judge(
    diff: Mapping[str, Mapping[str, Any]], tolerance: Mapping[str, Mapping[str, float]]
) -> list[Verdict]:
    """A verdict for each figure that the tolerance names; diff: as `metrics_diff` returns it."""
    verdicts = []
    for file, figures in tolerance.items():
        for name, allowed in figures.items():
            change = diff.get(file, {}).get(name, {})
            verdicts.append(
                Verdict(file, name, _number(change.get("old")), _number(change.get("new")), allowed)
            )
    return verdicts


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
