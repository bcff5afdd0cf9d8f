"""`pose data check`: what is said of a data set before it is trained on, and the page of samples."""

import re
import shutil
from pathlib import Path

import pytest
from coco_files import image_entry
from helpers import ROOT, user_error
from raw_sets import HAND, own_person, own_spec, write_own_set

from pose.cli import run
from pose.io.schema import read_yaml, write_yaml


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, and a set of hands with a name that is also a tag."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_own_set(tmp_path / "<b>hand", 30)
    return tmp_path


def test_a_set_is_described_and_its_page_shows_samples_of_the_users_own_images(workspace, capsys):
    run(["data", "check", "<b>hand", "--out", "page"])
    printed = capsys.readouterr().out
    page = (workspace / "page/index.html").read_text()
    assert re.search(r"^train +(\d+) +\1 +\1 +0   none$", printed, flags=re.MULTILINE)
    assert re.search(r"^validation: \d images, .*; found exactly as annotated, all count$", printed, re.M)
    assert "warning: no sigmas" in printed
    assert "no sigmas" in page
    assert "<b>hand" not in page
    assert "&lt;b&gt;hand/annotations.json" in page
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', page)) == 24 + 1
    assert page.count("<img") == 25
    assert all(f"<td>{joint}</td>" in page for joint in HAND)
    assert {path.name for path in workspace.iterdir()} == {"params.yaml", "<b>hand", "page"}


def test_what_will_be_left_out_and_what_is_there_twice_is_said(workspace, capsys):
    folder = workspace / "hands"
    images = [image_entry(k, f"{k}.jpg") for k in range(1, 13)] + [image_entry(13, "13.jpg", (90, 60))]
    write_own_set(folder, images=images, annotations=[own_person(k, k) for k in range(1, 14)])
    (folder / "images/1.jpg").unlink()
    (folder / "images/2.jpg").write_bytes(b"no image")
    for name in range(4, 12):
        shutil.copy(folder / "images/3.jpg", folder / f"images/{name}.jpg")
    shutil.copy(folder / "images/3.jpg", folder / "images/13.jpg")
    run(["data", "check", "hands"])
    printed = capsys.readouterr().out
    for words in (
        "image missing 1",
        "image unreadable 1",
        "size not as annotated 1",
        "13.jpg: found 80 x 60 px, expected 90 x 60 as annotated",
        "warning: 1 files are there in both splits under several names (first: 3.jpg and 4.jpg)",
        "data-check/index.html: samples, joints and sizes",
    ):
        assert words in printed


def test_people_whom_the_metric_does_not_count_are_a_warning(workspace, capsys):
    crowd = [own_person(k, 1 + k // 30) for k in range(1, 60)]
    write_own_set(workspace / "crowd", 2, annotations=crowd)
    run(["data", "check", "crowd"])
    printed = capsys.readouterr().out
    assert re.search(r"^warning: train: found exactly as annotated, people score AP 0\.\d", printed, re.M)
    assert "all count" not in printed


def test_a_set_of_which_people_lie_off_their_images_is_described(workspace, capsys):
    """As of annotations made at another size: the page does without the picture of one of them."""
    far = {"bbox": [400, 400, 50, 50], "keypoints": [410 + k for _ in HAND for k in (0, 9, -408)]}
    write_own_set(workspace / "far", 10, annotations=[own_person(k, k) | far for k in range(1, 11)])
    run(["data", "check", "far"])
    assert re.search("warning: .*outside", capsys.readouterr().out)


@pytest.mark.parametrize("flat", [1, 10])
def test_people_whose_joints_lie_on_a_level_line_are_described(flat, workspace, capsys):
    line = {"bbox": [10, 20, 40, 0], "keypoints": [10, 20, 2, 30, 20, 2, 50, 20, 2], "area": 500}
    people = [own_person(k, k) | (line if k <= flat else {}) for k in range(1, 11)]
    write_own_set(workspace / "flat", 10, annotations=people)
    run(["data", "check", "flat"])
    assert "data-check/index.html: samples" in capsys.readouterr().out


def test_a_split_in_which_nobody_is_annotated_is_named(workspace, capsys):
    write_own_set(workspace / "half", 6, "train")
    write_own_set(workspace / "half", 3, "val", annotations=[])
    run(["data", "check", "half"])
    printed = capsys.readouterr().out
    assert "validation: 3 images, nobody with labelled joints" in printed
    assert re.search("warning: validation: .*none of 0 people has a labelled joint", printed)


def test_a_set_of_params_yaml_is_checked_by_its_name(workspace, capsys):
    values = read_yaml("params.yaml")
    values["datasets"] = {"hands": own_spec("<b>hand", problems=["single"])}
    write_yaml("params.yaml", values)
    run(["data", "check", "--name", "hands"])
    assert "0.5 of the images validate" in capsys.readouterr().out


def test_the_inputs_of_the_sets_own_tasks_count(workspace, capsys):
    values = read_yaml("params.yaml")
    values["datasets"] = {"hands": own_spec("<b>hand")}
    small = {"extends": "hgpose", "dataset": "hands"}
    values["tasks"] |= {"small": small, "large": small | {"override": {"input_size": 256}}}
    write_yaml("params.yaml", values)
    run(["data", "check", "--name", "hands"])
    [line] = [one for one in capsys.readouterr().out.splitlines() if "blurred" in one]
    assert line.endswith("found prepare.pack_size 224, expected 436 or more for an input of 256 px")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected sources, or --name and one of datasets in params.yaml"),
        (["hand", "--name", "hand"], "expected sources, or --name and one of datasets in params.yaml"),
        (["--name", "hand", "--category", "paw"], "found --name with --category, expected datasets.hand"),
        (["--name", "hand", "--assume-joints"], "found --name with --assume-joints, expected datasets.hand"),
        (["--name", "hand"], "no data set 'hand', expected one of datasets: none"),
        (["nothing"], "nothing: no such file or folder, expected annotations/"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_writes_no_page(words, message, workspace):
    with user_error(message):
        run(["data", "check", *words])
    assert not (workspace / "data-check").exists()
