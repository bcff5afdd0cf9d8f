"""`pose convert`: predictions from any format to any other that can hold them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import user_error

from pose.cli import run
from pose.data.results import FORMATS, read_results

Write = Callable[..., Path]


pytestmark = pytest.mark.usefixtures("files")


def convert(arguments: str) -> None:
    run(["convert", *arguments.split()])


def joints_in(name: str) -> np.ndarray:
    return np.concatenate([one.people.joint_PK2 for one in read_results(Path(name)).images])


def test_coco_results_become_people_by_file_and_coco_results_again(images, capsys):
    convert("results.json joints.csv --truth coco")
    people = len(joints_in("results.json"))
    lacks = "it does not hold sizes of images, and images without people"
    assert capsys.readouterr().out == f"joints.csv: {people} people, format csv ({lacks})\n"
    convert("joints.csv joints.json --truth coco")
    assert capsys.readouterr().out == f"joints.json: {people} people, format json\n"
    first = json.loads(Path("joints.json").read_text())["images"][0]
    [row] = [row for row in range(len(images)) if images.name(row).endswith(first["file"])]
    assert [first["width"], first["height"]] == images.image_size_I2[row].tolist()
    convert("joints.json again.json --format coco --truth coco")
    before, after = (json.loads(Path(name).read_text()) for name in ("results.json", "again.json"))
    assert [one["image_id"] for one in after] == [one["image_id"] for one in before]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other["keypoints"], one["keypoints"])
        assert other["score"] == pytest.approx(one["score"], abs=1e-4)


def test_sizes_of_images_that_the_truth_does_not_know_are_null(images):
    content = json.loads(images.annotations("validation").read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    for person in content["annotations"]:
        person["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    Path("truth.json").write_text(json.dumps(content))
    convert("results.json joints.json --truth truth.json")
    found = json.loads(Path("joints.json").read_text())["images"]
    assert {(image["width"], image["height"]) for image in found} == {(None, None)}


def test_rows_become_arrays_and_arrays_of_all_evaluated_people_rows_again():
    convert("rows.h5 pred.mat")
    np.testing.assert_allclose(joints_in("pred.mat"), joints_in("rows.h5"), rtol=1e-6)
    convert("rows.h5 all.npz")
    convert("all.npz back.h5 --truth people.h5")
    before, after = read_results(Path("rows.h5")), read_results(Path("back.h5"))
    assert [one.row for one in after.images] == [one.row for one in before.images]
    np.testing.assert_array_equal(joints_in("back.h5"), joints_in("rows.h5"))
    assert after.skeleton == before.skeleton


def test_people_of_one_image_stand_together_under_its_name(people):
    convert("rows.h5 joints.json --truth people.h5")
    rows = [one.row for one in read_results(Path("rows.h5")).images]
    names = [people.name(int(row or 0)) for row in rows]
    content = json.loads(Path("joints.json").read_text())["images"]
    assert [image["file"] for image in content] == list(dict.fromkeys(names))
    assert [len(image["people"]) for image in content] == [names.count(image["file"]) for image in content]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("results.json joints.csv", r"results.json: found no file of image \d+, .* --truth may tell it"),
        ("results.json all.npy", r"results.json: found \d people in image \d+, expected one: format numpy"),
        ("results.json rows.h5 --truth coco", r"found no row of .*, expected one for format rows"),
        ("rows.h5 results.json --format coco", "rows.h5: found no image_id of number 1, expected one"),
        ("rows.h5 results.json --format coco --truth people.h5", "found no image_id of LSP.*, expected one"),
        ("rows.h5 out.mat --format coco", "--format: found coco for out.mat, expected preds"),
        ("rows.h5 out.txt", r"out.txt: found suffix '.txt', expected one of .csv"),
        ("results.json joints.csv --truth people.h5", "people.h5: has no image ids"),
        ("all.npy joints.csv --skeleton coco", "all.npy: found 16 joints, and 17 in --skeleton coco"),
    ],
)
def test_what_a_format_cannot_hold_is_one_line_and_writes_nothing(arguments, message):
    np.save("all.npy", np.ones((3, 16, 2)))
    before = sorted(Path().iterdir())
    with user_error(message):
        convert(arguments)
    assert sorted(Path().iterdir()) == before


def test_the_formats_of_the_command_are_those_that_there_are(capsys):
    with pytest.raises(SystemExit):
        run(["convert", "--help"])
    assert f"{{{','.join(FORMATS)}}}" in "".join(capsys.readouterr().out.split())
