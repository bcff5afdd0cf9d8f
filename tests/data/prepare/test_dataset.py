"""Data sets of one's own: sources of any format, joints of any skeleton, either problem."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import COCO, column, files_of, noise, user_error
from raw_sets import prepare_own as prepare
from raw_sets import with_orientation

from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.data.prepare.dataset import is_evaluated
from pose.io.errors import UserError
from pose.io.images import encode_jpeg

MOUSE = ["nose", "ear_left", "ear_right", "tail"]
LIMBS = [[1, 2], [1, 3], [1, 4]]
POINTS = [40, 20, 2, 30, 10, 2, 50, 12, 1, 44, 50, 2]  # of a mouse: x, y, flag


def mice(folder: Path, count: int = 6, **category: Any) -> dict[str, Any]:
    """A COCO-format file with a mouse in each image, and its images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, mice = [], []
    for number in range(1, count + 1):
        (folder / "images" / f"{number}.jpg").write_bytes(encode_jpeg(noise(number), 95))
        images.append({"id": number, "file_name": f"{number}.jpg"})
        mice.append({"id": number, "image_id": number, "category_id": 3, "keypoints": POINTS})
        mice[-1] |= {"bbox": [25, 5, 30, 50]}
    entry = {"id": 3, "name": "mouse", "keypoints": MOUSE, "skeleton": LIMBS} | category
    return {"images": images, "annotations": mice, "categories": [entry]}


