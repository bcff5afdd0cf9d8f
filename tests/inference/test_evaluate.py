"""What an evaluation refuses; what it writes is tested with a trained task."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import build_cpu_task

from pose.inference.evaluate import evaluate, evaluated_weights
from pose.io.errors import UserError
from pose.keypoints.skeleton import MPII
from pose.models.weights import save_weights
from pose.params import Params
from pose.tasks.task import build_task


def test_weights_of_another_task_are_refused(params: Params, prepared: Path, tmp_path: Path):
    path = evaluated_weights(params, "advpose", tmp_path)
    assert path == tmp_path / "models" / "advpose" / "last.pt"
    save_weights(path, build_cpu_task(params, "hgpose").weights())
    with pytest.raises(UserError, match=r"last\.pt: weights of task 'hgpose', expected 'advpose'"):
        evaluate(params, "advpose", folder=tmp_path, prepared=prepared)


def test_weights_of_another_skeleton_than_the_data_are_refused(
    params: Params, prepared: Path, tmp_path: Path
):
    renamed = MPII.model_copy(update={"name": "other"})
    task = build_task(params, "hgpose", skeleton=renamed, device=build_cpu_task(params, "hgpose").device)
    save_weights(evaluated_weights(params, "hgpose", tmp_path), task.weights())
    found = "joints of skeleton mpii, expected those of .*last.pt, other"
    with pytest.raises(UserError, match=f"{prepared.name}: found {found}"):
        evaluate(params, "hgpose", folder=tmp_path, prepared=prepared)
    assert not (tmp_path / "metrics").exists()
