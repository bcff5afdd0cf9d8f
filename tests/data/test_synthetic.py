from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.data.formats.mpii import read_mpii_json, read_mpii_mat
from pose.data.rle import runs_of
from pose.data.synthetic.clothes import Outfit
from pose.data.synthetic.draw import Canvas, draw_parts
from pose.data.synthetic.files import drawing_pool
from pose.data.synthetic.mpii import MPII_SET, plan_mpii, write_mpii
from pose.data.synthetic.person import Part, draw_figure, place_bones
from pose.data.synthetic.pose import EVERYDAY, SPORT, Build, Pose
from pose.data.synthetic.scene import OVERSAMPLE, Drawn, Placement, draw_scene, fit
from pose.data.synthetic.sets import synthesize, synthesize_coco
from pose.io.errors import UserError
from pose.keypoints import skeleton
from pose.keypoints.skeleton import LSP, MPII, SCORED_JOINTS
from pose.params import LspCounts, MpiiCounts, SplitCounts, SyntheticParams

NO_COCO = SplitCounts(train=0, validation=0)


def small(lsp: int = 4, lspet: int = 6, train: int = 8, validation: int = 4) -> SyntheticParams:
    return SyntheticParams(
        lsp=LspCounts(train=lsp, test=lsp),
        lspet=lspet,
        mpii=MpiiCounts(train=train, validation=validation),
        coco=NO_COCO,
        size=128,
    )


