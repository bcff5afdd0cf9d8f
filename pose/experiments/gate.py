"""The gate of a pull request: has a metric dropped by more than `.github/tolerance.yaml` allows?"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.io.errors import UserError
from pose.io.files import read_json
from pose.io.schema import read_yaml


@dataclass(frozen=True)
class Verdict:
    """One metric before and after, higher being better. None: not there, or not a number."""

    file: str
    name: str
    old: float | None
    new: float | None
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is there and has not dropped by more than allowed; a metric that is new passes."""
        rounding = 1e-9
        return self.new is not None and (self.old is None or self.old - self.new <= self.allowed + rounding)

    def __str__(self) -> str:
        if self.new is None:
            change = "is missing"
        elif self.old is None:
            change = f"{self.new:g}, new"
        else:
            change = f"{self.old:g} -> {self.new:g} ({self.new - self.old:+.3g}, allowed -{self.allowed:g})"
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.file} {self.name}: {change}"


def read_tolerance(path: str | Path) -> dict[str, dict[str, float]]:
    """Largest allowed drop of each metric, by metrics file; UserError for anything but numbers from 0 on."""
    found = read_yaml(path)
    for file, metrics in found.items():
        if not isinstance(metrics, dict) or not metrics:
            raise UserError(
                f"{path}: {file}: found {metrics!r}, expected metrics and the drop allowed to each"
            )
        for name, allowed in metrics.items():
            if isinstance(allowed, bool) or not isinstance(allowed, int | float) or not allowed >= 0:
                raise UserError(f"{path}: {file}: {name}: found {allowed!r}, expected a number of at least 0")
    return found


def metrics_diff(base: str, files: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`dvc metrics diff`: files of metrics at a revision beside the workspace's.

    UserError if DVC refuses, or a file is damaged, which DVC would take for a missing one.
    """
    files = [*files]
    for file in filter(os.path.exists, files):
        read_json(file)
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--all", "--json", base, "--targets", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"dvc metrics diff {base}: {reason[0].removeprefix('ERROR: ')}")
    diff: dict[str, dict[str, Any]] = json.loads(done.stdout or "{}")
    return diff


def judge(
    diff: Mapping[str, Mapping[str, Any]], tolerance: Mapping[str, Mapping[str, float]]
) -> list[Verdict]:
    """A verdict for each metric that the tolerance names; diff: as `metrics_diff` returns it."""
    verdicts = []
    for file, metrics in tolerance.items():
        for name, allowed in metrics.items():
            change = diff.get(file, {}).get(name, {})
            old, new = _number(change.get("old")), _number(change.get("new"))
            verdicts.append(Verdict(file, name, old, new, allowed))
    return verdicts


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
