"""Where figures, weights and runs come from.

Revision, parameters, data, torch and device. What `pose show` prints.

Weights say themselves what they were trained by; figures say, in `metrics/provenance/`, which weights they
are of; an MLflow run knows the revision, and is found by the hash of the weights that it wrote. Nothing is
written, neither to the store nor anywhere else.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from pose.io.errors import UserError
from pose.io.files import file_hash, read_json
from pose.io.git import run_git
from pose.io.paths import TaskPaths
from pose.io.schema import Frozen, parse
from pose.metrics.monitored import MONITORED, monitored_in
from pose.models.weights import load_weights
from pose.report.files import read_metrics

EXPECTED = "metrics/TASK.json, models/TASK/last.pt or best.pt, a task, or an MLflow run"
# Of what weights were trained by: the rest are parameters.
CIRCUMSTANCES = ("data", "code", "torch", "device", "processes", "steps")
OPERATOR = "operator"  # of a task that computes the tag loss: `built` or `plain`
TAGS = {"data": "data_hash", "code": "code", "torch": "torch", "device": "device"}  # where a run keeps them
SHORTEST = 6  # characters of a run's id that may stand for it
MOST_NAMED = 10  # runs in an error


@dataclass(frozen=True)
class Fact:
    """One line. value: plain, for machines; None where it is unknown, and `text` then says why."""

    name: str
    value: Any
    text: str


class _Evaluated(Frozen):
    """`metrics/provenance/TASK.json`. weights: MD5 of `file`, as it was. trained: as the weights hold it."""

    task: str
    weights: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    file: str
    trained: dict[str, Any]


class _Unknown(Exception):
    """Why something cannot be found out."""


def provenance(what: str) -> list[Fact]:
    """All that is known of figures, weights, a task or a run (id, beginning of an id, or name); the last fact is the parameters.

    UserError for what is none of these or several, for a damaged file, and, if a run is asked for, for a
    store that cannot be read.
    """
    if os.path.isfile(what):
        return _of_metrics(Path(what)) if what.endswith(".json") else _of_weights(Path(what))
    if what in ("", ".", "..") or "/" in what or what.endswith((".json", ".pt")):
        raise UserError(
            f"{what}: {'is a folder' if os.path.isdir(what) else 'no such file'}, expected {EXPECTED}"
        )
    of_task = TaskPaths(what)
    for path in (of_task.metrics, of_task.models / "last.pt", of_task.models / "best.pt"):
        if os.path.isfile(path):
            return provenance(str(path))
    return _of_run(_named_run(what))


def as_text(facts: Sequence[Fact]) -> str:
    """Aligned lines; the parameters after an empty one, a line each."""
    *lines, parameters = facts
    first = _aligned({fact.name: fact.text for fact in lines})
    return f"{first}\n\n{_aligned(parameters.value) if parameters.value else _aligned({parameters.name: parameters.text})}"


def as_json(facts: Sequence[Fact]) -> str:
    """Values by name, null where unknown, and under `unknown` why."""
    unknown = {fact.name: fact.text.removeprefix("unknown: ") for fact in facts if fact.value is None}
    return json.dumps({fact.name: fact.value for fact in facts} | {"unknown": unknown}, indent=2, default=str)


def _aligned(texts: Mapping[str, Any]) -> str:
    width = max(map(len, texts))
    return "\n".join(f"{name:{width}}  {text}" for name, text in texts.items())


# --- what is asked about ---


def _of_metrics(path: Path) -> list[Fact]:
    if path.parent.name == "provenance":
        path = path.parent.parent / path.name
    beside = path.parent / "provenance" / path.name
    said = parse(_Evaluated, read_json(beside), str(beside)) if beside.exists() else None
    task = said.task if said else path.stem
    missing = _Unknown(f"no {beside}, which evaluate@{task} writes")
    weights = missing if said is None else _weights_now(said, path.parent.parent)
    return [
        _known("task", task),
        _fact("figures", _figures_of(path)),
        _fact("weights", weights),
        *_of_found(_run_with(said.weights, task) if said else missing),
        _fact("committed", _committed(path)),
        *_of_training(said.trained if said else missing),
    ]


def _of_weights(path: Path) -> list[Fact]:
    weights, found = load_weights(path), file_hash(path)
    return [
        _known("task", weights.task),
        _fact("figures", _figures_with(found, weights.task)),
        _known("weights", {"md5": found, "file": str(path)}, f"{found} {path}"),
        *_of_found(_run_with(found, weights.task)),
        *_of_training(
            weights.provenance or _Unknown("the weights do not say: they were imported, or trained elsewhere")
        ),
    ]


def _of_run(run: Any) -> list[Fact]:
    tags, metrics = run.data.tags, run.data.metrics
    tested = {
        name.removeprefix("test/").replace("/", "."): value
        for name, value in metrics.items()
        if name.startswith("test/")
    }
    written = {name: tags[f"weights_{name}"] for name in ("last", "best") if f"weights_{name}" in tags}
    trained = {key: _plain(text) for key, text in run.data.params.items()}
    trained |= {key: tags[tag] for key, tag in TAGS.items() if tag in tags}
    steps = [
        metric.step for metric in run.data.to_proto().metrics if metric.key == "loss"
    ]  # which `metrics` leaves out
    if steps:
        trained.setdefault("steps", int(steps[0]))
    files = {
        md5: " and ".join(f"{name}.pt" for name in written if written[name] == md5)
        for md5 in written.values()
    }
    weights = (
        _known("weights", written, ", ".join(f"{md5} {names}" for md5, names in files.items()))
        if written
        else None
    )
    return [
        _fact("task", tags.get("task") or _Unknown("the run has no tag `task`")),
        _fact("figures", _headline(tested) or _Unknown("the run has none: it was not evaluated")),
        weights or _fact("weights", _Unknown(f"the run has no tag of them: it is {run.info.status.lower()}")),
        *_of_found([run]),
        *_of_training(trained, missing="the run does not say"),
    ]


# --- lines ---


def _known(name: str, value: Any, text: str = "") -> Fact:
    return Fact(name, value, text or str(value))


def _fact(name: str, value: Any) -> Fact:
    if isinstance(value, _Unknown):
        return Fact(name, None, f"unknown: {value}")
    return value if isinstance(value, Fact) else _known(name, value)


def _of_found(runs: list[Any] | _Unknown) -> list[Fact]:
    """Revision, DVC experiment and run; of several runs that wrote the same weights the first."""
    if isinstance(runs, _Unknown):
        return [_fact("revision", runs), _fact("run", runs)]
    run, *others = runs
    tags, info = run.data.tags, run.info
    revision, changed = tags.get("git_revision"), tags.get("git_dirty") == "true"
    begun = datetime.fromtimestamp(info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    value = {
        "id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "begun": begun,
        "equal": [run.info.run_id for run in others],
    }
    same = f"; of the same weights: {', '.join(value['equal'])}" if others else ""
    facts = [
        _known(
            "revision", {"commit": revision, "changed": changed}, revision + (" + changes" if changed else "")
        )
        if revision
        else _fact("revision", _Unknown("the run was not in a git repository")),
        _known("run", value, f"{info.run_id} {info.run_name} ({info.status.lower()}, begun {begun}{same})"),
    ]
    if "DVC_EXP_NAME" in tags:
        facts.insert(1, _known("experiment", tags["DVC_EXP_NAME"]))
    return facts


def _of_training(
    trained: Mapping[str, Any] | _Unknown, missing: str = "the weights do not say"
) -> list[Fact]:
    if isinstance(trained, _Unknown):
        return [_fact(name, trained) for name in (*CIRCUMSTANCES, "parameters")]
    parameters = {key: trained[key] for key in sorted(trained) if key not in (*CIRCUMSTANCES, OPERATOR)}
    facts = [_fact(name, trained.get(name, _Unknown(missing))) for name in CIRCUMSTANCES]
    if OPERATOR in trained:
        facts.append(_fact(OPERATOR, trained[OPERATOR]))
    return [*facts, _fact("parameters", parameters or _Unknown(missing))]


def _headline(figures: Mapping[str, float]) -> Fact | None:
    """The figures that a task is known by, of those in a metrics file or a run."""
    found = {name: value for kind in MONITORED for name, value in monitored_in(kind, figures).items()}
    return (
        _known("figures", found, ", ".join(f"{name} {value:g}" for name, value in found.items()))
        if found
        else None
    )


def _figures_of(path: Path) -> Fact | _Unknown:
    if not path.exists():
        return _Unknown(f"no {path}")
    figures = read_metrics(path)
    if not (headline := _headline(figures)):
        sections = ", ".join(dict.fromkeys(name.partition(".")[0] for name in figures)) or "nothing"
        raise UserError(
            f"{path}: found {sections}, expected the figures of one task, as metrics/TASK.json holds them"
        )
    return headline


def _figures_with(weights: str, task: str) -> Fact | _Unknown:
    """Of weights with that hash, if those in the workspace are of them."""
    path = TaskPaths(task).provenance
    if not path.exists():
        return _Unknown(f"no {path} says of which weights the figures are")
    if parse(_Evaluated, read_json(path), str(path)).weights != weights:
        return _Unknown(f"those of {TaskPaths(task).metrics} are of other weights")
    return _figures_of(TaskPaths(task).metrics)


def _weights_now(said: _Evaluated, root: Path) -> Fact:
    """The weights that were evaluated, and whether they still lie where they did."""
    path = root / said.file
    now = "is gone" if not path.is_file() else "" if file_hash(path) == said.weights else "is another now"
    value = {"md5": said.weights, "file": said.file, "there": not now}
    return _known("weights", value, f"{said.weights} {said.file}" + (f", which {now}" if now else ""))


def _plain(text: str) -> Any:
    """A parameter as it was before MLflow made it text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


