"""Model weights behind MLflow's interface find what they find by themselves."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import write_active_weights, write_initial_weights

from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import encode_jpeg
from pose.tracking.pyfunc_model import COLUMNS, PoseModel

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 48, 40, 3), dtype=np.uint8)


def test_the_model_of_a_run_finds_all_people_and_is_kept_once(runs, params, tmp_path):
    weights = write_active_weights(params, tmp_path)
    ids = set()
    for resumed in (False, True):
        tracker = runs.begin(resumed=resumed)
        tracker.log_model(weights)
        tracker.finish("FINISHED")
        ids.add(tracker.run_id)
    [run_id] = ids
    models = mlflow.MlflowClient().search_logged_models([runs.get(run_id).info.experiment_id])
    assert len([model for model in models if model.source_run_id == run_id]) == 1
    table = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path)).predict(list(IMAGES))
    predictor = Predictor.load(weights)
    people, joints = predictor.predict(list(IMAGES)), predictor.skeleton.joints
    assert max(map(len, people)) > 1
    pairs = [(image, person) for image, found in enumerate(people) for person in range(len(found))]
    assert list(table.columns) == COLUMNS
    assert [*zip(table["image"], table["person"], strict=True)] == [pair for pair in pairs for _ in joints]
    assert table["joint"].tolist() == list(joints) * len(pairs)
    expected = np.concatenate([found.joint_PK2.reshape(-1, 2) for found in people])
    np.testing.assert_array_equal(table[["x", "y"]], expected)


def test_images_may_be_one_array_or_one_of_them_or_paths(params, tmp_path):
    model = PoseModel(Predictor.load(write_initial_weights(params, "hgpose", tmp_path)))
    table = model.predict(list(IMAGES))
    assert table["image"].tolist() == sorted(list(range(3)) * 16)
    pd.testing.assert_frame_equal(model.predict(IMAGES), table)
    pd.testing.assert_frame_equal(model.predict(IMAGES[0]), table[:16])
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(IMAGES[0], 95))
    assert len(model.predict([str(path)])) == len(model.predict(Path(path))) == 16
    with pytest.raises(UserError, match="images: found a table, expected arrays"):
        model.predict(table)