def write(folder: Path, content: dict[str, Any], name: str = "annotations.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def refused(tmp_path: Path, content: dict[str, Any], **values: Any) -> str:
    source = write(tmp_path / "mice", content)
    with pytest.raises(UserError) as error:
        prepare(tmp_path, source, **values)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- a file of an annotation tool ----


def test_other_joints_than_people_s_are_prepared_for_both_problems(tmp_path):
    out, summary = prepare(tmp_path, write(tmp_path / "mice", mice(tmp_path / "mice")))
    images, people = ImageSet(out), PersonSet(out / "people.h5")
    assert images.skeleton == people.skeleton
    skeleton = people.skeleton
    assert (skeleton.name, skeleton.joints) == ("mouse", tuple(MOUSE))
    assert (skeleton.limbs, skeleton.flips) == (((0, 1), (0, 2), (0, 3)), ((1, 2),))
    assert len(images) == len(people) == 6
    np.testing.assert_array_equal(people.joint_NK2[0], np.reshape(POINTS, (-1, 3))[:, :2])
    np.testing.assert_array_equal(images.joint_NK2, people.joint_NK2)
    assert [flag > 1 for _, _, flag in column(people, "keypoint")[0]] == [1, 1, 0, 1]
    np.testing.assert_array_equal(people.centre_N2[0], [39.5, 29.5])
    assert people.scale_N[0] * 200 == 50
    assert people.name(0) == "1.jpg"
    assert sorted(set(people.split_N.tolist())) == ["train", "validation"]
    assert "flips: ear_left - ear_right; sigmas: 0.07 for each joint" in str(summary)


def test_a_skeleton_file_completes_the_joints_of_the_source_or_replaces_them(tmp_path):
    source = write(tmp_path / "mice", mice(tmp_path / "mice"))
    completes = tmp_path / "more.yaml"
    completes.write_text("sigmas: [0.02, 0.03, 0.03, 0.1]\nreference: [nose, tail]\nflips: []\n")
    out, _ = prepare(tmp_path, source, skeleton=str(completes))
    skeleton = PersonSet(out / "people.h5").skeleton
    assert (skeleton.sigmas, skeleton.reference, skeleton.flips) == ((0.02, 0.03, 0.03, 0.1), (0, 3), ())
    whole = tmp_path / "whole.yaml"
    whole.write_text("joints: [tail, nose, left ear, right ear]\n")
    out, summary = prepare(tmp_path, source, skeleton=str(whole))
    people = PersonSet(out / "people.h5")
    assert people.skeleton.joints == ("tail", "nose", "left ear", "right ear")
    np.testing.assert_array_equal(people.joint_NK2[0, :2], [[44, 50], [40, 20]])
    assert "joints put into the order of own: 1 (first: 'nose')" in str(summary)


def test_joints_of_a_built_in_skeleton_are_recognised(tmp_path):
    content = mice(tmp_path / "mice", name="skater", keypoints=[*COCO.joints], skeleton=[])
    for one in content["annotations"]:
        one["keypoints"] = [*POINTS, *[0] * 39]
    out, _ = prepare(tmp_path, write(tmp_path / "mice", content), problems=["single"])
    assert PersonSet(out / "people.h5").skeleton == COCO
    assert not (out / "coco.h5").exists()


def test_one_of_several_categories_is_chosen_by_its_name(tmp_path):
    content = mice(tmp_path / "mice")
    content["categories"].append({"id": 5, "name": "rat", "keypoints": ["nose", "tail"], "skeleton": []})
    rat = {"id": 90, "image_id": 1, "category_id": 5, "keypoints": [9, 9, 2, 30, 30, 2]}
    content["annotations"].append(rat)
    source = write(tmp_path / "mice", content)
    found = "categories 'mouse', 'rat', expected one of them, by --category or datasets.own.cat"
    with user_error(found):
        prepare(tmp_path, source)
    out, summary = prepare(tmp_path, source, category="mouse")
    assert len(PersonSet(out / "people.h5")) == 6
    note = "annotations.json: annotations of other categories, left out: 1 (first: annotation 90 of 'rat')"
    assert note in str(summary)


def test_people_are_not_taken_for_all_that_a_set_of_ones_own_is_about(tmp_path):
    content = mice(tmp_path / "mice", name="person")
    rat = {"id": 5, "name": "rat", "keypoints": ["nose", "tail"], "skeleton": []}
    content["categories"].append(rat)
    for number in range(1, 7):
        entry = {"id": 90 + number, "image_id": number, "category_id": 5, "keypoints": [9, 9, 2, 30, 30, 2]}
        content["annotations"].append(entry)
    found = "categories 'person', 'rat', expected one of them, by --category or datasets.own.category"
    assert found in refused(tmp_path, content)
    (tmp_path / "rat.yaml").write_text("name: rat\njoints: [nose, tail]\n")
    out, _ = prepare(tmp_path, tmp_path / "mice", skeleton=str(tmp_path / "rat.yaml"))
    assert PersonSet(out / "people.h5").joint_NK2[0].tolist() == [[9, 9], [30, 30]]
    rat["keypoints"] = []  # as tools write joints that are categories too
    out, summary = prepare(tmp_path, write(tmp_path / "mice", content))
    assert PersonSet(out / "people.h5").skeleton.name == "person"
    assert "annotations of other categories, left out: 6 (first: annotation 91 of 'rat')" in str(summary)


def test_one_of_several_species_of_the_same_joints_is_chosen(tmp_path):
    content = mice(tmp_path / "mice")
    content["categories"].append(content["categories"][0] | {"id": 5, "name": "rat"})
    content["annotations"][0]["category_id"] = 5
    out, _ = prepare(tmp_path, write(tmp_path / "mice", content), category="mouse")
    assert len(PersonSet(out / "people.h5")) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "rat"}, "found two categories 'mouse', expected a name of its own for each"),
        ({"keypoints": "nose"}, "keypoints: found nose, expected a list of names"),
        ({"keypoints": []}, "found categories 'mouse', expected one with a list of keypoints"),
        ({"keypoints": [*MOUSE, "nose"]}, "expected a name of its own for each"),
        ({"keypoints": MOUSE[:3], "skeleton": []}, "found 12 entries, expected 9: x, y and flag of 3 joints"),
        ({"skeleton": [[1, 9]]}, "found joint 8, expected 0 to 3"),
        ({"skeleton": ["x"]}, "skeleton: found ['x'], expected pairs of joints, counted from 1"),
    ],
)
def test_a_category_that_cannot_be_used_is_one_line(tmp_path, change, message):
    content = mice(tmp_path / "mice", **{} if "name" in change else change)
    if "name" in change:
        content["categories"].append(content["categories"][0] | {"id": 4})
    found = refused(tmp_path, content)
    assert "annotations.json: " in found
    assert message in found


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("flips: [[ear_left, whisker]]", "flips: found joint 'whisker', expected one of the 4 in joints"),
        ("sigmas: [0.1, 0.1]", "found 2 sigmas, expected 4 numbers above 0, or none"),
        ("sigma: [0.1]", "unknown key sigma"),
        ("- 1", "more.yaml: found list, expected keys and values"),
        ("joints: [nose, tail]", "found 'ear_left' is none of the joints of own"),
    ],
)
def test_a_skeleton_file_that_does_not_fit_is_one_line(tmp_path, yaml, message):
    (tmp_path / "more.yaml").write_text(yaml)
    content = mice(tmp_path / "mice")
    assert message in refused(tmp_path, content, skeleton=str(tmp_path / "more.yaml"))


