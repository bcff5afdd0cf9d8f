"""examples/draw_datasets.py: small sets of hands, mice, insects and whole bodies in COCO format."""

import importlib
import json
from types import ModuleType

import cv2
import numpy as np
import pytest
from helpers import ROOT, files_of, user_error

from pose.data.synthetic.canvas import Canvas, draw_parts


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("draw_datasets")


@pytest.mark.parametrize(("kind", "joints"), [("hand", 5), ("mouse", 9), ("insect", 30), ("wholebody", 133)])
def test_a_set_is_what_an_annotation_tool_writes_and_the_same_for_the_same_seed(
    example, tmp_path, kind, joints
):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        example.draw_dataset(kind, tmp_path / name, images=3, seed=seed)
    files = files_of(tmp_path / "a")
    assert files == files_of(tmp_path / "b")
    assert files.keys() == {"annotations.json", *(f"images/000{k}.jpg" for k in (1, 2, 3))}
    assert all(files[name] != data for name, data in files_of(tmp_path / "c").items())

    content = json.loads(files["annotations.json"])
    (category,) = content["categories"]
    assert len(set(category["keypoints"])) == joints
    assert {place for limb in category["skeleton"] for place in limb} <= set(range(1, joints + 1))
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for image in content["images"]:
        height, width, _ = cv2.imread(str(tmp_path / "a" / "images" / image["file_name"])).shape
        assert (width, height) == sizes[image["id"]]
    assert {one["image_id"] for one in content["annotations"]} == sizes.keys()
    for one in content["annotations"]:
        size = np.array(sizes[one["image_id"]])
        xyv_K3 = np.array(one["keypoints"]).reshape(joints, 3)
        labelled_K = xyv_K3[:, 2] > 0
        assert set(xyv_K3[:, 2]) <= {0, 1, 2}
        assert ((xyv_K3[:, :2] >= 0) & (xyv_K3[:, :2] <= size - 1)).all()
        assert (xyv_K3[~labelled_K] == 0).all()
        assert one["num_keypoints"] == labelled_K.sum() > 0
        x, y, w, h = one["bbox"]
        assert min(x, y) >= 0
        assert x + w <= size[0] + 0.1
        assert y + h <= size[1] + 0.1
        assert 0 < one["area"] < 1.05 * w * h


def test_a_joint_behind_the_subject_is_flagged_1_and_one_outside_the_image_is_not_labelled(example):
    from drawn_subjects import Subject, ball

    places = {"front": (0, 0, 1), "within": (0, 0, 0.9), "behind": (0, 0, -1), "outside": (9, 0, 0)}
    body = ball(np.zeros(3), (1, 1, 1), lambda q: np.full((q.shape[1], 3), 200.0))
    subject = Subject([body], {name: (np.array(xyz), 0.2) for name, xyz in places.items()})
    canvas, origin, light = Canvas(60, 60), np.array([30.0, 30, 0]), np.array([0.0, 0, 1])
    draw_parts(canvas, subject.parts, origin=origin, zoom=12, identity=1, light=light, dim=1.0)
    found = example.annotate(canvas, 0, subject, origin, 12, list(places))
    assert found["keypoints"] == [19.8, 19.8, 2, 19.8, 19.8, 2, 19.8, 19.8, 1, 0, 0, 0]
    assert found["area"] == pytest.approx(np.pi * 8**2, rel=0.05)


def test_a_folder_that_exists_is_left_alone(example, tmp_path):
    with user_error("found a file or folder of this name, expected none"):
        example.draw_dataset("hand", tmp_path, images=1, seed=1)
