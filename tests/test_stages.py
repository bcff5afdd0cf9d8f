"""The contract of each DVC stage: what its code imports is among what it depends on."""

import re
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer
from helpers import ROOT, SOURCES, imported_sources
from raw_sets import write_own_set

from pose.experiments.new_dataset import new_dataset
from pose.params import load_params
from pose.training.code_version import counted_sources

# Errors, commands, locks and trackers shape no output. Parameters are declared by their keys.
SHAPES_NOTHING = {
    *("pose", "pose.io.command", "pose.io.dvc_stage", "pose.io.errors", "pose.io.file_lock", "pose.io.paths"),
    *("pose.params", "pose.training.environment"),
    *("pose.tracking.base", "pose.tracking.evaluation", "pose.tracking.mlflow"),
    *("pose.training.code_version", "pose.training.launch", "pose.training.lock"),
}
NOT_FOLLOWED = ("pose.params", "pose.io.dvc_stage", "pose.tracking.mlflow")
PROBLEMS = ("single", "multi")


def test_experiments_are_compared_by_the_metrics_of_the_summary_alone():
    with chdir(ROOT), Repo() as repo:
        tasks = load_params(ROOT / "params.yaml").tasks
        files = {metric.def_path for metric in repo.index.metrics}
        assert files == {f"metrics/summary/{task}.json" for task in tasks}


def test_the_page_of_dvc_plots_asks_the_network_only_where_vega_is_not_at_hand():
    with chdir(ROOT), Repo() as repo:
        template = Path(repo.dvc_dir, repo.config["plots"]["html_template"]).read_text(encoding="utf-8")
    page = HTML(template).with_scripts(VegaRenderer.SCRIPTS).with_element("<div>a plot</div>").embed()
    loaded, network, rest = re.split("<template id=.network.>|</template>", page)
    assert "https:" not in loaded + rest
    assert network.count("https:") == 3
    assert "build/vega.js" in rest
    assert "<div>a plot</div>" in rest


@pytest.fixture(scope="module")
def deps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What each stage depends on, by its name; `own` is a data set that `pose new-dataset` added."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    write_own_set(folder / "own")
    with chdir(folder), Repo.init(no_scm=True) as repo:
        new_dataset(["own"])
        stages = repo.index.stages
        return {stage.addressing: {Path(dep.def_path).as_posix() for dep in stage.deps} for stage in stages}


def missing(module: str, deps: set[str]) -> list[str]:
    """Sources that a module imports, itself or through others, and that are no dependency."""
    counted = {
        path.relative_to(ROOT).as_posix()
        for problem in PROBLEMS
        if f"build/code/{problem}.json" in deps
        for path in counted_sources(problem)
    }
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported_sources(name) if name not in NOT_FOLLOWED else ()
    paths = {SOURCES[name].relative_to(ROOT).as_posix() for name in found - SHAPES_NOTHING}
    return sorted(
        path for path in paths - counted if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)
    )


@pytest.mark.parametrize(
    "stage", ["synthesize", "prepare_lsp_mpii", "prepare_coco", "prepare_own", "build_ext", "report"]
)
def test_a_stage_depends_on_all_code_that_it_imports(stage, deps):
    assert missing(f"stages.{stage.removesuffix('_own')}", deps[stage]) == []


@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("task", "other"), [("hgpose", "multi"), ("hgpose-ae", "single"), ("own", "multi"), ("own-ae", "single")]
)
def test_a_task_depends_on_all_code_of_its_problem(stage, task, other, deps):
    of_other = {path.relative_to(ROOT).as_posix() for path in counted_sources(other)}
    assert set(missing(f"stages.{stage}", deps[f"{stage}@{task}"])) <= of_other


def test_tasks_of_a_problem_depend_on_the_same_code(deps):
    for plain, adversarial in (("hgpose", "advpose"), ("hgpose-ae", "advpose-ae")):
        assert deps[f"train@{plain}"] == deps[f"train@{adversarial}"]
