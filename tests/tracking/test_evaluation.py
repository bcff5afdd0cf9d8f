"""`pose evaluate`: what the evaluation of a task writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import COCO, enter_folder, make_workspace, set_param, with_values, write_active_weights

from pose.cli import run
from pose.data.image_set import ImageSet
from pose.inference.evaluate import evaluate
from pose.io.files import file_hash
from pose.metrics.monitored import MONITORED
from pose.models.weights import load_weights, save_weights
from pose.params import Params
from pose.tasks.multi import HELD_OUT_PART


@pytest.mark.slow
def test_the_scores_of_a_trained_task_are_written_with_the_hash_of_its_weights(trained):
    metrics = json.loads((trained / "metrics/advpose.json").read_text())
    for metric in MONITORED["single"]:
        value = metrics[metric.table][metric.key]
        assert 0 <= value <= metric.best
        assert value == round(value, 3)
    evaluated = json.loads((trained / "metrics/provenance/advpose.json").read_text())
    assert evaluated["weights"] == file_hash(trained / evaluated["file"])
    assert evaluated["trained"] == load_weights(trained / "models/advpose/last.pt").provenance


def evaluated(params: Params, prepared: Path, folder: Path) -> dict[str, Any]:
    """The metrics file of untrained multi-person weights."""
    write_active_weights(params, folder / "models/hgpose-ae")
    evaluate(params, "hgpose-ae", folder=folder, prepared=prepared)
    return json.loads((folder / "metrics/hgpose-ae.json").read_text())


def test_evaluating_several_people_writes_metrics_curves_and_people(params, prepared_coco, tmp_path):
    metrics = evaluated(params, prepared_coco, tmp_path)
    images = ImageSet(prepared_coco)
    rows = images.rows("validation")
    tables = ["COCO", "COCO with people", "images", "COCO without tags", "COCO train", "grouping"]
    assert list(metrics) == tables
    for table in ("COCO", "COCO with people", "COCO without tags", "COCO train"):
        assert {"AP", "AP50", "AP75", "AR", "AR50", "AR75"} <= metrics[table].keys()
        assert all(0 <= value <= 1 and value == round(value, 4) for value in metrics[table].values())
    train = len(images.rows("train"))
    assert metrics["images"] == {
        "all": len(rows),
        "with people": len(np.intersect1d(rows, images.row_N)),
        "people": int(np.isin(images.row_N, rows).sum()),
        "train": train - min(params.multi.held_out, train // HELD_OUT_PART),
    }
    thresholds = params.multi.thresholds
    assert metrics["grouping"].keys() == {"by_tags", "detection_threshold", "tag_threshold", "max_distance"}
    assert metrics["grouping"]["detection_threshold"] == thresholds.detection
    assert metrics["grouping"]["tag_threshold"] == thresholds.tag
    precision = pd.read_csv(tmp_path / "metrics/plots/hgpose-ae/precision.csv")
    assert list(precision.columns) == ["recall", "OKS 0.5", "OKS 0.75", "mean"]
    assert precision["recall"].tolist() == pytest.approx(np.linspace(0, 1, 101))
    joints = pd.read_csv(tmp_path / "metrics/plots/hgpose-ae/joints.csv")
    kinds = ["jitter", "inversion", "swap", "miss"]
    assert list(joints.columns) == ["joint", "similarity", "right", *kinds, "people"]
    assert joints["joint"].tolist() == list(COCO.joints)
    results = json.loads((tmp_path / "predictions/hgpose-ae.json").read_text())
    assert {result["image_id"] for result in results} <= set(images.id_I[rows].tolist())
    assert {len(result["keypoints"]) for result in results} == {51}
    folder = tmp_path / "metrics"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        *(f"{name}hgpose-ae.json" for name in ("", "provenance/", "summary/")),
        *(f"plots/hgpose-ae/{name}.csv" for name in ("joints", "precision")),
    }
    summary = json.loads((folder / "summary/hgpose-ae.json").read_text())
    assert summary["hgpose-ae"]["AP"] == metrics["COCO"]["AP"]


def test_images_trained_on_are_scored_only_if_asked_for(params, prepared_coco, tmp_path):
    for number in (3, 0):
        few = with_values(params, {"evaluate.train_images": number, "evaluate.flip_test": False})
        metrics = evaluated(few, prepared_coco, tmp_path)
        assert metrics["images"].get("train", 0) == number
        assert ("COCO train" in metrics) == bool(number)


def test_the_weights_tell_how_people_are_grouped_and_the_command_prints_the_scores(
    params, prepared, prepared_coco, tmp_path, monkeypatch, capsys
):
    folder = make_workspace(tmp_path, params, prepared, prepared_coco, store=False)
    path = write_active_weights(params, folder / "models/hgpose-ae")
    weights = load_weights(path)
    thresholds = {**weights.inference["thresholds"], "detection": 0.125, "tag": 0.5}
    save_weights(path, replace(weights, inference={**weights.inference, "thresholds": thresholds}))
    enter_folder(folder, monkeypatch)
    set_param(folder, "evaluate.train_images", 0)
    run(["evaluate", "hgpose-ae"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("COCO: AP ")
    grouping = "by_tags 1, detection_threshold 0.125, tag_threshold 0.5, max_distance "
    assert printed[-1].startswith(f"grouping: {grouping}")
