"""Model weights behind MLflow's interface find what they find by themselves."""

import base64
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import user_error, write_active_weights, write_initial_weights
from raw_sets import with_orientation

from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg, read_image
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
    loaded = mlflow.pyfunc.load_model(f"runs:/{run_id}/model", dst_path=str(tmp_path))
    table = loaded.predict(list(IMAGES))
    assert loaded.model_config == {"allow_paths": False}
    predictor = Predictor.load(weights)
    people, joints = predictor.predict(list(IMAGES)), predictor.skeleton.joints
    assert max(map(len, people)) > 1
    pairs = [(image, person) for image, found in enumerate(people) for person in range(len(found))]
    assert list(table.columns) == COLUMNS
    assert [*zip(table["image"], table["person"], strict=True)] == [pair for pair in pairs for _ in joints]
    assert table["joint"].tolist() == list(joints) * len(pairs)
    expected = np.concatenate([found.joint_PK2.reshape(-1, 2) for found in people])
    np.testing.assert_array_equal(table[["x", "y"]], expected)


@pytest.fixture
def weights(params, tmp_path: Path) -> Path:
    return write_initial_weights(params, "hgpose", tmp_path)


def encoded(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


BASE64 = [base64.b64encode(encoded(image)).decode() for image in IMAGES]
FORMS = {
    "arrays": list(IMAGES),
    "one array": IMAGES,
    "floats": IMAGES.astype(np.float64),
    "nested lists": IMAGES.tolist(),
    "bytes": [encoded(image) for image in IMAGES],
    "base64": BASE64,
    "data URLs": [f"data:image/png;base64,{text}" for text in BASE64],
    "an array of texts": np.array(BASE64),
    "a table": pd.DataFrame({"image": BASE64}),
    "a table of nested lists": pd.DataFrame({"image": IMAGES.tolist()}),
    "a mapping": {"image": np.array(BASE64)},
}


def test_images_are_arrays_or_encoded_in_whatever_form_mlflow_hands_them_on(weights):
    model = PoseModel(Predictor.load(weights))
    table = model.predict(list(IMAGES))
    assert table["image"].tolist() == sorted(list(range(3)) * 16)
    for name, images in FORMS.items():
        pd.testing.assert_frame_equal(model.predict(images), table, obj=name)
    for alone in (IMAGES[0], IMAGES[0].tolist(), encoded(IMAGES[0]), BASE64[0], np.array(BASE64[0])):
        # One image alone: the last bits of convolutions depend on the size of a batch.
        pd.testing.assert_frame_equal(model.predict(alone), table[:16], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pd.DataFrame({"a": [1], "b": [2]}), "images: found columns a, b, expected one column"),
        (["/etc/passwd"], r"images\[0\]: found text that is not base64 \('/etc/passwd'\), .*allow_paths"),
        ([IMAGES[0], Path("/etc/passwd")], r"images\[1\]: found a path, expected RGB from 0 to 255"),
        (["aGVsbG8="], r"images\[0\]: cannot be decoded"),
        ([IMAGES[0] / 255], r"images\[0\]: found numbers from 0 to 0\.99"),
        ([IMAGES[0].astype(int) - 9], r"images\[0\]: found numbers from -9 to 245"),
        ([IMAGES[0], IMAGES[0][..., 0]], r"images\[1\]: found uint8 of shape \(48, 40\)"),
        ([[1, 2], [3]], r"images\[0\]: found float64 of shape \(2,\)"),
        ([{"a": 1, "b": 2}], r"images\[0\]: found dict"),
        ([], "images: found none"),
        (None, r"images\[0\]: found float64 of shape \(\)"),
    ],
)
def test_what_is_no_image_is_named_by_its_place(weights, images, message):
    with user_error(message):
        PoseModel(Predictor.load(weights)).predict(images)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("/missing.jpg", r"images\[0\]: found neither a file .* \('/missing.jpg'\), .*, or a path$"),
        ("/missing", r"images\[0\]: found neither a file .* \('/missing'\), .*, or a path$"),  # base64, too
        (Path("/missing"), "^/missing: no such file, expected an image$"),
        ("/", "^/: is a folder, expected an image$"),
        (base64.b64encode(encode_jpeg(IMAGES[0], 90)[:-9]).decode(), r"images\[0\]: truncated JPEG"),
    ],
)
def test_a_path_that_is_none_of_an_image_is_named(weights, image, message):
    with user_error(message):
        PoseModel(Predictor.load(weights), allow_paths=True).predict([image])


def test_encoded_images_are_turned_upright_and_paths_are_read_if_that_is_asked_for(weights, tmp_path):
    data = with_orientation(encode_jpeg(IMAGES[0], 95), 6)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    closed, opened = (PoseModel(Predictor.load(weights), allow_paths=allowed) for allowed in (False, True))
    upright = closed.predict(read_image(path, upright=True))
    for found in (
        closed.predict(data),
        opened.predict([str(path)]),
        opened.predict(path),
        opened.predict(base64.b64encode(data).decode()),
    ):
        pd.testing.assert_frame_equal(found, upright)
