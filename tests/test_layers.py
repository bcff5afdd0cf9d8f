"""The layers of `pose`.

A file imports from its own row or rows above, never in a circle. Read from the sources themselves.
"""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers import ROOT, SOURCES, imported_modules, imported_sources

# From the top. A name stands for a file or a whole folder of `pose/`. A new file needs a place in one of the
# rows.
ROWS = [
    {"errors", "files", "folders", "git", "params", "people", "skeleton", "sources"},  # facts
    {
        "build_ext",
        "geometry",
        "grouping",
        "heatmap",
        "metrics",
        "ops",
    },  # pure maths, and the building of the operator
    {"nets"},
    {"data", "coco_metrics"},
    {"adversary", "multi", "problem", "single"},  # what to learn
    {"task"},  # joining
    {
        "checkpoint",
        "distributed",
        "engine",
        "history",
        "infer",
        "mlflow_store",
        "process",
        "pyfunc_model",
    }  # running
    | {"record", "resume", "thresholds", "tracking"},
    {"evaluation", "training"},  # a whole run, as the stages call it
    {"cli", "draw", "gate", "interop", "predict", "presets", "provenance", "report", "study"}  # use
    | {"trial", "verify"},
]
PLACE = {name: number for number, row in enumerate(ROWS) for name in row}
# What a bare training machine lacks. The core must import without it.
HEAVY = {"dvc", "mlflow", "pycocotools"}
CORE_ROWS = ROWS[:6]
CORE_FILES = {"checkpoint", "distributed", "engine", "infer", "process"}


def place(name: str) -> str:
    """The row's name for a module: `pose.io.images` -> `data`."""
    return name.split(".")[1]


def test_every_file_has_a_place_in_a_row():
    assert sorted({place(name) for name in SOURCES if name.startswith("pose.")} - PLACE.keys()) == []


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("pose.")])
def test_a_file_imports_from_its_own_row_or_rows_above(name):
    below = {
        target
        for target in imported_sources(name)
        if target.startswith("pose.") and PLACE[place(target)] > PLACE[place(name)]
    }
    assert not below


def test_nothing_is_imported_in_a_circle():
    try:
        TopologicalSorter({name: imported_sources(name) for name in SOURCES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("pose")])
def test_the_package_knows_nothing_of_the_stages(name):
    assert not {target for target in imported_modules(name) if target.split(".")[0] == "stages"}


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("stages.")])
def test_a_stage_is_thin_and_imports_nothing_but_the_package(name):
    others = (
        {target.split(".")[0] for target in imported_modules(name)}
        - {"pose", "__future__"}
        - sys.stdlib_module_names
    )
    assert not others
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= 40


def test_the_core_is_imported_without_what_a_bare_training_machine_lacks():
    core = set.union(*CORE_ROWS) | CORE_FILES
    names = [name for name in SOURCES if name.startswith("pose.") and place(name) in core]
    assert len(names) > 20
    # In an interpreter where these cannot be had; a meta path entry is asked before any installed package is
    # looked for.
    code = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
