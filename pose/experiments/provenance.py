"""Where metrics and weights come from: revision, parameters, data, torch, device. For `pose show`.

Weights hold by what they were trained; `metrics/provenance/` says which weights the metrics are of; an MLflow
run knows the revision, and is found by the hash of the weights that it wrote. Nothing is written anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pose.experiments.presets import PARAMS
from pose.io.errors import UserError
from pose.io.files import file_hash, read_json
from pose.io.paths import TaskPaths
from pose.io.schema import Frozen, flatten, parse
from pose.metrics.monitored import MONITORED, monitored_in
from pose.models.weights import load_weights
from pose.params import load_params
from pose.tasks.fingerprint import changed_params

EXPECTED = "metrics/TASK.json, models/TASK/last.pt or best.pt, or a task"
# Of what weights were trained by; the rest are parameters.
ENVIRONMENT_KEYS = ("data", "source", "code", "torch", "device", "processes", "epochs", "steps")
INIT_KEYS = ("data", "code", "steps")  # of the weights that a training began from
MD5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
DEVICE_KEYS = ("operator", "instructions", "cudnn", "numpy", "opencv", "h5py")  # not all have each


@dataclass(frozen=True)
class Fact:
    """One line. value: plain, for machines; None where it is unknown, and `text` then says why."""

    name: str
    value: Any
    text: str


class _Unknown(str):
    """Why something cannot be found out."""


IMPORTED = _Unknown("the weights do not say: they were imported, or trained elsewhere")


class _Evaluated(Frozen):
    """`metrics/provenance/TASK.json`. weights: MD5 of `file`, as it was. trained: as the weights hold it.

    refine_weights, refine_file: the same of what refined the people.
    """

    task: str
    weights: MD5
    file: str
    refine_weights: MD5 | None = None
    refine_file: str = ""
    trained: dict[str, Any]


def provenance(what: str) -> list[Fact]:
    """All that is known of metrics, weights or a task; parameters last.

    UserError for what is none of these, or a damaged file.
    """
    if os.path.isfile(what):
        return _of_metrics(Path(what)) if what.endswith(".json") else _of_weights(Path(what))
    paths = TaskPaths(what)
    for path in (paths.metrics, paths.models / "last.pt", paths.models / "best.pt"):
        if os.path.isfile(path):
            return provenance(str(path))
    found = "is a folder" if os.path.isdir(what) else "no such file or task"
    raise UserError(f"{what}: {found}, expected {EXPECTED}")


def as_text(facts: Sequence[Fact]) -> str:
    """Aligned lines; the parameters after an empty one, a line each."""
    *lines, parameters = facts
    texts = {fact.name: fact.text for fact in lines}
    last = parameters.value or {parameters.name: parameters.text}
    return f"{_aligned(texts)}\n\n{_aligned(last)}"


def as_json(facts: Sequence[Fact]) -> str:
    """Values by name, null where unknown, and the reasons under `unknown`."""
    unknown = {fact.name: fact.text.removeprefix("unknown: ") for fact in facts if fact.value is None}
    return json.dumps({fact.name: fact.value for fact in facts} | {"unknown": unknown}, indent=2, default=str)


def _aligned(texts: Mapping[str, Any]) -> str:
    width = max(map(len, texts))
    return "\n".join(f"{name:{width}}  {text}" for name, text in texts.items())


def _fact(name: str, value: Any, text: str = "") -> Fact:
    if isinstance(value, _Unknown):
        return Fact(name, None, f"unknown: {value}")
    return Fact(name, value, text or str(value))


# --- what is asked about ---


def _folder_of(folder: Path) -> Path:
    """The folder that holds it, also of `.`, where the user may be."""
    return Path(os.path.normpath(folder / ".."))


def _of_metrics(path: Path) -> list[Fact]:
    if path.absolute().parent.name == "provenance":
        path = _folder_of(path.parent) / path.name
    beside = path.parent / "provenance" / path.name
    if not beside.exists():
        missing = _Unknown(f"no {beside}, which evaluate@{path.stem} writes")
        known = [_fact("task", path.stem), _metrics_in(path), _fact("weights", missing), *_of_runs(missing)]
        return [*known, *_of_training(missing)]
    evaluated, root = parse(_Evaluated, read_json(beside), str(beside)), _folder_of(path.parent)
    return [
        _fact("task", evaluated.task),
        _metrics_in(path),
        _weights_file("weights", evaluated.weights, evaluated.file, root),
        *_refining(evaluated, root),
        *_of_runs(_runs_with(evaluated.weights)),
        *_params_now(evaluated.task, evaluated.trained, root / PARAMS),
        *_of_init(evaluated.trained, root),
        *_of_training(evaluated.trained),
    ]


def _of_weights(path: Path) -> list[Fact]:
    weights, found = load_weights(path), file_hash(path)
    paths = TaskPaths(weights.task)
    refining, metrics = list[Fact](), _fact("metrics", _Unknown(f"no {paths.provenance} names their weights"))
    if paths.provenance.exists():
        evaluated = parse(_Evaluated, read_json(paths.provenance), str(paths.provenance))
        metrics = _fact("metrics", _Unknown(f"those of {paths.metrics} are of other weights"))
        if evaluated.weights == found:
            refining, metrics = _refining(evaluated, Path()), _metrics_in(paths.metrics)
    return [
        _fact("task", weights.task),
        metrics,
        _fact("weights", {"md5": found, "file": str(path)}, f"{found} {path}"),
        *refining,
        *_of_runs(_runs_with(found)),
        *_params_now(weights.task, weights.provenance, PARAMS),
        *_of_init(weights.provenance, Path()),
        *_of_training(weights.provenance or IMPORTED),
    ]


# --- lines ---


def _of_runs(runs: list[Any] | _Unknown) -> list[Fact]:
    """Revision, DVC experiment and run; of several runs that wrote the same weights the first."""
    if isinstance(runs, _Unknown):
        return [_fact("revision", runs), _fact("run", runs)]
    (run, *others), facts = runs, []
    tags, info = run.data.tags, run.info
    if revision := tags.get("git_revision"):
        changed = tags.get("git_dirty") == "true"
        text = revision + (" + changes" if changed else "")
        facts.append(_fact("revision", {"commit": revision, "changed": changed}, text))
    else:
        facts.append(_fact("revision", _Unknown("the run was not in a git repository")))
    if "DVC_EXP_NAME" in tags:
        facts.append(_fact("experiment", tags["DVC_EXP_NAME"]))
    begun = datetime.fromtimestamp(info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    equal = [other.info.run_id for other in others]
    value = {"id": info.run_id, "name": info.run_name, "status": info.status, "begun": begun, "equal": equal}
    same = f"; of the same weights: {', '.join(equal)}" if equal else ""
    text = f"{info.run_id} {info.run_name} ({info.status.lower()}, begun {begun}{same})"
    return [*facts, _fact("run", value, text)]


def _params_now(task: str, trained: Mapping[str, Any], path: Path) -> list[Fact]:
    """Whether params.yaml, where there is one, still has the values by which the weights were trained."""
    if not trained or not path.exists():
        return []
    try:
        changed = changed_params(load_params(path), task, trained)
    except UserError as error:
        return [_fact(PARAMS.name, _Unknown(str(error)))]
    text = ", ".join(f"{key} {values}" for key, values in changed.items())
    return [_fact(PARAMS.name, changed, text or "has the values of the training")]


def _of_init(trained: Mapping[str, Any], root: Path) -> list[Fact]:
    """The weights that the training began from, if any, and what those come from."""
    if not (found := trained.get("init")):
        return []
    fact = _weights_file("init", found, str(trained.get("task.init.weights")), root)
    made: Mapping[str, Any] = {}
    missing = _Unknown("these weights are not there")
    if fact.value["there"]:
        made, missing = load_weights(root / fact.value["file"]).provenance, IMPORTED
    facts = [_fact(key, made.get(key, missing)) for key in INIT_KEYS]
    return [fact, *(replace(one, name=f"init {one.name}") for one in (*_of_runs(_runs_with(found)), *facts))]


def _of_training(trained: Mapping[str, Any] | _Unknown) -> list[Fact]:
    if isinstance(trained, _Unknown):
        return [_fact(name, trained) for name in (*ENVIRONMENT_KEYS, "parameters")]
    missing = _Unknown("not recorded")
    names = [*ENVIRONMENT_KEYS, *(name for name in DEVICE_KEYS if name in trained)]
    parameters = {key: trained[key] for key in sorted(trained.keys() - {*names, "init"})}
    facts = [_fact(name, trained.get(name, missing)) for name in names]
    return [*facts, _fact("parameters", parameters or missing)]


def _refining(evaluated: _Evaluated, root: Path) -> list[Fact]:
    """The weights of `refined` metrics, where there are some."""
    if not evaluated.refine_weights:
        return []
    return [_weights_file("refined by", evaluated.refine_weights, evaluated.refine_file, root)]


def _monitored(scores: Mapping[str, float]) -> Fact | None:
    # Of one problem: the AP of a single-person network is that of annotated boxes.
    found = next(filter(None, (monitored_in(problem, scores) for problem in MONITORED)), {})
    text = ", ".join(f"{name} {value:g}" for name, value in found.items())
    return _fact("metrics", found, text) if found else None


def _metrics_in(path: Path) -> Fact:
    if not path.exists():
        return _fact("metrics", _Unknown(f"no {path}"))
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    scores = {key: value for key, value in flatten(content).items() if isinstance(value, int | float)}
    if fact := _monitored(scores):
        return fact
    found = ", ".join(map(str, content)) or "nothing"
    raise UserError(f"{path}: found {found}, expected the metrics of one task, as in metrics/TASK.json")


def _weights_file(name: str, md5: str, file: str, root: Path) -> Fact:
    """Weights that were used, and whether they are still in their place."""
    path, change = root / file, ""
    if not path.is_file():
        change = "is gone"
    elif file_hash(path) != md5:
        change = "is another now"
    text = f"{md5} {file}"
    return _fact(
        name, {"md5": md5, "file": file, "there": not change}, f"{text}, which {change}" if change else text
    )


# --- MLflow ---


def _runs_with(weights: str) -> list[Any] | _Unknown:
    """Runs that wrote weights with that hash, the newest first."""
    try:
        from pose.tracking import store
    except ModuleNotFoundError as error:
        return _Unknown(f"{error.name} is not installed")
    try:
        found = store.runs_that_wrote(weights)
    except store.Unreadable as error:
        return _Unknown(str(error))
    return found or _Unknown("no run with these weights in the MLflow store")