def test_a_skeleton_of_no_name_and_a_folder_with_nothing_in_it_are_one_line(tmp_path):
    assert "found 'dog', expected one of aic, " in refused(tmp_path, mice(tmp_path / "mice"), skeleton="dog")
    (tmp_path / "empty").mkdir()
    for source, message in (("empty", "no annotations in it"), ("none", "no such file or folder")):
        with user_error(f"{source}: {message}, expected annotations/"):
            prepare(tmp_path, tmp_path / source)


# ---- several sources ----


def test_files_named_train_and_val_are_the_splits_and_ids_stay_if_they_differ(tmp_path):
    content = mice(tmp_path / "mice", count=4)
    halves = [
        content | {"images": content["images"][part], "annotations": content["annotations"][part]}
        for part in (slice(0, 3), slice(3, 4))
    ]
    write(tmp_path / "mice", halves[0], "train.json")
    out, summary = prepare(tmp_path, write(tmp_path / "mice", halves[1], "val.json"))
    assert ImageSet(out).id_I[ImageSet(out).rows("validation")].tolist() == [4]
    assert "split as the sources say" in str(summary)


def test_sources_of_the_same_ids_are_numbered_anew_and_one_image_may_not_be_in_two(tmp_path):
    sources = [write(tmp_path / name, mice(tmp_path / name, count=3)) for name in ("a", "b")]
    out, summary = prepare(tmp_path, *sources)
    images = ImageSet(out)
    assert sorted(images.id_I.tolist()) == [1, 2, 3, 4, 5, 6]
    assert {images.name(row) for row in range(6)} == {f"{s}/images/{k}.jpg" for s in "ab" for k in (1, 2, 3)}
    assert "image and annotation ids that another source has too, all numbered anew: 3" in str(summary)
    with user_error(r"image .*1.jpg is in .*annotations.json too"):
        prepare(tmp_path, sources[0], sources[0])
    write(tmp_path / "a", mice(tmp_path / "a", count=3), "again.json")
    with user_error(r"annotations.json: image .*1.jpg is in .*again.json too"):
        prepare(tmp_path, tmp_path / "a")


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """As Roboflow exports them."""
    folders = [tmp_path / "export" / split for split in ("train", "valid")]
    for folder in folders:
        write(folder, mice(folder, count=3), "_annotations.coco.json")
    _, summary = prepare(tmp_path, *folders)
    for split in ("train", "valid"):
        assert f"\n{split}/_annotations.coco.json: area missing, 0.53 of the box taken: 3 (" in str(summary)
    with user_error(r"export: found annotations in its folders train, valid, expected these as sources"):
        prepare(tmp_path, tmp_path / "export")


def test_sources_of_other_names_are_joined_by_a_table(tmp_path):
    write(tmp_path / "mice", mice(tmp_path / "mice"))
    rats = mice(tmp_path / "rats", name="rat", keypoints=["snout", "ear_left", "ear_right", "whisker"])
    sources = [tmp_path / "mice", write(tmp_path / "rats", rats)]
    with user_error(r"'snout' is none of the joints of mouse, .*, or datasets.own.joints"):
        prepare(tmp_path, *sources)
    out, summary = prepare(tmp_path, *sources, joints={"snout": "nose"})
    people, images = PersonSet(out / "people.h5"), ImageSet(out)
    assert people.labelled_NK.all(axis=0).tolist() == [True, True, True, False]
    has_tail = ["mice" in images.name(row) for row in range(len(images))]
    assert images.has_joint_IK.tolist() == [[True, True, True, tail] for tail in has_tail]
    assert "joints that mouse lacks, left out: 1 (first: whisker)" in str(summary)
    with user_error(r"datasets.own.joints: found 'beak', expected a joint of mouse"):
        prepare(tmp_path, *sources, joints={"snout": "beak"})
    mouse = tmp_path / "mouse.yaml"
    mouse.write_text(f"name: mouse\njoints: [{', '.join(MOUSE)}]\n")
    for image in (tmp_path / "mice" / "images").iterdir():
        image.unlink()
    for rest in (sources[1:], sources):  # a joint of no image may as well be learnt as absent
        out, _ = prepare(tmp_path, *rest, skeleton=str(mouse), joints={"snout": "nose"})
        assert ImageSet(out).has_joint_IK is None