# --- git and MLflow ---


def _committed(path: Path) -> Fact | _Unknown:
    """The commit that last wrote a file, and whether the file is as it was there."""
    of_file = ("--", f"./{path.name}")
    commit = run_git("log", "-1", "--format=%H", *of_file, folder=path.parent)
    if commit is None:
        return _Unknown(f"{path.resolve().parent} is in no git repository with commits")
    if not commit:
        return _Unknown(f"{path} was never committed")
    differs = bool(run_git("status", "--porcelain", *of_file, folder=path.parent))
    return _known(
        "committed",
        {"commit": commit, "changed": differs},
        commit + (", from which the file differs now" if differs else ""),
    )


def _named_run(what: str) -> Any:
    """The run of that name, id, or beginning of an id."""
    try:
        found = _runs(f"attributes.run_name = '{what}'") if not re.search(r"['\"`\\]", what) else []
        if re.fullmatch(f"[0-9a-f]{{{SHORTEST},32}}", what):
            found += _runs(f"attributes.run_id LIKE '{what}%'")
    except _Unknown as reason:
        raise UserError(f"{what}: no such file or task, and of runs: {reason}") from None
    runs = {run.info.run_id: run for run in found}
    if not runs:
        raise UserError(
            f"{what}: no such file, task, run name or beginning ({SHORTEST} characters) of a run's id, expected {EXPECTED}"
        )
    if len(runs) > 1:
        named = [f"{run_id} {run.info.run_name}" for run_id, run in runs.items()]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        raise UserError(
            f"{what}: found {len(named)} runs, expected the id of one: {', '.join(named[:MOST_NAMED])}{more}"
        )
    return next(iter(runs.values()))


