"""Synthetic sets as files: the same for a seed, read by the readers of the real ones, and hard enough."""

import gzip
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import raw_sets as raw
import scipy.io
from helpers import COCO, MPII, files_of, user_error
from pycocotools.coco import COCO as Scorer
from pycocotools.cocoeval import COCOeval

from pose.data.formats.lsp import LSP_TO_MPII, read_lsp, read_lspet
from pose.data.formats.mpii import read_mpii_json, read_mpii_mat
from pose.data.formats.person_table import INCOMPLETE, MPII_TEST, TRAIN
from pose.data.synthetic import synthesize


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    return raw.synthesize_sets(folder, lsp=20, lspet=30, mpii=(180, 90), coco=(44, 12), workers=2)


@pytest.fixture(scope="module")
def mpii(root: Path) -> Path:
    return root / "mpii"


@pytest.fixture(scope="module")
def coco(root: Path) -> Path:
    return root / "coco"


def test_the_same_seed_draws_the_same_files_however_many_processes_draw(tmp_path):
    counts: dict[str, Any] = {"lsp": 3, "lspet": 4, "mpii": (5, 3), "coco": (5, 3)}
    first = files_of(raw.synthesize_sets(tmp_path / "1", **counts, seed=7, workers=1))
    assert files_of(raw.synthesize_sets(tmp_path / "2", **counts, seed=7, workers=2)) == first
    others = files_of(raw.synthesize_sets(tmp_path / "3", lsp=3, seed=8))
    assert {name.partition("/")[0] for name in first} == {"LSP", "LSPET", "mpii", "coco"}
    assert len([name for name in first if name.startswith("coco")]) == 8 + 3
    assert {name.partition("/")[0] for name in others} == {"LSP"}  # a set of no people is not written
    assert others["LSP/images/im0001.jpg"] != first["LSP/images/im0001.jpg"]


def test_unequal_halves_of_lsp_are_refused_by_name(tmp_path, params):
    halves = params.synthetic.lsp.model_copy(update={"train": 3, "test": 2})
    with user_error(r"synthetic\.lsp: found train 3 and test 2"):
        synthesize(params.synthetic.model_copy(update={"lsp": halves}), seed=1, root=tmp_path)
    assert not list(tmp_path.iterdir())


# ---- LSP and LSPET ----


def test_lsp_is_read_as_the_real_one_and_its_joints_lie_in_the_images(root):
    table = read_lsp(root / "LSP")
    assert len(table) == len(list((root / "LSP" / "images").iterdir())) == 40
    assert 0.55 <= table.visible_NK[table.labelled_NK].mean() <= 0.85
    for name, joint_J2 in zip(table.name_N, table.part_NK2[:, LSP_TO_MPII], strict=True):
        height, width, _ = cv2.imread(str(root / name)).shape
        assert max(height, width) <= 128
        assert ((joint_J2 >= 0) & (joint_J2 <= (width - 1, height - 1))).all()


def test_lspet_is_read_as_the_real_one_with_12_percent_of_the_joints_missing(root):
    table = read_lspet(root / "LSPET")
    assert len(table) == len(list((root / "LSPET" / "images").iterdir())) == 30
    assert table.labelled_NK[:, LSP_TO_MPII].mean() == pytest.approx(0.88, abs=0.05)
    joint_J3N = scipy.io.loadmat(root / "LSPET" / "joints.mat")["joints"]
    assert joint_J3N[:, :2].min() < 0  # meaningless where not annotated


# ---- MPII ----


def test_the_real_readers_find_the_people_and_both_annotations_agree(mpii):
    table = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    people, validation_N = read_mpii_json(mpii / "mpii_annotations.json")
    assert (int((~validation_N).sum()), int(validation_N.sum())) == (180, 90)
    rows = {key: row for row, key in enumerate(zip(table.name_N, table.person_N, strict=True))}
    row_N = [rows[key] for key in zip(people.name_N, people.person_N, strict=True)]
    for field in ("centre_N2", "scale_N", "part_NK2", "visible_NK"):
        np.testing.assert_allclose(getattr(table, field)[row_N], getattr(people, field))
    assert not set(people.name_N[validation_N]) & set(people.name_N[~validation_N])
    share_N = table.head_size_N / (200 * table.scale_N)
    assert 0.1 < np.nanmin(share_N) <= np.nanmedian(share_N) < 0.14  # MPII's own: about 0.125
    assert 0.15 <= np.mean(people.visible_NK[people.labelled_NK] == 0) <= 0.45  # occluded


def test_the_mat_file_has_the_gaps_of_the_real_one(mpii):
    path = mpii / "mpii_human_pose_v1_u12_1.mat"
    table = read_mpii_mat(path)
    joints_N = table.labelled_NK.sum(axis=1)
    assert set(table.istrain_N) == {TRAIN, MPII_TEST, INCOMPLETE}
    assert not joints_N[table.istrain_N == MPII_TEST].any()
    assert {0, 16} < set(joints_N[table.istrain_N != MPII_TEST])  # none, some or all joints
    for gaps_N in (np.isnan(table.scale_N), np.isnan(table.centre_N2).any(axis=1)):
        assert gaps_N[joints_N > 0].any()  # joints without a scale, or a place
        assert gaps_N[joints_N == 0].any()
    images = {f"mpii/images/{image.name}" for image in (mpii / "images").iterdir()}
    assert set(table.name_N) < images  # some show nobody who is annotated
    release = scipy.io.loadmat(path, struct_as_record=False)["RELEASE"][0, 0]
    assert len(release.annolist[0]) == len(release.img_train[0]) == len(release.single_person) == len(images)
    rects = [rect for image in release.annolist[0] for rect in image.annorect.ravel()]
    annotated = [rect.annopoints[0, 0] for rect in rects if getattr(rect, "annopoints", np.empty(0)).size]
    visible = [joint.is_visible for annopoints in annotated for joint in annopoints.point[0]]
    assert {value.dtype.kind for value in visible} >= {"u", "U", "f"}  # a number, text, an empty array


