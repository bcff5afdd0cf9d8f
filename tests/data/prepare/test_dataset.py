"""Data sets of one's own: any source is prepared for either problem, with the joints of one skeleton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_sets as raw
from helpers import COCO, LSP, MPII, annotation_file_content, image_entry, person_entry, write_annotations
from raw_sets import HAND, own_person, write_own_set

from pose.data.image_set import ImageSet
from pose.data.person_set import FILE, PersonSet
from pose.data.prepare.dataset import prepare_dataset
from pose.data.prepare.summary import Summary
from pose.io.errors import UserError
from pose.metrics.statistics import check_split
from pose.params import DatasetParams


def prepare(*sources: Path, **replaced: Any) -> tuple[ImageSet, PersonSet, Summary]:
    """Both prepared sets, beside the first source."""
    values = {"skeleton": None, "category": None, "joints": {}, "assume_joints": False, "validation": 0.3}
    values |= {"sources": [str(one) for one in sources], "problems": ["single", "multi"]} | replaced
    spec, folder = DatasetParams.model_validate(values), sources[0].parent / "prepared"
    summary = prepare_dataset("own", spec, folder, params=raw.PREPARE, seed=1, check=check_split, workers=1)
    return ImageSet(folder), PersonSet(folder / FILE), summary


def splits_by_name(people: PersonSet) -> dict[str, str]:
    return dict(raw.splits_of(people))


def test_things_with_joints_of_their_own_are_prepared_for_either_problem(tmp_path: Path):
    content = write_own_set(tmp_path / "hand")
    images, people, summary = prepare(tmp_path / "hand")
    assert images.skeleton == people.skeleton
    assert (images.skeleton.name, images.skeleton.joints) == ("hand", HAND)
    assert images.skeleton.limbs == ((0, 1), (0, 2))
    expected_NK2 = np.array([one["keypoints"] for one in content["annotations"]]).reshape(-1, 3, 3)[..., :2]
    np.testing.assert_array_equal(people.joint_NK2, expected_NK2)
    np.testing.assert_array_equal(people.visible_NK, [[0, 1, 0]] * 6)
    np.testing.assert_array_equal(people.centre_N2[0], [29.5, 22.5])  # a box covers whole pixels
    for row in range(6):
        np.testing.assert_array_equal(images.joints(row)[0], expected_NK2[row : row + 1])
    assert 0 < len(people.rows("validation")) < 6
    assert "skeleton hand: 3 joints; flips: none; sigmas: 0.07 for each joint" in str(summary)
    assert "iscrowd missing, taken for 0: 6" in str(summary)
    assert "validation: " in str(summary)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path):
    write_own_set(tmp_path / "hand")
    files = []
    for _ in range(2):
        prepare(tmp_path / "hand")
        made = (tmp_path / "prepared").rglob("*.*")
        files.append({path.name: path.read_bytes() for path in made if path.is_file()})
    assert len(files[0]) == 4
    assert files[0] == files[1]


@pytest.mark.parametrize("folder", ["LSP", "LSPET"])
def test_lsp_alone_is_a_data_set(folder: str, tmp_path: Path):
    joint_NJ3 = {"LSP": raw.write_lsp, "LSPET": raw.write_lspet}[folder](tmp_path)
    images, people, summary = prepare(tmp_path / folder)
    assert images.skeleton == people.skeleton == LSP
    is_labelled_NJ = people.labelled_NK
    assert is_labelled_NJ.sum() == joint_NJ3[..., 0].size - (folder == "LSPET")
    np.testing.assert_array_equal(people.joint_NK2[is_labelled_NJ], joint_NJ3[is_labelled_NJ][:, :2])
    if folder == "LSP":  # the published halves
        assert people.rows("train").tolist() == [0, 1, 2]
        assert "split as the sources say" in str(summary)
    assert len(people.rows("validation")) > 0


def test_all_people_of_an_image_of_mpii_are_trained_on_together(tmp_path: Path):
    listed = [raw.listed_person("a.jpg"), raw.listed_person("a.jpg", 2, objpos=[70.0, 52.0])]
    raw.write_mpii_json(tmp_path, *listed, raw.listed_person("b.jpg", validates=True))
    images, people, _ = prepare(tmp_path / "mpii")
    assert images.skeleton == MPII
    joint_PK2, labelled_PK = images.joints(images.rows("train")[0])
    assert labelled_PK.sum(axis=1).tolist() == [15, 15]
    np.testing.assert_array_equal(joint_PK2[:, 3], [[32, 42]] * 2)  # counted from 0
    assert [people.name(row) for row in people.rows("validation")] == ["b.jpg"]
    scale = people.scale_N[1]
    np.testing.assert_allclose(people.centre_N2[1], [69, 51 + 15 * scale])  # the crop of MPII's evaluation


def test_a_published_file_is_a_data_set(tmp_path: Path):
    raw.write_images(tmp_path / "mpii", ["a.jpg", "b.jpg"])
    file = raw.write_published(tmp_path, [("mpii/images/a.jpg", 1), ("mpii/images/b.jpg", 1)])
    _, people, _ = prepare(file, validation=0.5)
    assert sorted(splits_by_name(people).values()) == ["train", "validation"]


def test_people_of_coco_are_recognised_by_their_joints(tmp_path: Path):
    content = annotation_file_content(
        [image_entry(k) for k in (1, 2, 3)], [person_entry(k, k) for k in (1, 2, 3)]
    )
    write_annotations(tmp_path, "train2017", content)
    _, people, _ = prepare(tmp_path / "coco")
    assert people.skeleton == COCO
    assert len(people.skeleton.sigmas) == 17


def test_joined_sources_have_the_joints_of_the_first_and_a_table_says_which_is_which(tmp_path: Path):
    write_own_set(tmp_path / "a", 2)
    write_own_set(tmp_path / "b", 2, name="other", joints=("little", "ring", "root"))
    table = {"root": "wrist", "little": "pinky"}
    images, people, summary = prepare(tmp_path / "a", tmp_path / "b", joints=table)
    assert people.skeleton.joints == HAND
    assert people.labelled_NK.tolist() == [[True] * 3] * 2 + [[True, False, True]] * 2
    np.testing.assert_array_equal(people.joint_NK2[2, [0, 2]], [[23, 28], [13, 10]])
    assert "joints that the file lacks: 1 (first: thumb)" in str(summary)
    assert "joints that hand lacks, left out: 1 (first: ring)" in str(summary)
    assert images.id_I.tolist() == [1, 2, 3, 4]  # both files begin with 1
    assert "ids that another source has too, all numbered anew" in str(summary)


def test_ids_stay_where_no_two_files_have_the_same(tmp_path: Path):
    write_own_set(tmp_path / "a", 2)
    write_own_set(
        tmp_path / "b",
        name="other",
        images=[image_entry(7, "x.jpg"), image_entry(9, "y.jpg")],
        annotations=[own_person(70, 7), own_person(90, 9)],
    )
    images, _, _ = prepare(tmp_path / "a", tmp_path / "b")
    assert images.id_I.tolist() == [1, 2, 7, 9]


def test_names_of_files_say_what_validates_and_else_a_share_is_drawn(tmp_path: Path):
    for name in ("train", "val"):
        write_own_set(tmp_path / "hand", 3, name=name)
    _, people, _ = prepare(tmp_path / "hand")
    assert {name[:-5]: split for name, split in splits_by_name(people).items()} == {
        "train": "train",
        "val": "validation",
    }
    write_own_set(tmp_path / "more", 40, name="photo")
    _, people, summary = prepare(tmp_path / "hand", tmp_path / "more", validation=0.25)
    splits = splits_by_name(people)
    drawn = [splits[name] for name in splits if name.startswith("more")]
    assert 4 <= drawn.count("validation") <= 16
    assert "of those that do not, 0.25 of the images validate, drawn by the seed" in str(summary)


def test_the_category_is_named_where_several_have_joints(tmp_path: Path):
    categories = [
        {"id": 1, "name": "hand", "keypoints": [*HAND]},
        {"id": 2, "name": "paw", "keypoints": ["pad", "claw"]},
    ]
    paws = [own_person(k, k, 2, category_id=2) for k in range(2, 7)]
    write_own_set(tmp_path / "both", categories=categories, annotations=[own_person(1, 1), *paws])
    with pytest.raises(UserError, match=r"found categories 'hand', 'paw', .*datasets.own.category"):
        prepare(tmp_path / "both")
    _, people, _ = prepare(tmp_path / "both", category="paw")
    assert people.skeleton.joints == ("pad", "claw")
    assert len(people) == 5


def test_a_skeleton_file_completes_the_joints_of_the_source_or_replaces_them(tmp_path: Path):
    write_own_set(tmp_path / "hand")
    file = tmp_path / "hand.yaml"
    file.write_text("flips: [[thumb, pinky]]\nsigmas: [0.05, 0.1, 0.1]\nreference: [wrist, thumb]\n")
    _, people, _ = prepare(tmp_path / "hand", skeleton=str(file))
    assert people.skeleton.flips == ((1, 2),)
    assert people.skeleton.reference == (0, 1)
    file.write_text("joints: [pinky, wrist, thumb]\n")
    _, people, summary = prepare(tmp_path / "hand", skeleton=str(file))
    assert people.skeleton.joints == ("pinky", "wrist", "thumb")
    np.testing.assert_array_equal(people.joint_NK2[0], [[23, 28], [13, 10], [18, 19]])
    assert "joints put into the order of own" in str(summary)


def written(folder: Path, skeleton: str, **content: Any) -> dict[str, Any]:
    """A set of which something is wrong, with a skeleton file unless that is empty."""
    write_own_set(folder / "hand", **content)
    (folder / "hand.yaml").write_text(skeleton)
    return {"skeleton": str(folder / "hand.yaml")} if skeleton else {}


TWICE = [{"id": k, "name": "hand", "keypoints": [*HAND]} for k in (1, 2)]
NO_SIDES = {"id": 1, "name": "hand"}


@pytest.mark.parametrize(
    ("skeleton", "content", "message"),
    [
        (
            "",
            {"annotations": [own_person(1, 1), own_person(2, 2, 2)]},
            r"annotations.json: annotation 2: keypoints: found 6 entries, expected 9: x, y and flag of 3 jo",
        ),
        ("", {"categories": TWICE}, r"found two categories 'hand', expected a name of its own for each"),
        ("", {"categories": [NO_SIDES]}, r"found categories 'hand', expected one with a list of keypoints"),
        (
            "flips: [[wrist, tail]]",
            {},
            r"hand.yaml.*: flips: found joint 'tail', expected one of the 3 in jo",
        ),
        ("joints: [a, b]\nflips: [[a, c]]", {}, r"hand.yaml: flips: found joint 'c', expected one of the 2"),
        ("sigmas: [0.1, 0.1]", {}, r"hand.yaml.*: found 2 sigmas, expected 3 numbers above 0"),
        ("colour: red", {}, r"hand.yaml.*: unknown key colour"),
        ("flips: [", {}, r"hand.yaml: cannot be read as YAML"),
        ("- wrist", {}, r"hand.yaml: found list, expected keys and values"),
        ("joints: [a, b, c]", {}, r"found 'wrist' is none of the joints of own, expected these, or datasets"),
    ],
)
def test_a_set_that_cannot_be_used_is_one_line_that_says_why(
    skeleton: str, content: dict[str, Any], message: str, tmp_path: Path
):
    replaced = written(tmp_path, skeleton, **content)
    with pytest.raises(UserError, match=message) as error:
        prepare(tmp_path / "hand", **replaced)
    assert "\n" not in str(error.value)
    assert ": : " not in str(error.value)
    assert not list((tmp_path / "prepared").glob("*"))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({}, r"nothing: no annotations in it, expected annotations/\*.json or \*.json in COCO's format"),
        ({"skeleton": "dog"}, r"skeleton: found 'dog', expected one of .*coco.*, or a YAML file"),
        ({"skeleton": "none.yaml"}, r"none.yaml: no such file"),
    ],
)
def test_a_folder_or_skeleton_that_is_not_there_is_one_line(replaced, message, tmp_path: Path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "nothing", **replaced)


def test_an_image_in_two_sources_is_refused(tmp_path: Path):
    content = write_own_set(tmp_path / "hand", 2)
    (tmp_path / "hand" / "again.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"image .*1.jpg is in .*again.json too, expected it in one file"):
        prepare(tmp_path / "hand")