@pytest.fixture(scope="module")
def mpii(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "mpii"
    folder.mkdir()
    with drawing_pool(2) as pool:
        write_mpii(folder, train=180, validation=90, seed=1, pool=pool)
    return folder


@pytest.fixture(scope="module")
def lsp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    synthesize(small(lsp=20, lspet=30, train=0, validation=0), seed=1, root=root, workers=2)
    return root


def portrait(seed: int, *, covers: Any = ()) -> tuple[Drawn, np.ndarray]:
    rng = np.random.default_rng(seed)
    figure = draw_figure(rng)
    stature, pelvis, (width, height) = fit(figure, longer_side=160, margin=0.1)
    scene = draw_scene(
        rng,
        width=round(width),
        height=round(height),
        placements=[Placement(figure, pelvis, stature)],
        covers=covers,
    )
    return scene.people[0], scene.identity_hw


# --- what is in a picture
# ---------------------------------------------------------------------------------------------


def test_an_ellipsoid_covers_the_pixels_that_it_projects_to() -> None:
    canvas = Canvas(60, 50)
    white = Part(np.zeros(3), np.diag([0.2, 0.1, 0.3]), lambda q: np.full((q.shape[1], 3), 200.0))
    draw_parts(
        canvas,
        [white],
        origin=np.array([30.0, 20.0, 0.0]),
        zoom=100,
        identity=1,
        light=np.array([0.0, 0.0, 1.0]),
        dim=1.0,
    )
    y, x = np.mgrid[:50, :60]
    inside = ((x - 30) / 20) ** 2 + ((y - 20) / 10) ** 2 < 1
    assert (canvas.identity.astype(bool) == inside).all()
    assert canvas.depth[20, 30] == pytest.approx(30)  # its surface is nearest to the viewer in the middle
    assert (canvas.colour[inside] == 200).all()


def test_the_nearer_of_two_solids_is_seen_whichever_is_drawn_first() -> None:
    def ball(z: float, grey: float) -> Part:
        return Part(np.array([0, 0, z]), np.eye(3) * 0.1, lambda q: np.full((q.shape[1], 3), grey))

    for parts in ([ball(0.5, 250), ball(0, 50)], [ball(0, 50), ball(0.5, 250)]):
        canvas = Canvas(40, 40)
        draw_parts(
            canvas,
            parts,
            origin=np.array([20.0, 20.0, 0.0]),
            zoom=100,
            identity=1,
            light=np.array([0.0, 0.0, 1.0]),
            dim=1.0,
        )
        assert (canvas.colour[20, 20] == 250).all()


def test_joints_lie_on_their_person() -> None:
    for seed in range(12):
        person, identity_hw = portrait(seed)
        row_K, column_K = np.rint((person.mpii_16x2 + 0.5) * OVERSAMPLE - 0.5).astype(int).T[::-1]
        near = cv2.dilate((identity_hw == 1).astype(np.uint8), np.ones((9, 9), np.uint8))
        assert near[row_K, column_K].all()


def test_whoever_stands_behind_another_person_is_hidden_and_the_other_one_is_not() -> None:
    rng = np.random.default_rng(3)
    figure = draw_figure(rng)
    stature, pelvis, (width, height) = fit(figure, longer_side=160, margin=0.1)
    twice = [Placement(figure, pelvis, stature)] * 2
    behind, before = draw_scene(rng, width=round(width), height=round(height), placements=twice).people
    assert behind.mpii_hidden_16.all()
    assert not before.mpii_hidden_16.all()
    np.testing.assert_allclose(behind.mpii_16x2, before.mpii_16x2)


def test_joints_behind_a_thing_are_hidden() -> None:
    person, _ = portrait(5)
    hidden = [portrait(5, covers=[(joint_2, 160.0)])[0].mpii_hidden_16.sum() for joint_2 in person.mpii_16x2]
    assert max(hidden) > person.mpii_hidden_16.sum()


def test_a_person_who_faces_the_viewer_has_the_left_shoulder_on_the_right_of_the_picture() -> None:
    left, right = MPII.index("l_shoulder"), MPII.index("r_shoulder")
    upright = {"stand": 1.0, "walk": 1.0}
    figures = [draw_figure(np.random.default_rng(seed), upright) for seed in range(60)]
    facing = [figure for figure in figures if figure.facing > 0.5]
    behind = [figure for figure in figures if figure.facing < -0.5]
    assert len(facing) > 5
    assert len(behind) > 5
    assert all(figure.mpii_16x3[left, 0] > figure.mpii_16x3[right, 0] for figure in facing)
    assert all(figure.mpii_16x3[left, 0] < figure.mpii_16x3[right, 0] for figure in behind)


def test_knees_bend_backwards_and_elbows_forwards_whatever_the_pose() -> None:
    for seed in range(80):
        rng = np.random.default_rng(seed)
        bones = place_bones(Build.draw(rng), Pose.draw(rng, SPORT))
        for side in "rl":
            shank = bones.joint[f"{side}_ankle"] - bones.joint[f"{side}_knee"]
            forearm = bones.joint[f"{side}_wrist"] - bones.joint[f"{side}_elbow"]
            assert shank @ bones.turn[f"{side}_thigh"][:, 2] < 1e-9
            assert forearm @ bones.turn[f"{side}_upper_arm"][:, 2] > -1e-9


def test_left_and_right_limbs_are_dressed_alike() -> None:
    figure = draw_figure(np.random.default_rng(0))
    limbs = figure.parts[-22:]
    assert [part.paint for part in limbs[:11]] == [part.paint for part in limbs[11:]]


def test_a_face_has_eyes_and_the_back_of_a_head_none() -> None:
    point_3N = np.random.default_rng(0).normal(size=(3, 4000))
    point_3N /= np.linalg.norm(point_3N, axis=0)
    faces = 0
    for seed in range(10):
        colour_N3 = Outfit.draw(np.random.default_rng(seed)).face(point_3N)
        ahead = np.unique(colour_N3[point_3N[2] > 0.3], axis=0)
        behind = np.unique(colour_N3[point_3N[2] < -0.3], axis=0)
        faces += len(ahead) >= 4
        assert len(behind) == 1
    assert faces == 10


# --- how hard it is
# ---------------------------------------------------------------------------------------------------


def test_the_mean_pose_scores_at_most_15_pckh(mpii: Path) -> None:
    table = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    people, validation_N = read_mpii_json(mpii / "mpii_annotations.json")
    head = {
        (name, person): size
        for name, person, size in zip(table.name_N, table.person_N, table.head_size_N, strict=True)
    }
    head_size_N = np.array(
        [head[name, person] for name, person in zip(people.name_N, people.person_N, strict=True)]
    )
    joint_NK2 = np.where((people.part_NK2 > 0).all(axis=2)[..., None], people.part_NK2, np.nan)
    pose_NK2 = (joint_NK2 - people.centre_N2[:, None]) / (200 * people.scale_N)[:, None, None]
    mean_K2 = np.nanmean(pose_NK2[~validation_N], axis=0)
    miss_NK = np.linalg.norm(pose_NK2 - mean_K2, axis=2) * (200 * people.scale_N / head_size_N)[:, None]
    miss_NK = miss_NK[validation_N][:, SCORED_JOINTS]
    right_K = np.nanmean(np.where(np.isnan(miss_NK), np.nan, miss_NK <= 0.5), axis=0)
    assert 100 * right_K.mean() <= 15


def test_a_fifth_of_the_people_is_seen_from_behind() -> None:
    for kinds in (EVERYDAY, SPORT):
        behind = [draw_figure(np.random.default_rng([1, seed]), kinds).from_behind for seed in range(120)]
        assert 0.2 <= np.mean(behind) <= 0.5


def test_15_percent_of_the_joints_are_hidden(mpii: Path, lsp: Path) -> None:
    people, _ = read_mpii_json(mpii / "mpii_annotations.json")
    labelled_NK = (people.part_NK2 > 0).all(axis=2)
    assert 0.15 <= np.mean(people.visible_NK[labelled_NK] == 0) <= 0.45
    assert 0.15 <= scipy.io.loadmat(lsp / "LSP" / "joints.mat")["joints"][2].mean() <= 0.45


def test_heads_have_the_size_of_heads(mpii: Path) -> None:
    table = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    share_N = table.head_size_N / (200 * table.scale_N)
    assert 0.1 < np.nanmin(share_N) <= np.nanmedian(share_N) < 0.14  # MPII's own: about 0.125


# --- files
# ------------------------------------------------------------------------------------------------------------


def test_lsp_comes_as_published(lsp: Path) -> None:
    joint_3KN = scipy.io.loadmat(lsp / "LSP" / "joints.mat")["joints"]
    assert joint_3KN.shape == (3, len(LSP), 40)
    assert set(np.unique(joint_3KN[2])) == {0, 1}
    names = sorted(path.name for path in (lsp / "LSP" / "images").iterdir())
    assert names == [f"im{n:04d}.jpg" for n in range(1, 41)]
    for n, name in enumerate(names):
        height, width, _ = cv2.imread(str(lsp / "LSP" / "images" / name)).shape
        assert max(height, width) <= 128
        assert (joint_3KN[:2, :, n] >= 0).all()
        assert (joint_3KN[:2, :, n] <= np.array([[width - 1], [height - 1]])).all()


def test_lspet_has_its_axes_the_other_way_and_12_percent_without_annotation(lsp: Path) -> None:
    joint_K3N = scipy.io.loadmat(lsp / "LSPET" / "joints.mat")["joints"]
    assert joint_K3N.shape == (len(LSP), 3, 30)
    assert joint_K3N[:, 2].mean() == pytest.approx(0.88, abs=0.05)
    assert (lsp / "LSPET" / "images" / "im00030.jpg").is_file()
    unlabelled = joint_K3N[:, 2] == 0
    assert (joint_K3N[:, :2].min(axis=1)[unlabelled] < 0).any()  # meaningless there


def test_the_real_reader_finds_the_people_and_both_annotations_agree(mpii: Path) -> None:
    table = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    people, validation_N = read_mpii_json(mpii / "mpii_annotations.json")
    assert (int((~validation_N).sum()), int(validation_N.sum())) == (180, 90)
    row_of = {
        (name, person): row
        for row, (name, person) in enumerate(zip(table.name_N, table.person_N, strict=True))
    }
    row_N = [row_of[name, person] for name, person in zip(people.name_N, people.person_N, strict=True)]
    for field in ("centre_N2", "scale_N", "part_NK2", "visible_NK"):
        np.testing.assert_allclose(getattr(table, field)[row_N], getattr(people, field))
    validation = {str(name) for name in people.name_N[validation_N]}
    assert not validation & {str(name) for name in people.name_N[~validation_N]}  # whole pictures


def test_the_mat_file_has_the_gaps_of_the_real_one(mpii: Path) -> None:
    file = scipy.io.loadmat(mpii / "mpii_human_pose_v1_u12_1.mat", struct_as_record=False)
    release = file["RELEASE"][0, 0]
    images, training = release.annolist[0], release.img_train[0]
    assert len(images) == len(training) == len(release.single_person)
    rects = [rect for image in images for rect in image.annorect.ravel()]
    points = [
        point
        for rect in rects
        if getattr(rect, "annopoints", np.empty(0)).size
        for point in [rect.annopoints[0, 0].point[0]]
    ]
    visible = [joint.is_visible for joints in points for joint in joints]
    assert any(image.annorect.size == 0 for image in images)
    assert any(image.annorect.size > 1 for image in images)
    assert any("annopoints" in rect._fieldnames and rect.annopoints.size == 0 for rect in rects)
    assert any(rect.scale.size == 0 for rect in rects if "scale" in rect._fieldnames)
    assert any(rect.objpos.size == 0 for rect in rects if "objpos" in rect._fieldnames)
    assert any(len(joints) < 16 for joints in points)
    assert {value.dtype.kind for value in visible} >= {"u", "U", "f"}  # number, text, an empty array
    assert any(value.size == 0 for value in visible)
    without_joints = [image for image, train in zip(images, training, strict=True) if not train]
    assert without_joints
    assert not any(
        "annopoints" in rect._fieldnames for image in without_joints for rect in image.annorect.ravel()
    )
    assert all((mpii / "images" / str(image.image[0, 0].name[0])).is_file() for image in images)


def test_the_json_has_the_fields_of_the_peers_file(mpii: Path, real_data: Path) -> None:
    with gzip.open(real_data / "mpii" / "mpii_annotations.json.gz", "rt") as file:
        real, _ = json.JSONDecoder().raw_decode(file.read(20_000)[1:])
    drawn = json.loads((mpii / "mpii_annotations.json").read_text())[0]
    assert list(drawn) == list(real)
    assert [type(value) for key, value in drawn.items() if "other" not in key] == [
        type(value) for key, value in real.items() if "other" not in key
    ]


def test_the_same_seed_draws_the_same_files_however_many_processes_draw(tmp_path: Path) -> None:
    for workers in (1, 2):
        synthesize(small(), seed=7, root=tmp_path / str(workers), workers=workers)
    synthesize(small(), seed=8, root=tmp_path / "other", workers=1)
    pictures = len(plan_mpii(np.random.default_rng([7, MPII_SET]), train=8, validation=4))
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 8 + 1 + 6 + 1 + pictures + 2
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
    assert (tmp_path / "1" / files[0]).read_bytes() != (tmp_path / "other" / files[0]).read_bytes()


def test_the_plan_has_exactly_the_people_asked_for() -> None:
    for train, validation in ((1, 0), (37, 11), (100, 20)):
        plan = plan_mpii(np.random.default_rng(0), train=train, validation=validation)
        assert sum(picture.people for picture in plan if picture.role == "train") == train
        assert sum(picture.people for picture in plan if picture.role == "validation") == validation
        assert len({picture.name for picture in plan}) == len(plan)


def test_unequal_halves_of_lsp_are_refused_by_name(tmp_path: Path) -> None:
    params = SyntheticParams(
        lsp=LspCounts(train=3, test=2),
        lspet=0,
        mpii=MpiiCounts(train=0, validation=0),
        coco=NO_COCO,
        size=128,
    )
    with pytest.raises(UserError, match=r"synthetic\.lsp: found train 3 and test 2"):
        synthesize(params, seed=1, root=tmp_path)
    assert not list(tmp_path.iterdir())


# --- many people in a picture
# -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    synthesize_coco(train=44, validation=12, seed=1, root=root, workers=2)
    return root / "coco"


def annotations(coco: Path, file: str) -> dict[str, Any]:
    return json.loads((coco / "annotations" / f"person_keypoints_{file}.json").read_text())


def test_coco_has_the_pictures_asked_for_and_splits_them_by_id(coco: Path) -> None:
    files = {file: annotations(coco, file) for file in ("train2017", "val2017")}
    ids = {file: {image["id"] for image in content["images"]} for file, content in files.items()}
    listed = {int(line) for line in (coco / "valid_id").read_text().splitlines()}
    assert len(listed) == 12
    assert (
        ids["val2017"] < listed < ids["val2017"] | ids["train2017"]
    )  # some are in the training file, as in the published list
    assert len(ids["train2017"] - listed) == 44
    for file, content in files.items():
        for image in content["images"]:
            assert cv2.imread(str(coco / file / image["file_name"])).shape == (
                image["height"],
                image["width"],
                3,
            )


def test_pycocotools_takes_the_annotations_as_a_perfect_result(coco: Path) -> None:
    truth = COCO(coco / "annotations" / "person_keypoints_val2017.json")
    assert truth.dataset["categories"][0]["keypoints"] == list(skeleton.COCO.joints)
    people = [person | {"score": 1.0} for person in truth.dataset["annotations"] if person["num_keypoints"]]
    found = truth.loadRes(
        [{key: person[key] for key in ("image_id", "category_id", "keypoints", "score")} for person in people]
    )
    evaluation = COCOeval(truth, found, "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_outlines_boxes_and_areas_agree(coco: Path) -> None:
    truth = COCO(coco / "annotations" / "person_keypoints_train2017.json")
    people = [person for person in truth.dataset["annotations"] if person["area"] > 100]
    assert len(people) > 40
    agree = []
    for person in people:
        mask_HW = truth.annToMask(person)
        assert mask_HW.sum() == pytest.approx(person["area"], rel=0.2)
        agree.append(np.allclose(cv2.boundingRect(mask_HW), person["bbox"], rtol=0, atol=2.5))
    assert (
        np.mean(agree) > 0.97
    )  # a sliver of somebody behind another is in the box, but may cover no pixel's centre


def test_joints_that_are_seen_lie_on_the_outlined_person(coco: Path) -> None:
    truth = COCO(coco / "annotations" / "person_keypoints_train2017.json")
    inside: list[bool] = []
    for person in truth.dataset["annotations"]:
        joint_K3 = np.array(person["keypoints"]).reshape(17, 3)
        seen_K = joint_K3[:, 2] == 2
        assert person["num_keypoints"] == (joint_K3[:, 2] > 0).sum()
        assert not joint_K3[joint_K3[:, 2] == 0].any()
        column, row = np.rint(joint_K3[seen_K, :2]).astype(int).T
        inside += (cv2.dilate(truth.annToMask(person), np.ones((5, 5)))[row, column] > 0).tolist()
    assert (
        np.mean(inside) > 0.995
    )  # a joint seen through a gap of a few px lies in a fragment too small to be outlined


def test_coco_has_empty_pictures_crowds_and_people_without_joints(coco: Path) -> None:
    content = annotations(coco, "train2017")
    people_of = {image["id"]: 0 for image in content["images"]}
    for person in content["annotations"]:
        people_of[person["image_id"]] += not person["iscrowd"]
    assert min(people_of.values()) == 0
    assert max(people_of.values()) >= 5
    crowds = [person for person in content["annotations"] if person["iscrowd"]]
    assert crowds
    assert all(isinstance(crowd["segmentation"]["counts"], list) for crowd in crowds)
    assert any(not person["iscrowd"] and person["num_keypoints"] == 0 for person in content["annotations"])
    visibility = [v for person in content["annotations"] for v in person["keypoints"][2::3]]
    assert set(visibility) == {0, 1, 2}


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for mask_HW in (rng.random((7, 5)) < 0.4, np.ones((3, 4), bool), np.zeros((3, 4), bool)):
        encoded = mask.frPyObjects(
            {"counts": runs_of(mask_HW).tolist(), "size": list(mask_HW.shape)}, *mask_HW.shape
        )
        assert (mask.decode(encoded) == mask_HW).all()


def test_the_same_seed_draws_the_same_coco_however_many_processes_draw(tmp_path: Path) -> None:
    for workers in (1, 2):
        synthesize_coco(train=5, validation=3, seed=3, root=tmp_path / str(workers), workers=workers)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 8 + 3
    assert all((tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes() for file in files)
