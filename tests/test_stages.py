"""The contract of each DVC stage.

What its code imports is among what it depends on. Read from the sources and by DVC itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.repo import Repo
from helpers import ROOT, SOURCES, imported_sources

from pose.training.code_version import code_version

# What reads a file or says an error in words shapes no output; nor does MLflow. Parameters are declared by
# their keys.
SHAPES_NOTHING = {"pose", "pose.io.errors", "pose.io.paths", "pose.params", "pose.tracking.mlflow"}
PROBLEMS = ("single", "multi")


@pytest.fixture(scope="module")
def deps() -> dict[str, set[str]]:
    """What each stage depends on, as DVC has it, by its name."""
    with Repo(ROOT) as repo:
        return {
            stage.addressing: {Path(dep.def_path).as_posix() for dep in stage.deps}
            for stage in repo.index.stages
        }


def imported(name: str) -> set[str]:
    """All of our sources that a module imports, itself or through others, but for what shapes nothing and what that imports."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found | SHAPES_NOTHING:
            found.add(module)
            waiting += imported_sources(module)
    return found


def missing(module: str, deps: set[str]) -> list[str]:
    """Sources that a stage's module imports and the stage does not depend on, by itself, by a folder or by the version of the code."""
    of_training: set[str] = set().union(
        *(code_version(problem) for problem in PROBLEMS if f"build/code/{problem}.json" in deps)
    )
    paths = {SOURCES[name].relative_to(ROOT).as_posix() for name in imported(module)}
    return sorted(
        path
        for path in paths - of_training
        if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)
    )


@pytest.mark.parametrize("stage", ["synthesize", "prepare_lsp_mpii", "prepare_coco", "build_ext", "report"])
def test_a_stage_depends_on_all_code_that_it_imports(stage: str, deps: dict[str, set[str]]):
    assert missing(f"stages.{stage}", deps[stage]) == []


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize(("task", "other"), [("hgpose", "multi"), ("hgpose-ae", "single")])
def test_a_task_depends_on_all_code_of_its_problem(
    stage: str, task: str, other: str, deps: dict[str, set[str]]
):
    assert set(missing(f"stages.{stage}", deps[f"{stage}@{task}"])) <= code_version(other).keys()


def test_tasks_of_a_problem_depend_on_the_same_code(deps: dict[str, set[str]]):
    for plain, adversarial in (("hgpose", "advpose"), ("hgpose-ae", "advpose-ae")):
        assert deps[f"train@{plain}"] == deps[f"train@{adversarial}"]