def _run_with(weights: str, task: str) -> list[Any] | _Unknown:
    """Runs that wrote weights with that hash, the one that this workspace trained by first, then from the newest."""
    try:
        store = _store()
        runs = {run.info.run_id: run for run in store.runs_that_wrote(weights)}
    except _Unknown as reason:
        return reason
    except store.Unreadable as error:
        return _Unknown(str(error))
    own = TaskPaths(task).run_id
    first = (
        runs.pop(own.read_text(encoding="utf-8", errors="replace").strip(), None) if own.is_file() else None
    )
    ordered = [*([first] if first else []), *runs.values()]
    return ordered or _Unknown(f"no run with these weights in {store.store_name()}")


def _runs(which: str) -> list[Any]:
    """Runs that MLflow's filter lets through, the newest first; _Unknown if they cannot be looked for."""
    store = _store()
    try:
        found: list[Any] = store.runs_where(which)
    except store.Unreadable as error:
        raise _Unknown(str(error)) from None
    return found


def _store() -> ModuleType:
    """`pose.tracking.store`, which brings MLflow; _Unknown where that is not installed."""
    try:
        from pose.tracking import store as mlflow_store
    except ModuleNotFoundError as error:
        raise _Unknown(f"{error.name} is not installed") from None
    return mlflow_store
