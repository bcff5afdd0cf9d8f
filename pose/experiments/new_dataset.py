"""A data set of one's own, written into params.yaml and dvc.yaml: its stage and tasks. `pose new-dataset`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from pose.data.prepare.annotated import count_kept
from pose.data.prepare.dataset import choose_images
from pose.experiments.init_project import CODE, PACKAGE_VERSION
from pose.experiments.yaml_file import as_yaml, load_commented, plain
from pose.io.errors import UserError, reading
from pose.io.files import write_text
from pose.io.paths import TaskPaths, prepared_folder, prepared_set
from pose.io.schema import parse
from pose.models.limits import TaskName
from pose.params import DatasetParams, Params, parse_params
from pose.tasks.multi import HELD_OUT_PART

PARAMS, PIPELINE = Path("params.yaml"), Path("dvc.yaml")
BASES = {"single": "hgpose", "multi": "hgpose-ae"}  # whose parameters a new task has
SUFFIXES = {"single": "", "multi": "-ae"}  # of the tasks' names
STEPS = 1500  # about so many are trained
VALIDATIONS = 10
BATCHES = 4  # of an epoch, at least
VALIDATION = 0.2  # share of the images, where the sources do not say
FEW = 500  # training samples; fewer are learnt by heart in STEPS unless they are turned, scaled and coloured
AUGMENT: dict[str, dict[str, Any]] = {
    "single": {"rotation": {"probability": 0.6}, "scale": {"spread": 0.25}, "colour": 0.2},
    "multi": {"rotation": 30.0, "scale": 0.3, "shift": 0.15, "hue": 30.0, "brightness": 0.2},
}


def new_dataset(
    sources: Sequence[str],
    *,
    name: str | None = None,
    skeleton: str | None = None,
    category: str | None = None,
    assume_joints: bool = False,
    problems: Sequence[str] = tuple(BASES),
    validation: float = VALIDATION,
    init: str | None = None,
) -> list[str]:
    """Add a data set with a stage and a task for each problem to this workspace; returns what to say of it.

    name: by default that of the first source. validation: share of the images, where the sources do not say
    which. init: weights that its tasks begin from. UserError, before anything is written, for sources that
    cannot be used, and for a name that is taken or is none.
    """
    name = name or default_name(sources)
    values, pipeline = load_commented(PARAMS), load_commented(PIPELINE)
    params = parse_params(plain(values), str(PARAMS))
    tasks = {name + SUFFIXES[problem]: problem for problem in problems}
    _check_names(name, tasks, params, pipeline)
    made = {TaskPaths(task).models / f"{kind}.pt" for task in params.tasks for kind in ("best", "last")}
    if init and Path(init) not in made and not Path(init).exists():
        raise UserError(f"--init {init}: no such file, expected one, or models/TASK/last.pt of a task")
    spec = own_dataset(
        sources,
        skeleton=skeleton,
        category=category,
        assume_joints=assume_joints,
        problems=problems,
        validation=validation,
    )
    images, _, summary = choose_images(name, spec, params=params.prepare.coco, seed=params.seed)
    count_kept(images, summary)
    train = [image for image in images if image.split == "train"]
    counts = {
        "single": sum(len(image.people) for image in train),
        "multi": len(train) - len(train) // HELD_OUT_PART,
    }
    values["datasets"][name] = _flow_lists(spec.model_dump())
    values["datasets"].fa.set_block_style()
    for task, problem in tasks.items():
        values["tasks"][task] = _task(name, problem, counts[problem], params)
        if init:
            values["tasks"][task]["init"] = _flow({"weights": init, "frozen": 0.0, "lr_scale": 1.0})
    if len(tasks) == len(SUFFIXES):
        values["evaluate"]["refine"][name + SUFFIXES["multi"]] = name
    with reading(PIPELINE, "the stages of this project"):
        _add_stages(name, spec, tasks, init, pipeline["stages"])
    texts = {path: _spaced(as_yaml(content)) for path, content in ((PARAMS, values), (PIPELINE, pipeline))}
    parse_params(plain(values), f"{PARAMS} with data set {name}")
    for path, text in texts.items():
        write_text(path, text)
    return [
        str(summary),
        f"{PARAMS}: datasets.{name}, {', '.join(f'tasks.{task}' for task in tasks)}",
        f"{PIPELINE}: prepare_{name}, {', '.join(f'train@{task}, evaluate@{task}' for task in tasks)}",
        f"train on it: dvc repro {' '.join(f'evaluate@{task}' for task in tasks)}",
    ]


def default_name(sources: Sequence[str]) -> str:
    """That of the first source, without what names may not have."""
    path = Path(os.path.abspath(sources[0]))  # of `.` too, and not what a link points to
    return re.sub(r"[^\w-]+", "-", path.name if path.is_dir() else path.stem).strip("-")


def own_dataset(
    sources: Sequence[str],
    *,
    skeleton: str | None,
    category: str | None,
    assume_joints: bool,
    problems: Sequence[str],
    validation: float = VALIDATION,
) -> DatasetParams:
    """The parameters of a data set of which no more is known."""
    values: dict[str, Any] = {
        "sources": [*sources],
        "problems": [*problems],
        "skeleton": skeleton,
        "category": category,
        "joints": {},
        "assume_joints": assume_joints,
        "validation": validation,
    }
    return parse(DatasetParams, values, "data set")


def _check_names(name: str, tasks: dict[str, str], params: Params, pipeline: Any) -> None:
    try:
        TypeAdapter(TaskName).validate_python(name)
    except ValidationError:
        raise UserError(f"--name: found {name!r}, expected letters, digits, '_' and '-'") from None
    taken = [*params.datasets, *params.tasks]
    if (
        name in taken
        or f"prepare_{name}" in pipeline.get("stages", ())
        or any(task in taken for task in tasks)
    ):
        raise UserError(f"--name: found {name}, which {PARAMS} or {PIPELINE} has already, expected another")


def _task(name: str, problem: str, samples: int, params: Params) -> CommentedMap:
    """The parameters of a task of so many training samples."""
    base, processes = params.task(BASES[problem]), params.train.processes
    multiple = processes if isinstance(processes, int) else 1
    batch = max(multiple, min(base.batch, samples // BATCHES // multiple * multiple))
    epochs = math.ceil(STEPS / max(1, samples // batch))
    task = {"extends": BASES[problem], "dataset": name, "epochs": epochs, "batch": batch}
    task |= {"validate_every": max(1, epochs // VALIDATIONS)}
    return CommentedMap(task | ({"override": _flow({"augment": AUGMENT[problem]})} if samples < FEW else {}))


def _add_stages(
    name: str, spec: DatasetParams, tasks: Mapping[str, str], init: str | None, stages: Any
) -> None:
    """The stage of the data set, and those of its tasks; what the report reads of them."""
    items, read = stages["train"]["foreach"], stages["report"]["deps"]
    for task, problem in tasks.items():
        data = prepared_set(name, problem).as_posix()
        refine = f"models/{name}" if problem == "multi" and name in tasks else data
        items[task] = CommentedMap({**items[BASES[problem]], "data": data, "refine": refine})
        items[task]["init"] = init or items[task]["init"]
        ending = items[task]["ending"]
        read += [f"metrics/{task}.json", f"metrics/provenance/{task}.json"]
        read += [f"metrics/plots/{task}", f"predictions/{task}.{ending}"]
    read.append(prepared_folder(name).as_posix())
    coco = [one for one in stages["prepare_coco"]["deps"] if one.startswith(CODE)]
    own = ["stages/prepare.py"]
    if PACKAGE_VERSION not in coco:
        own += ["pose/data/person_set.py", "pose/metrics/statistics.py"]
    skeleton = [spec.skeleton] if spec.skeleton and Path(spec.skeleton).suffix else []
    params = ["seed", "prepare.pack_size", "prepare.jpeg_quality", "prepare.coco", f"datasets.{name}"]
    stages[f"prepare_{name}"] = CommentedMap(
        desc=f"data set {name} -> its images, or people, and the annotations of each split",
        cmd=f"python -m stages.prepare {name}",
        deps=[*own, *coco, *spec.sources, *skeleton],
        **_flow_lists({"params": params}),
        outs=[prepared_folder(name).as_posix()],
    )


def _flow(values: dict[str, Any]) -> CommentedMap:
    """In one line."""
    found = CommentedMap(values)
    found.fa.set_flow_style()
    return found


def _flow_lists(values: dict[str, Any]) -> CommentedMap:
    """With lists in one line each."""
    found = CommentedMap(values)
    for key, value in values.items():
        if isinstance(value, list):
            found[key] = CommentedSeq(value)
            found[key].fa.set_flow_style()
    return found


def _spaced(text: str) -> str:
    """Blank lines before sections, where entries were added at the end of one."""
    text = re.sub(r"(\n(?:datasets|stages):[^\n]*)\n+(?= )", r"\1\n", text)
    return re.sub(r"(\n +[^\n]+)\n(?=[^\s#])", r"\1\n\n", text)
