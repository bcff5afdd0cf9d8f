"""A workspace as the stages leave it, with people whose best and worst are known, and the page made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
from helpers import ROOT

from pose.data.person_set import SOURCES, SPLITS
from pose.io.hdf5 import create_images
from pose.io.paths import TaskPaths
from pose.keypoints.skeleton import LSP_TO_MPII
from pose.metrics.pck import accuracy_curve, per_joint_table, single_person_scores
from pose.params import Params, load_params
from pose.report import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


FILES = (
    "data/prepared/lsp_mpii.h5",
    "predictions/hgpose.h5",
    *(f"metrics/plots/hgpose/{name}.csv" for name in ("train", "valid", "accuracy", "joints")),
)


PEOPLE = 24  # the even ones train, the odd ones are tested


def params(**changes: object) -> Params:
    """Those of the repository, with one task, two people drawn and whatever else is said."""
    given = load_params(ROOT / "params.yaml")
    report = given.report.model_copy(update={"people": 2})
    return given.model_copy(update={"tasks": {"hgpose": given.tasks["hgpose"]}, "report": report, **changes})


def write_prepared(path: Path, *, sources: np.ndarray, splits: np.ndarray, names: list[str]) -> np.ndarray:
    """A prepared file of people on 120 x 160 px pictures; returns their joints."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(sources)
    rng = np.random.default_rng(0)
    joint_NK2 = np.round(rng.uniform((20, 20), (100, 140), (count, 16, 2)))
    labelled_NK = np.ones((count, 16), dtype=bool)
    labelled_NK[sources != 2] = np.isin(np.arange(16), LSP_TO_MPII)  # LSP has no pelvis and no thorax
    codes = np.zeros((count, 50))
    for row, name in enumerate(names):
        codes[row, : len(name)] = [ord(letter) for letter in name]
    with h5py.File(path, "w") as file:
        file["imgname"] = codes
        file["center"], file["scale"] = np.full((count, 2), (60.0, 80.0)), np.full(count, 0.7)
        file["part"] = np.where(
            labelled_NK[..., None], joint_NK2 + (sources == 2)[:, None, None], 0
        )  # MPII counts from one
        file["visible"], file["istrain"] = labelled_NK.astype(float), np.ones(count)
        file["head_size"] = np.where(sources == 2, 20.0, np.nan)
        file["image_size"], file["person"] = np.full((count, 2), (120, 160)), np.zeros(count, dtype=int)
        for name, values, words in (("source", sources, SOURCES), ("split", splits, SPLITS)):
            file[name] = values.astype(np.uint8)
            file[name].attrs["names"] = list(words)
        packed = create_images(file, count)
        for row in range(count):
            picture = rng.integers(0, 255, (80, 60, 3), dtype=np.uint8)
            packed[row] = np.frombuffer(cv2.imencode(".jpg", picture)[1].tobytes(), dtype=np.uint8)
        file["packed_affine"] = np.broadcast_to([[0.5, 0, -0.25], [0, 0.5, -0.25]], (count, 2, 3))
    return np.where(labelled_NK[..., None], joint_NK2, np.nan)


def write_run(root: Path, task: str, true: np.ndarray, sources: np.ndarray, splits: np.ndarray) -> None:
    """Predictions, figures and history: person after person is a little further off."""
    row_N = np.flatnonzero(splits != 0)
    true_NK2 = true[row_N]
    shift_N = np.linspace(0, 60, len(row_N))
    predicted = np.nan_to_num(true_NK2, nan=50) + shift_N[:, None, None] * (1, 0)
    which = {"head_size_N": np.where(sources[row_N] == 2, 20.0, np.nan), "lsp_N": sources[row_N] != 2}
    arrays = (predicted, true_NK2, ~np.isnan(true_NK2).any(axis=2))
    plots = root / "metrics/plots" / task
    plots.mkdir(parents=True, exist_ok=True)
    (root / "predictions").mkdir(exist_ok=True)
    (root / f"metrics/{task}.json").write_text(json.dumps(single_person_scores(*arrays, **which)))
    accuracy_curve(*arrays, **which).to_csv(plots / "accuracy.csv", index=False)
    per_joint_table(*arrays, **which).to_csv(plots / "joints.csv", index=False)
    with h5py.File(root / f"predictions/{task}.h5", "w") as file:
        file["joint"], file["score"], file["row"] = (
            predicted.astype("f4"),
            np.full(predicted.shape[:2], 0.8, "f4"),
            row_N,
        )
        file.attrs.update(task=task, skeleton="mpii")
    step = np.arange(10, 5001, 10)
    pd.DataFrame({"step": step, "lr": 1e-3, "heatmap": 1 / step, "push": 2 / step, "loss": 3 / step}).to_csv(
        plots / "train.csv", index=False
    )
    step = np.arange(500, 5001, 500)
    valid = {"step": step, "epoch": step / 500, "PCKh@0.5": step / 100, "AUC": step / 200}
    pd.DataFrame(valid).to_csv(plots / "val.csv", index=False)
    write_clock(root, task, step, step * 0.05)


def write_clock(root: Path, task: str, step: np.ndarray, seconds: np.ndarray) -> None:
    path = root / TaskPaths(task).clock
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"step": step, "seconds": seconds}).to_csv(path, index=False)


def workspace(root: Path, tasks: tuple[str, ...] = ("hgpose",), *, names: list[str] | None = None) -> Path:
    sources = np.arange(PEOPLE) // 2 % 3
    splits = np.where(np.arange(PEOPLE) % 2 == 0, 0, 2)
    names = names or [
        f"{('LSP', 'LSPET', 'mpii')[source]}/images/im{row:04d}.jpg" for row, source in enumerate(sources)
    ]
    true = write_prepared(root / "data/prepared/lsp_mpii.h5", sources=sources, splits=splits, names=names)
    for task in tasks:
        write_run(root, task, true, sources, splits)
    return root


def without_curves(root: Path) -> Path:
    """The same, for a page that takes less time."""
    for path in (root / "metrics/plots/hgpose").iterdir():
        path.unlink()
    return root


def report(root: Path, given: Params | None = None, *, revision: str = "abc1234-dirty") -> Page:
    write_report(
        given or params(),
        revision=revision,
        machine={"PyTorch": "2.11.0", "Device": "CPU, 2 cores"},
        root=root,
        folder=root / "report",
    )
    return Page.of((root / "report/index.html").read_text(encoding="utf-8"))


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

    @staticmethod
    def of(source: str) -> Page:
        return Page(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
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
