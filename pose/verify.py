"""`pose verify`: trains the same few steps several times, once through kills, and compares all state bit by bit."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import Tensor

from pose.distributed import wanted
from pose.errors import UserError
from pose.folders import PREPARED
from pose.params import Params, load_params, parse_params
from pose.presets import PARAMS, params_with
from pose.training import check
from pose.trial import Life, Trial, done_again

STEPS, KILLS = 8, 2
WORKERS = (0, 1, 4)
# What a run ends with takes long at the paper's sizes and is a function of the weights: looked at on few, or not at all.
BRIEF = {
    "train.validation_people": 8,
    "train.training_people": 0,
    "train.checkpoint_minutes": 0.0,
    "multi.thresholds.choose": False,
}


def verify(
    task: str,
    *,
    steps: int = STEPS,
    kills: int = KILLS,
    preset: str | None = None,
    batch: int | None = None,
    changes: Mapping[str, str] | None = None,
    prepared: Path | None = None,
    keep: Path | None = None,
    seed: int = 0,
) -> bool:
    """Train `steps` steps of a task: once, again, with other loader workers, and killed `kills` times; print what is equal.

    Parameters are those of params.yaml, with a preset's and `changes` (dotted key to YAML text) over them, and `batch`. prepared: where the
    prepared set is. keep: a folder in which the runs stay. seed: of the moments at which it is killed.
    Returns whether all bits are equal and no restart did more than one checkpoint interval again. UserError for what cannot be trained.
    """
    if steps < 1 or kills < 0:
        raise UserError(f"steps: found {steps} steps and {kills} kills, expected at least 1 step")
    values = _parameters(task, preset, batch, changes or {})
    every = max(1, steps // (2 * max(kills, 1)))
    _set(values, "train.checkpoint_every", every)
    params = parse_params(values, "params.yaml as changed")
    source = prepared or PREPARED[params.task(task).problem]
    _, rows, _ = check(params, task, wanted(params.train.processes), prepared=source)  # here, where a mistake is one line
    most = params.task(task).epochs * (len(rows) // params.task(task).batch)
    if steps > most:
        raise UserError(f"steps: found {steps}, expected at most the {most} of tasks.{task}.epochs")
    source = source.resolve()
    with _folder(keep) as root:
        counts = {"once": params.train.workers, "again": params.train.workers}
        counts |= {f"{count} workers": count for count in WORKERS if count != params.train.workers}
        print(f"{task}: {steps} steps, a state every {every}, {_where(params)}; in {root}", flush=True)
        runs = {
            name: Trial.fresh(root / name.replace(" ", "-"), task, steps, source, params, workers=count) for name, count in counts.items()
        }
        for name, trial in runs.items():
            print(f"  {name}: {trial.run():.0f} s", flush=True)
        killed = Trial.fresh(root / "killed", task, steps, source, params)
        lives = killed.run_through(kills, every, random.Random(seed))
        killed_at = ", ".join(str(life.reached) for life in lives[:-1])
        print(f"  killed {len(lives) - 1} times, at steps {killed_at}", flush=True)
        once, *_ = runs.values()
        equal = compare(
            once, {name: trial for name, trial in runs.items() if trial is not once} | {f"killed {len(lives) - 1} times": killed}
        )
        if len(lives) <= kills:
            raise UserError(f"steps: found {steps}, expected more: the run was over after {len(lives) - 1} of {kills} kills")
        print(_said_of(lives, every))
        return equal and done_again(lives) <= every


def compare(one: Trial, others: Mapping[str, Trial]) -> bool:
    """Print a table of all that is part of a run's end, and whether the others' is equal to one's."""
    parts = {name: _parts(trial) for name, trial in {"": one, **others}.items()}
    rows, equal = [["", "numbers", *others]], True
    for part, values in parts[""].items():
        row = [part, f"{sum(_count(value) for value in values.values()):,}"]
        for name in others:
            theirs = parts[name].get(part, {})
            keys = [key for key in values.keys() | theirs.keys() if not _same(values.get(key), theirs.get(key))]
            row.append(f"{len(keys)} differ: {min(keys)}" if keys else "equal")
            equal &= not keys
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return equal


def _parts(trial: Trial) -> dict[str, dict[str, Any]]:
    """All that a run ends with, by kind; times are no part of it."""
    state = trial.state()
    parts = {"weights": dict(_leaves(state["net"])), "optimizer": dict(_leaves(state["optimizer"]))}
    if state["adversary"]:
        parts["adversary's weights"] = dict(_leaves(state["adversary"]["net"]))
        parts["adversary's optimizer"] = dict(_leaves(state["adversary"]["optimizer"]))
        parts["k_t"] = {"k": state["adversary"]["k"]}
    parts["best weights"] = dict(_leaves(state["best"] or state["net"]))
    progress = {key: value for key, value in state["progress"].items() if key not in ("seconds", "clock")}
    parts["progress, history"] = dict(_leaves(progress))
    parts["files"] = dict(trial.files())
    return parts


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
    return type(one) is type(other) and bool(one == other)


def _count(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, bytes) else 1


def _said_of(lives: Sequence[Life], every: int) -> str:
    writing = sum(life.writing for life in lives)
    kills = f"{len(lives) - 1} kills, {writing} of them while a state was written"
    return f"  {kills}; at most {done_again(lives)} steps were done again, a state is written every {every}"


def _parameters(task: str, preset: str | None, batch: int | None, changes: Mapping[str, str]) -> dict[str, Any]:
    params = params_with(preset) if preset else load_params()
    params.task(task)
    values = params.model_dump()
    given = {key: _value(key, text) for key, text in changes.items()}
    if batch:
        given[f"tasks.{task}.batch"] = batch
    for key, value in (BRIEF | given).items():
        _set(values, key, value)
    return values


def _value(key: str, text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, TypeError):
        raise UserError(f"--set: {key}={text[:60]}: not valid YAML") from None


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    inner: Any = values
    for part in path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner:
        raise UserError(f"--set: unknown key {key}, expected one that {PARAMS} has")
    inner[last] = value


def _where(params: Params) -> str:
    processes = wanted(params.train.processes)
    device = "GPU" if torch.cuda.is_available() else "CPU"
    return f"{processes} processes on the {device}" if processes > 1 else f"on the {device}"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="pose-verify-") as name:
            yield Path(name)
