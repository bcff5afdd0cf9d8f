"""`pose verify`: trains the same few steps several times, once interrupted, and compares all bits."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import Tensor

from pose.experiments.presets import PARAMS, params_with
from pose.experiments.subprocess_run import KINDS, Attempt, Kind, SubprocessRun, repeated_steps
from pose.io.errors import UserError
from pose.io.files import writing
from pose.params import load_params, parse_params
from pose.training.launch import check_inputs, process_count

STEPS, KILLS = 8, 2
WORKERS = (0, 1, 4)
# At the paper's sizes validation and tuning take long, and are functions of the weights: few samples, or
# none.
BRIEF = {
    "train.val_samples": 8,
    "train.train_samples": 0,
    "train.checkpoint_minutes": 0.0,
    "train.timeout": 30,
    "multi.thresholds.tune": False,
}


WHAT: dict[Kind, str] = {
    "all": "of all processes",
    "writing": "while a checkpoint was written",
    "dvc": "of DVC alone",
    "trainer": "of the trainer alone",
    "child": "of a process below it",
    "stopped": "by SIGSTOP",
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
    """Train a task once, again, with other loader workers, and interrupted; print what is equal.

    The parameters are those of params.yaml, changed by a preset, `changes` (dotted key to YAML text) and
    `batch`. prepared: the prepared set, if it is not where the stages put it. keep: a folder in which the
    runs stay. seed: of the moments of the kills. Returns whether all bits are equal and no attempt repeated
    more steps than lie between two checkpoints. UserError for what cannot be trained.
    """
    if steps < 1 or kills < 0:
        raise UserError(f"steps: found {steps} steps and {kills} kills, expected at least 1 step")
    values = _parameters(task, preset, batch, changes or {})
    if (key := "train.checkpoint_every") in (changes or {}):
        raise UserError(f"--set: found {key}, expected another key: --steps and --kills decide it")
    every = max(1, steps // (2 * max(kills, 1)))
    _set(values, "train.checkpoint_every", every)
    params = parse_params(values, "params.yaml as changed")
    if init := params.task(task).init:  # found from the folders of the runs too
        _set(values, f"tasks.{task}.init.weights", str(Path(init.weights).resolve()))
        params = parse_params(values)
    source = (prepared or params.prepared(task)).resolve()
    processes = process_count(params.train.processes, params.task(task).batch)
    data = check_inputs(params, task, processes=processes, prepared=source)
    most = params.task(task).epochs * data.steps_per_epoch
    if steps > most:
        raise UserError(f"steps: found {steps}, expected at most the {most} of tasks.{task}.epochs")
    with _folder(keep) as root:
        device = f"{processes} processes on the " if processes > 1 else "on the "
        device += "GPU" if torch.cuda.is_available() else "CPU"
        print(f"{task}: {steps} steps, a checkpoint every {every}, {device}; in {root}", flush=True)
        workers = {"once": params.train.workers, "again": params.train.workers}
        others = [count for count in WORKERS if count != params.train.workers]
        workers |= {f"{count} worker" + ("s" if count > 1 else ""): count for count in others}
        runs = {}
        for name, count in workers.items():
            folder = root / name.replace(" ", "-")
            runs[name] = SubprocessRun.create(folder, task, steps, source, params, workers=count)
            print(f"  {name}: {runs[name].run():.0f} s", flush=True)
        under_dvc = find_spec("dvc") is not None
        interrupted = SubprocessRun.create(
            root / "interrupted", task, steps, source, params, under_dvc=under_dvc
        )
        attempts = interrupted.run_interrupted(kills, every, random.Random(seed))
        done = len(attempts) - 1
        at = ", ".join(f"{one.reached} ({one.kind})" for one in attempts[:-1])
        print(f"  {'under DVC, ' if under_dvc else ''}interrupted at steps {at}", flush=True)
        equal = compare(runs.pop("once"), runs | {f"interrupted {done} times": interrupted})
        if done < kills:
            raise UserError(
                f"steps: found {steps}, expected more: the run was over after {done} of {kills} kills"
            )
        print(_summary(attempts, every))
        return equal and repeated_steps(attempts) <= every


def compare(one: SubprocessRun, others: Mapping[str, SubprocessRun]) -> bool:
    """Print a table of all that a run ends with, and return whether each of the others ends with the same."""
    parts = {name: _parts(run) for name, run in {"": one, **others}.items()}
    rows, equal = [["", "numbers", *others]], True
    for part, values in parts[""].items():
        row = [part, f"{sum(_count(value) for value in values.values()):,}"]
        for name in others:
            other = parts[name].get(part, {})
            keys = [key for key in values.keys() | other.keys() if not _same(values.get(key), other.get(key))]
            row.append(f"{len(keys)} differ: {min(keys)}" if keys else "equal")
            equal &= not keys
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return equal


def _parts(run: SubprocessRun) -> dict[str, dict[str, Any]]:
    """All that a run ends with but times, by kind."""
    checkpoint = run.checkpoint()
    parts: dict[str, Any] = {"weights": checkpoint.net, "optimizer": checkpoint.optimizer}
    if adversary := checkpoint.adversary:
        parts |= {"adversary's weights": adversary["net"], "adversary's optimizer": adversary["optimizer"]}
        parts["k_t"] = {"k": adversary["k"]}
    if checkpoint.average:
        parts["averaged weights"] = checkpoint.average
    parts["best weights"] = checkpoint.best or checkpoint.average or checkpoint.net
    state = {key: value for key, value in checkpoint.state.items() if key not in ("seconds", "times")}
    parts |= {"state, history": state, "files": run.files()}
    return {name: dict(_leaves(part)) for name, part in parts.items()}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.numpy().tobytes() == other.numpy().tobytes()
    return type(one) is type(other) and bool(one == other)


def _count(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, bytes) else 1


def _summary(attempts: Sequence[Attempt], every: int) -> str:
    count = Counter(attempt.kind for attempt in attempts if attempt.kind)
    kinds = ", ".join(f"{count[kind]} {WHAT[kind]}" for kind in KINDS if count[kind])
    repeated = f"at most {repeated_steps(attempts)} steps were repeated"
    return f"  {count.total()} interruptions ({kinds}); {repeated}, a checkpoint is written every {every}"


def _parameters(
    task: str, preset: str | None, batch: int | None, changes: Mapping[str, str]
) -> dict[str, Any]:
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


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        with writing(keep):
            keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="pose-verify-") as name:
            yield Path(name)
