"""Files that appear complete or not at all, and those that cannot be read."""

import errno
import gzip
import os
import signal
from pathlib import Path

import pytest
from helpers import run_python, user_error

from pose.io.errors import UserError
from pose.io.files import (
    atomic_folder,
    atomic_write,
    read_bytes,
    read_json,
    read_text,
    write_json,
    write_text,
)


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path, synced):
    path = tmp_path / "a" / "b" / "net.pt"
    with atomic_write(path, sync=synced) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        temporary.write_bytes(b"complete")
    assert path.read_bytes() == b"complete"
    assert inside(path.parent) == ["net.pt"]


def test_the_temporary_lies_beside_the_file_hidden_with_its_ending_and_the_process_id(tmp_path):
    with atomic_write(tmp_path / "clip.mp4") as temporary:
        temporary.touch()
    assert temporary.parent == tmp_path
    assert temporary.suffix == ".mp4"
    assert temporary.name.startswith(".")
    assert str(os.getpid()) in temporary.name


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_a_failure_leaves_the_former_file_and_no_rest(tmp_path, error):
    write_text(tmp_path / "old.txt", "old")

    def fail(path: Path) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error("full")

    for name in ("old.txt", "new.txt"):
        with pytest.raises(error):
            fail(tmp_path / name)
    assert inside(tmp_path) == ["old.txt"]
    assert read_text(tmp_path / "old.txt") == "old"


def test_a_process_that_is_killed_leaves_the_former_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": 0.5})
    code = f"""
import os, signal
from pose.io.files import atomic_write
with atomic_write({str(path)!r}) as temporary:
    temporary.write_text("{{")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code).returncode == -signal.SIGKILL
    assert read_json(path) == {"AP": 0.5}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "cache").write_text("cached")
    (tmp_path / "out.txt").symlink_to(tmp_path / "cache")
    write_text(tmp_path / "out.txt", "new")
    assert not (tmp_path / "out.txt").is_symlink()
    assert (tmp_path / "cache").read_text() == "cached"


def test_text_keeps_its_line_ends_and_letters(tmp_path):
    text = "a: 1\r\nb: 2\nñ"
    write_text(tmp_path / "x.yaml", text)
    assert (tmp_path / "x.yaml").read_bytes() == text.encode("utf-8")
    assert read_text(tmp_path / "x.yaml") == text


def test_an_interrupted_folder_leaves_the_former_one_and_no_rest(tmp_path):
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "old").touch()
    refused = user_error(r"/set: cannot be written \(Is a directory\)$")
    with refused, atomic_folder(tmp_path / "set") as folder:
        folder.write_bytes(b"")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "set"):
        (tmp_path / "elsewhere").read_bytes()
    assert [inside(tmp_path), inside(tmp_path / "set")] == [["set"], ["old"]]
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "new").touch()
    assert [inside(tmp_path), inside(tmp_path / "set")] == [["set"], ["new"]]


def test_a_folder_that_cannot_take_the_place_of_another_leaves_that_one(tmp_path, monkeypatch):
    replace = os.replace

    def refuse_unfinished(source: Path, target: Path) -> None:
        if source.name.endswith("unfinished"):
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, target)

    with atomic_folder(tmp_path / "set") as folder:
        (folder / "old").touch()
    monkeypatch.setattr(os, "replace", refuse_unfinished)
    refused = user_error(r"/set: cannot be written \(Input/output error\)$")
    with refused, atomic_folder(tmp_path / "set"):
        pass
    assert [inside(tmp_path), inside(tmp_path / "set")] == [["set"], ["old"]]


def test_a_missing_folder_that_cannot_be_made_is_named_by_the_file(tmp_path):
    (tmp_path / "models").touch()
    with user_error(r"/models/a/b/last\.pt: cannot be written \(Not a directory\)$"):
        write_text(tmp_path / "models" / "a" / "b" / "last.pt", "")


def test_json_is_read_plain_or_packed(tmp_path):
    write_json(tmp_path / "a.json", [1, {"b": None}])
    (tmp_path / "a.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "a.json.gz") == [1, {"b": None}]


def test_keys_are_left_out_of_json_at_any_depth(tmp_path):
    write_json(tmp_path / "a.json", {"url": 1, "images": [{"id": 2, "url": "b"}, {"id": 3}], "c": [["url"]]})
    found = read_json(tmp_path / "a.json", without=frozenset({"url"}))
    assert found == {"images": [{"id": 2}, {"id": 3}], "c": [["url"]]}


@pytest.mark.parametrize(
    ("item", "unit"), [(b"{},", "lists and objects"), (b"1,", "values"), (b" ", "bytes")]
)
def test_json_of_more_than_any_data_set_is_refused_before_it_is_parsed(tmp_path, item, unit, monkeypatch):
    monkeypatch.setattr("pose.io.files.MAX_JSON", {"bytes": 10**4, "values": 2000, "lists and objects": 500})
    for count, readable in ((300, True), (10**5, False)):
        (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[" + count * item + b"0]"))
        if readable:
            assert len(read_json(tmp_path / "a.json.gz")) in (1, count + 1)
        else:
            with user_error(rf"a\.json\.gz: .*found more than .* (bytes|{unit}), expected"):
                read_json(tmp_path / "a.json.gz")


def test_what_cannot_be_read_is_named_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xff")
    (tmp_path / "half.json").write_text('{"a": [1,')
    (tmp_path / "half.json.gz").write_bytes(gzip.compress(b"[]" * 99)[:-9])
    for read, name, message in (
        (read_bytes, "nothing", "nothing: no such file"),
        (lambda path: read_bytes(path, "an image"), "nothing", "nothing: no such file, expected an image"),
        (read_bytes, "folder", "folder: is a folder, expected a file"),
        (read_text, "latin", "latin: cannot be read"),
        (read_json, "half.json", "half.json: cannot be read as JSON"),
        (read_json, "half.json.gz", "half.json.gz: cannot be read"),
    ):
        with user_error(message):
            read(tmp_path / name)