def test_the_share_that_validates_is_exact_and_the_first_by_a_hash_of_the_names(tmp_path):
    source = write(tmp_path / "mice", mice(tmp_path / "mice", count=10))
    images = ImageSet(prepare(tmp_path, source, validation=0.3)[0])
    validates = set(images.id_I[images.rows("validation")].tolist())
    assert len(validates) == 3
    fewer = mice(tmp_path / "fewer", count=10)
    gone = min(set(range(1, 11)) - validates)
    fewer["images"] = [one for one in fewer["images"] if one["id"] != gone]
    fewer["annotations"] = [one for one in fewer["annotations"] if one["image_id"] != gone]
    images = ImageSet(prepare(tmp_path, write(tmp_path / "fewer", fewer), validation=0.3)[0])
    assert set(images.id_I[images.rows("validation")].tolist()) == validates


def test_an_image_that_is_listed_twice_is_refused(tmp_path):
    content = mice(tmp_path / "mice")
    content["images"][1]["file_name"] = "1.jpg"
    assert "found image 1.jpg twice, expected all its people under one entry" in refused(tmp_path, content)


def test_sources_may_be_given_from_here_and_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write(tmp_path / name, mice(tmp_path / name))
    out, _ = prepare(tmp_path, Path("one"), tmp_path / "two")
    assert ImageSet(out).name(0) == "one/images/1.jpg"


def test_of_two_images_one_validates_whatever_is_drawn(tmp_path):
    for share in (0.0, 1.0):
        source = write(tmp_path / "mice", mice(tmp_path / "mice", count=2))
        out, _ = prepare(tmp_path, source, validation=share)
        assert sorted(ImageSet(out).split_I.tolist()) == ["train", "validation"]


@pytest.mark.parametrize(
    ("path", "evaluated"),
    [
        ("person_keypoints_val2017.json", True),
        ("annotations/hand-test.json", True),
        ("minival2014.json", True),
        ("train_latest.json", False),  # no test
        ("interval.json", None),
        ("trainval.json", None),
        ("train_and_test.json", None),
        ("valid/_annotations.coco.json", True),
        ("train/_annotations.coco.json", False),
        ("test/train.json", False),
        ("test_1/a.json", None),
    ],
)
def test_names_say_which_images_are_evaluated(path, evaluated):
    assert is_evaluated(Path("/data", path)) is evaluated


def test_people_without_a_box_are_told_from_those_outside_the_image(tmp_path):
    content = mice(tmp_path / "mice", keypoints=MOUSE[:1], skeleton=[])
    for number, one in enumerate(content["annotations"]):
        one |= {"keypoints": POINTS[:3], "area": 900, "bbox": [30, 10, 20, 20]}
        one["bbox"] = {0: [], 1: [400, 400, 20, 20]}.get(number, one["bbox"])
    _, summary = prepare(tmp_path, write(tmp_path / "mice", content), problems=["single"])
    left_out = {reason: count for (_, reason), count in summary.left_out.items()}
    assert left_out == {"people without a box": 1, "people outside the image": 1}


def test_how_images_are_turned_is_said_once_of_both_prepared_files(tmp_path):
    content = mice(tmp_path / "mice")
    for image in content["images"]:
        path = tmp_path / "mice" / "images" / image["file_name"]
        path.write_bytes(with_orientation(path.read_bytes(), 6))
        image |= {"width": 60, "height": 80}
    _, summary = prepare(tmp_path, write(tmp_path / "mice", content))
    assert str(summary).count("EXIF orientation: images turned upright, since only so they have") == 1


def test_the_same_input_gives_the_same_bytes(tmp_path):
    source = write(tmp_path / "mice", mice(tmp_path / "mice"))
    first, second = (files_of(prepare(tmp_path, source)[0]) for _ in range(2))
    assert len(first) == 4
    assert first == second
