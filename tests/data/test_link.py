"""Real data sets linked into a folder of the project, by the command and by `make real-data`."""

import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, user_error

from pose.data.link import link_data


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a part of COCO, whose images are behind a link."""
    for file in ("real/coco/annotations/a.json", "elsewhere/1.jpg"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    (tmp_path / "real/coco/val2017").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "real"


def test_every_file_is_linked_in_folders_of_the_same_names(source, tmp_path):
    target = tmp_path / "data"
    for _ in range(2):
        assert link_data(source, target) == ["coco"]
        links = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_symlink()}
        assert links == {"coco/annotations/a.json", "coco/val2017/1.jpg"}
    with user_error("is where the links are"):
        link_data(target, target)
    assert (target / "coco/val2017/1.jpg").exists()


@pytest.mark.parametrize("back", ["real/coco/up", "elsewhere/up"])
def test_a_link_back_to_a_folder_that_it_is_in_is_refused_before_anything_is_linked(back, source, tmp_path):
    (tmp_path / back).symlink_to(source)
    with user_error(rf"/up: is a link to {source}, which it is in"):
        link_data(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name", ["a 'b\"", "`touch run`", "$(touch run)", "$(shell touch run)", "-x;touch run"]
)
def test_make_hands_on_the_folders_name_as_it_is(name, tmp_path):
    command = tmp_path / "pose"
    command.write_text('#!/bin/sh\nprintf %s "$3"\n')
    command.chmod(0o755)
    (tmp_path / "stamp").touch()
    words = ["make", "--silent", f"--file={ROOT / 'Makefile'}", "real-data", "--old-file=stamp"]
    settings = [f"BIN={tmp_path}", "STAMP=stamp", f"REAL_DATA={name}"]
    done = subprocess.run([*words, *settings], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == name, done.stderr
    assert not (tmp_path / "run").exists()
