"""Workspaces as the stages leave them, of which it is known who is best and worst, and their pages."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import raw_sets as raw
from helpers import ROOT

from pose.data.prepare.dataset import prepare_dataset
from pose.data.results import write_results
from pose.io.files import write_json
from pose.io.paths import PREPARED, TaskPaths, prepared_folder
from pose.keypoints.people import People
from pose.metrics.pck import PCK, PCKH, reference_length
from pose.params import DatasetParams, Params, load_params
from pose.report import write_report
from pose.report.adversary import COLUMNS
from pose.tasks.base import ProblemData
from pose.tasks.task import open_data


@dataclass
class Page(HTMLParser):
    """What is on a page; fails on an element that is not closed, or closed out of turn."""

    source: str
    words: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link", "input", "hr"}:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> out of turn"

    def handle_data(self, data):
        if self._open and self._open[-1] not in {"style", "title"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def charts(self) -> dict[str, str]:
        """The source of each chart by its label."""
        sources = self.source.split("<svg")[1:]
        return {str(svg["aria-label"]): source for svg, source in zip(self.all("svg"), sources, strict=True)}

    @property
    def captions(self) -> dict[str, str]:
        """The caption of each image of the galleries by the name of its file, in the page's order."""
        return self.view("v")

    def view(self, name: str) -> dict[str, str]:
        """The captions of the images in one view of the galleries."""
        marks = dict(re.findall(r'class="(v\d)"[^>]*><label[^>]*>([^<]*)<', self.source))
        mark = next((mark for mark, label in marks.items() if label == name), name)
        found = re.findall(r'<figure class="([^"]*)"[^>]*><img [^>]*alt="([^"]*)"', self.source)
        texts = [unescape(text) for marked, text in found if mark in marked and "chart" not in marked]
        return dict(text.split(": the true and the predicted skeleton; ") for text in texts)


@pytest.fixture(scope="session")
def params_of() -> Callable[..., Params]:
    """The committed parameters with these tasks, and two images from either end."""

    def make(*tasks: str) -> Params:
        given = load_params(ROOT / "params.yaml")
        report = given.report.model_copy(update={"people": 2})
        multi = given.multi.model_copy(update={"held_out": 1})
        specs = {task: given.tasks[task] for task in tasks}
        return given.model_copy(update={"tasks": specs, "report": report, "multi": multi})

    return make


@pytest.fixture(scope="session")
def page_of() -> Callable[[Path, Params], Page]:
    """The page of a workspace."""

    def make(root: Path, params: Params) -> Page:
        write_report(params, root=root, folder=root / "report")
        return Page((root / "report/index.html").read_text(encoding="utf-8"))

    return make


@pytest.fixture(scope="session")
def single_root(params_of, prepared, tmp_path_factory) -> Path:
    """hgpose and advpose, evaluated on 26 people, each further off than the one before."""
    root = tmp_path_factory.mktemp("single")
    (root / "data/prepared").mkdir(parents=True)
    shutil.copy(prepared, root / PREPARED["lsp_mpii"])
    data = open_data(params_of().single, root / PREPARED["lsp_mpii"])
    people, rows = data.people, data.rows("evaluation")
    torso_N = reference_length(people.joint_NK2, people.labelled_NK, people.skeleton, people.scale_N)
    head_N = people.head_size_N
    limit_N = np.where(np.isfinite(head_N), PCKH * head_N, PCK * np.nan_to_num(torso_N, nan=50.0))
    found = []
    for row, off in zip(rows, np.linspace(0, 2, len(rows)), strict=True):
        joint_K2 = np.nan_to_num(people.joint_NK2[row], nan=50.0) + (off * limit_N[row], 0)
        found.append(People(joint_K2[None], np.full((1, 16), 0.8), np.array([0.8])))
    for task in ("hgpose", "advpose"):
        write_task(TaskPaths(task, root), data, found, rows, {"PCKh@0.5": 45.0, "AUC": 30.0})
    path = TaskPaths("advpose", root).plots / "train.csv"
    table = pd.read_csv(path)
    step = table["step"]
    values = 1 / step, 20 / step, step / 10_000, -19.5 / step, 20.5 / step
    for name, value in zip(COLUMNS, values, strict=True):
        table[name] = value.where(step > 2500)
    table.to_csv(path, index=False)
    return root