def test_the_json_has_the_fields_of_the_real_one(mpii, real_data):
    with gzip.open(real_data / "mpii" / "mpii_annotations.json.gz", "rt") as file:
        real, _ = json.JSONDecoder().raw_decode(file.read(20_000)[1:])
    drawn = json.loads((mpii / "mpii_annotations.json").read_text())[0]
    assert list(drawn) == list(real)
    assert all(type(drawn[key]) is type(real[key]) for key in real if "other" not in key)


def test_the_mean_pose_scores_at_most_15_pckh(mpii):
    table = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    people, validation_N = read_mpii_json(mpii / "mpii_annotations.json")
    head = dict(zip(zip(table.name_N, table.person_N, strict=True), table.head_size_N, strict=True))
    head_size_N = np.array([head[key] for key in zip(people.name_N, people.person_N, strict=True)])
    joint_NK2 = np.where(people.labelled_NK[..., None], people.part_NK2, np.nan)
    pose_NK2 = (joint_NK2 - people.centre_N2[:, None]) / (200 * people.scale_N)[:, None, None]
    mean_K2 = np.nanmean(pose_NK2[~validation_N], axis=0)
    miss_NK = np.linalg.norm(pose_NK2 - mean_K2, axis=2) * (200 * people.scale_N / head_size_N)[:, None]
    miss_NK = miss_NK[validation_N][:, MPII.scored_joints]
    right_K = np.nanmean(np.where(np.isnan(miss_NK), np.nan, miss_NK <= 0.5), axis=0)
    assert 100 * right_K.mean() <= 15


# ---- COCO ----


def scorer(coco: Path, file: str) -> Scorer:
    return Scorer(coco / "annotations" / f"person_keypoints_{file}.json")


def test_coco_has_the_images_asked_for_and_splits_them_by_id(coco):
    images = {file: scorer(coco, file).dataset["images"] for file in ("train2017", "val2017")}
    train, val = ({image["id"] for image in images[file]} for file in images)
    listed = {int(line) for line in (coco / "valid_id").read_text().splitlines()}
    assert len(listed) == 12
    assert val < listed < val | train  # some are in the training file, as in the published list
    assert len(train - listed) == 44
    for file, entries in images.items():
        for image in entries:
            shape = cv2.imread(str(coco / file / image["file_name"])).shape
            assert shape == (image["height"], image["width"], 3)


def test_pycocotools_takes_the_annotations_as_a_perfect_result(coco):
    truth = scorer(coco, "val2017")
    assert truth.dataset["categories"][0]["keypoints"] == list(COCO.joints)
    people = [person for person in truth.dataset["annotations"] if person["num_keypoints"]]
    keys = ("image_id", "category_id", "keypoints")
    found = truth.loadRes([{key: person[key] for key in keys} | {"score": 1.0} for person in people])
    evaluation = COCOeval(truth, found, "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_outlines_boxes_areas_and_joints_agree(coco):
    truth = scorer(coco, "train2017")
    boxes_agree, joints_inside = [], []
    for person in truth.dataset["annotations"]:
        mask_HW = truth.annToMask(person)
        if person["area"] > 100:
            assert mask_HW.sum() == pytest.approx(person["area"], rel=0.2)
            boxes_agree.append(np.allclose(cv2.boundingRect(mask_HW), person["bbox"], rtol=0, atol=2.5))
        joint_K3 = np.array(person["keypoints"]).reshape(17, 3)
        assert person["num_keypoints"] == (joint_K3[:, 2] > 0).sum()
        assert not joint_K3[joint_K3[:, 2] == 0].any()
        column, row = np.rint(joint_K3[joint_K3[:, 2] == 2, :2]).astype(int).T
        joints_inside += (cv2.dilate(mask_HW, np.ones((5, 5)))[row, column] > 0).tolist()
    assert len(boxes_agree) > 40
    # A sliver of a person is in the box, but may cover no pixel's centre; a joint may be seen through a gap.
    assert np.mean(boxes_agree) > 0.97
    assert np.mean(joints_inside) > 0.995


def test_coco_has_empty_images_crowds_and_people_without_joints(coco):
    truth = scorer(coco, "train2017")
    people = {image: [one for one in truth.imgToAnns[image] if not one["iscrowd"]] for image in truth.imgs}
    counts = [len(of_image) for of_image in people.values()]
    assert min(counts) == 0
    assert max(counts) >= 5
    crowds = [one for one in truth.anns.values() if one["iscrowd"]]
    assert crowds
    assert all(isinstance(crowd["segmentation"]["counts"], list) for crowd in crowds)
    assert any(one["num_keypoints"] == 0 for of_image in people.values() for one in of_image)
    assert {flag for one in truth.anns.values() for flag in one["keypoints"][2::3]} == {0, 1, 2}