@pytest.fixture(scope="session")
def multi_root(params_of, prepared_coco, tmp_path_factory) -> Path:
    """hgpose-ae: everybody is found in half of the images, nobody in the others, and a ghost in each."""
    root = tmp_path_factory.mktemp("multi")
    shutil.copytree(prepared_coco, root / PREPARED["coco"])
    data = open_data(params_of().multi, root / PREPARED["coco"])
    rows, found = data.rows("evaluation"), []
    for number, row in enumerate(rows):
        true_PK2 = data.images.joints(row)[0]
        true_PK2 = np.where(np.isnan(true_PK2), np.nanmean(true_PK2, axis=1, keepdims=True), true_PK2)
        off = 0 if number < len(rows) // 2 else 500
        ghost_1K2 = np.full((1, 17, 2), -1000.0) if not len(true_PK2) else true_PK2[:1] - 1000
        joint_PK2 = np.concatenate([true_PK2 + off, ghost_1K2])
        score_P = np.array([0.8] * len(true_PK2) + [0.05])
        found.append(People(joint_PK2, np.repeat(score_P[:, None], 17, axis=1), score_P))
    paths = TaskPaths("hgpose-ae", root)
    extra = {
        "COCO with people": {"AP": 0.5678},
        "COCO without tags": {"AP": 0.1234},
        "COCO train": {"AP": 0.7654},
        "grouping": {"by_tags": 1.0, "detection_threshold": 0.15, "tag_threshold": 0.75, "max_distance": 0.3},
    }
    write_task(paths, data, found, rows, {"AP": 0.4, "AP50": 0.6, "AR": 0.5}, **extra)
    return root


@pytest.fixture(scope="session")
def single_page(single_root, params_of, page_of) -> Page:
    return page_of(single_root, params_of("hgpose", "advpose", "hgpose-ae"))  # the last is not evaluated


@pytest.fixture(scope="session")
def multi_page(multi_root, params_of, page_of) -> Page:
    return page_of(multi_root, params_of("hgpose-ae"))


@pytest.fixture(scope="session")
def own_page(params_of, page_of, tmp_path_factory) -> Page:
    """`hand` and `hand-ae` on an own data set, all found as annotated; `top-down` on people of COCO."""
    root, given = tmp_path_factory.mktemp("own"), params_of("hgpose", "hgpose-ae")
    raw.write_own_set(root / "hand", 12)
    spec = DatasetParams.model_validate(raw.own_spec(root / "hand"))
    prepare_dataset("hand", spec, root / prepared_folder("hand"), params=raw.PREPARE, seed=1, workers=1)
    extended = ("hand", "hgpose", "hand"), ("hand-ae", "hgpose-ae", "hand"), ("top-down", "hgpose", "coco")
    tasks = {
        name: given.tasks[base].model_copy(update={"dataset": dataset}) for name, base, dataset in extended
    }
    params = given.model_copy(update={"tasks": tasks, "datasets": {"hand": spec}})
    for task, reached in (("hand", {"PCK@0.2": 70.0}), ("hand-ae", {"AP": 0.4, "AP50": 0.6, "AR": 0.5})):
        data = open_data(params.problem(task), root / params.prepared(task))
        rows, source = data.rows("evaluation"), data.source
        joint_N1K2, score_N1K = source.joint_NK2[rows][:, None], source.labelled_NK[rows][:, None] * 1.0
        found = [People(*one, np.ones(1)) for one in zip(joint_N1K2, score_N1K, strict=True)]
        write_task(TaskPaths(task, root), data, found, rows, reached)
    (root / "metrics/top-down.json").write_text('{"PCK": {"0.2": 50}}')
    return page_of(root, params)


@pytest.fixture
def single_copy(single_root, tmp_path) -> Path:
    """To change something in, without most of the curves: each takes time."""
    return shutil.copytree(
        single_root, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("train.csv")
    )


@pytest.fixture
def multi_copy(multi_root, tmp_path) -> Path:
    """To change something in, without curves."""
    return shutil.copytree(multi_root, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.csv"))


@pytest.fixture
def bare_root(tmp_path) -> Path:
    """A workspace with one metric of hgpose and nothing else."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/hgpose.json").write_text('{"PCKh": {"0.5": 50}}')
    return tmp_path


def write_task(
    paths: TaskPaths,
    data: ProblemData,
    found: list[People],
    rows: np.ndarray,
    reached: dict[str, float],
    **scores: dict[str, float],
) -> None:
    """What train and evaluate leave. reached: metrics at the end of val.csv. scores: further tables."""
    write_json(paths.metrics, data.score(found, rows) | scores)
    paths.predictions("").parent.mkdir(exist_ok=True)
    suffix, format = (".h5", "rows") if data.unit == "people" else (".json", "coco")
    write_results(paths.predictions(suffix), data.results(paths.task, found, rows), format)
    step, val_step = np.arange(10, 5001, 10), np.arange(500, 5001, 500)
    train = {"step": step, "lr": 1e-3, "heatmap": 1 / step, "push": 2 / step, "loss": 3 / step}
    val = {"step": val_step, "epoch": val_step / 500}
    for name, value in reached.items():
        val |= {name: value * val_step / 5000, f"train {name}": 1.1 * value * val_step / 5000}
    tables = data.tables(found, rows) | {"train": pd.DataFrame(train), "val": pd.DataFrame(val)}
    paths.plots.mkdir(parents=True)
    for name, table in tables.items():
        table.to_csv(paths.plots / f"{name}.csv", index=False)
    paths.checkpoints.mkdir(parents=True)
    pd.DataFrame({"step": val_step, "seconds": val_step * 0.05}).to_csv(paths.train_time, index=False)
