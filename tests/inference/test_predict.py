"""`pose predict`: what it draws, writes and refuses, with untrained weights."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers import COCO, MPII, files_of, user_error

from pose.cli import run
from pose.data.augment import person_affine
from pose.inference.predict import BATCH
from pose.inference.predict import predict as predict_files
from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg, read_image, write_image
from pose.io.video import VideoReader
from pose.keypoints.geometry import invert, transform

NOISE_HW3 = np.random.default_rng(0).integers(0, 255, (60, 48, 3), dtype=np.uint8)
Predict = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two images, a video of nine frames and a text."""
    folder = tmp_path / "photos"
    write_image(folder / "b.png", NOISE_HW3)
    (folder / "a.jpg").write_bytes(encode_jpeg(NOISE_HW3, 95))
    (folder / "notes.txt").write_text("not an image")
    video = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 60))
    for shift in range(9):
        video.write(np.roll(NOISE_HW3, shift, axis=1))
    video.release()
    return folder


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    """The command, run into a new folder, which is returned."""

    def predict(weights: Path, *arguments: object) -> Path:
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        run(["predict", *map(str, arguments), "--weights", str(weights), "--out", str(out)])
        return out

    return predict


def people_in(folder: Path) -> list[dict]:
    [image] = json.loads((folder / "joints.json").read_text())["images"]
    return image["people"]


def places(people: list[dict]) -> np.ndarray:
    """Joints as written, (P, K, 2) px."""
    return np.array([[(joint["x"], joint["y"]) for joint in one["joints"]] for one in people], dtype=float)


def test_an_image_is_drawn_and_its_joints_are_those_of_the_network(weights, photos, predict, capsys):
    out = predict(weights, photos / "a.jpg")
    content = json.loads((out / "joints.json").read_text())
    assert (content["task"], content["skeleton"]) == ("hgpose", "mpii")
    [image] = content["images"]
    assert (image["file"], image["width"], image["height"]) == (str(photos / "a.jpg"), 48, 60)
    assert [joint["joint"] for joint in image["people"][0]["joints"]] == list(MPII.joints)
    source_HW3, drawn_HW3 = read_image(photos / "a.jpg"), read_image(out / "a.jpg")
    [people] = Predictor.load(weights).predict([source_HW3])
    np.testing.assert_allclose(places(image["people"]), people.joint_PK2, atol=0.005)
    assert drawn_HW3.shape == source_HW3.shape
    assert (drawn_HW3 != source_HW3).any()
    assert "1 of 1 sources" in capsys.readouterr().out


def test_the_people_of_an_image_are_kept_if_its_copy_cannot_be_written(weights, photos, caplog, capsys):
    out = photos.parent / "out"
    (out / "a.jpg").mkdir(parents=True)  # in the place of the copy
    files = [str(photos / name) for name in ("a.jpg", "b.png")]
    with pytest.raises(SystemExit, match="1"):
        run(["predict", *files, "--weights", str(weights), "--out", str(out)])
    assert f"{out / 'a.jpg'}: cannot be written" in caplog.text
    assert "1 of 2 sources" in capsys.readouterr().out
    [a, b] = json.loads((out / "joints.json").read_text())["images"]
    assert (Path(a["file"]).name, Path(b["file"]).name) == ("a.jpg", "b.png")
    assert a["people"]


def test_centre_and_scale_of_mpii_give_the_crop_of_evaluation(weights, photos, predict):
    model = Predictor.load(weights)._network.model
    affine = person_affine(np.array([20 - 1, 30 - 1 + 15 * 0.2]), 0.2, params=model.problem.params)
    side, params = 40, model.problem.params
    centre = transform(invert(affine), np.full(2, (params.input_size - 1) / 2))
    box = ",".join(f"{value:.12f}" for value in (*(centre - (side - 1) / 2), side, side))
    one = predict(weights, photos / "a.jpg", "--centre", "20,30", "--scale", "0.2")
    two = predict(weights, photos / "a.jpg", f"--box={box}")
    full = predict(weights, photos / "a.jpg")
    assert people_in(one) == people_in(two) != people_in(full)


def test_all_people_of_an_image_are_written_but_the_unlikely_ones(multi_weights, photos, predict):
    out = predict(multi_weights, photos / "a.jpg")
    [everyone] = Predictor.load(multi_weights).predict([read_image(photos / "a.jpg")])
    likely = everyone.above(0.1)
    assert [person["score"] for person in people_in(out)] == likely.score_P.round(4).tolist()
    np.testing.assert_allclose(places(people_in(out)), likely.joint_PK2, atol=0.005)
    middle = float(np.median(everyone.score_P))
    sure = predict(multi_weights, photos / "a.jpg", "--min-score", middle)
    assert 0 < len(people_in(sure)) == (everyone.score_P >= middle).sum() < len(people_in(out))


def test_people_are_looked_at_again_by_single_person_weights(weights, multi_weights, photos, predict):
    plain = predict(multi_weights, photos / "a.jpg")
    refined = predict(multi_weights, photos / "a.jpg", "--refine", weights)
    predictor = Predictor.load(multi_weights, refine=weights)
    [people] = predictor.predict([read_image(photos / "a.jpg")], min_score=0.1)
    np.testing.assert_allclose(places(people_in(refined)), people.joint_PK2, atol=0.005)
    assert len(people_in(plain)) == len(people_in(refined))
    assert people_in(plain) != people_in(refined)


def test_an_image_of_nobody_is_written_as_it_is(multi_weights, photos, predict, capsys):
    out = predict(multi_weights, photos / "b.png", "--min-score", "2")
    assert people_in(out) == []
    assert (read_image(out / "b.png") == read_image(photos / "b.png")).all()
    assert "1 of 1 sources" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["hgpose", "hgpose-ae"])
def test_a_folder_stands_for_its_images_and_videos(task, weights, multi_weights, photos, predict):
    single = task == "hgpose"
    out = predict(weights if single else multi_weights, photos, "--format", "csv")
    assert [*files_of(out)] == ["a.jpg", "b.png", "clip.mp4", "joints.csv"]
    assert sum(len(frames) for frames in VideoReader(out / "clip.mp4").read_frames()) == 9
    table = pd.read_csv(out / "joints.csv")
    columns = ["file", "frame", "seconds", "person", "score", "joint", "x", "y", "confidence"]
    assert list(table.columns) == columns
    assert table.groupby("file")["frame"].nunique().tolist() == [0, 0, 9]
    np.testing.assert_allclose(table["seconds"], table["frame"] / 10, atol=0.001)
    for _, one in table.groupby(["file", "frame"], dropna=False):
        people = one["person"].nunique()
        assert one["joint"].tolist() == list((MPII if single else COCO).joints) * people
        assert one["person"].tolist() == np.repeat(range(people), len(one) // people).tolist()
        assert one.groupby("person")["score"].first().is_monotonic_decreasing
    assert single or table["score"].min() >= 0.1


def test_what_is_left_out_of_a_folder_is_counted_by_kind(weights, photos, predict, caplog):
    (photos / "a.jpg").rename(photos / "a.jfif")
    (photos / "more.jpg").mkdir()
    for name in ("c.heic", "d.HEIC", "README", "._a.jpg"):
        (photos / name).write_text("no image")
    with caplog.at_level("WARNING"):
        out = predict(weights, photos)
    assert [*files_of(out)] == ["a.jfif", "b.png", "clip.mp4", "joints.json"]
    assert f"{photos}: left out: 2 .heic, 1 .txt, 1 folder, 1 without suffix" in caplog.text


@pytest.mark.parametrize("format", ["json", "csv"])
def test_files_whose_names_are_not_utf8_are_drawn_and_named(format, weights, photos, predict):
    for name in ("a.jpg", "clip.avi"):
        (photos / name).rename(os.fsdecode(os.fsencode(photos / name) + b"\xff" + name[-4:].encode()))
    out = predict(weights, photos, "--format", format)
    assert b"a.jpg\xff.jpg" in os.listdir(os.fsencode(out))
    assert b"clip.avi\xff.mp4" in os.listdir(os.fsencode(out))
    assert (b"\xff.jpg" if format == "csv" else rb"\udcff.jpg") in (out / f"joints.{format}").read_bytes()


@pytest.mark.parametrize(("given", "further"), [("weights", "1,0.8"), ("multi_weights", "1,2")])
def test_an_image_is_shown_to_the_network_at_further_scales_if_asked_to(
    given, further, photos, predict, request
):
    file = request.getfixturevalue(given)
    one, two = (predict(file, photos / "a.jpg", "--scales", scales) for scales in ("1", further))
    assert people_in(one) == people_in(predict(file, photos / "a.jpg")) != people_in(two)


def test_a_network_sees_no_mirrored_image_if_told_not_to(multi_weights, photos, predict):
    both, upright = (predict(multi_weights, photos / "a.jpg", *words) for words in ((), ("--no-flip",)))
    of_library = Predictor.load(multi_weights, flip=False).predict(photos / "a.jpg", min_score=0.1)
    assert people_in(upright) != people_in(both)
    assert len(people_in(upright)) == len(of_library)


def test_what_cannot_be_read_or_written_is_named_and_the_others_are_done(weights, photos, tmp_path):
    (photos / "broken.mp4").write_bytes(b"not a video")
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:900])
    write_image(photos / "wide.png", np.zeros((1, 20000, 3), np.uint8))
    (photos / "wide.png").rename(photos / "wide.webp")
    out = tmp_path / "out"
    done, errors = predict_files([photos], predictor=Predictor.load(weights), out=out)
    broken, cut, wide = errors
    assert "broken.mp4: cannot be read as a video" in broken
    assert "cut.jpg: truncated JPEG" in cut
    assert "wide.webp: an image of 20000 x 1 px cannot be written as .webp" in wide
    assert [one.copy.name for one in done] == ["a.jpg", "b.png", "clip.avi"]
    assert [*files_of(out)] == ["a.jpg", "b.png", "clip.mp4", "joints.json"]


def test_batches_of_images_keep_their_order_and_one_damaged_image_costs_no_other(weights, tmp_path):
    count, damaged = 2 * BATCH + 3, BATCH + 1
    folder, out = tmp_path / "many", tmp_path / "out"
    images = [np.roll(NOISE_HW3, 3 * number, axis=0) for number in range(count)]
    for number, image_HW3 in enumerate(images):
        write_image(folder / f"{number:02d}.png", image_HW3)
    (folder / f"{damaged:02d}.png").write_bytes(b"\x89PNG")
    predictor = Predictor.load(weights)
    done, [error] = predict_files([folder], predictor=predictor, out=out)
    assert f"{damaged:02d}.png" in error
    left = [number for number in range(count) if number != damaged]
    assert [one.copy.name for one in done] == [f"{number:02d}.png" for number in left]
    written = json.loads((out / "joints.json").read_text())["images"]
    assert [Path(image["file"]).name for image in written] == [one.copy.name for one in done]
    for number, image in zip(left, written, strict=True):
        [people] = predictor.predict([images[number]])
        np.testing.assert_allclose(places(image["people"]), people.joint_PK2, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing.jpg", "missing.jpg: no such file or folder"),
        (".", r"\.: found no images or videos in this folder"),
        ("photos/a.jpg --out photos", "photos/a.jpg: would be overwritten by its drawn copy"),
        ("photos/a.jpg more/a.jpg", "more/a.jpg: photos/a.jpg would be drawn as drawn/a.jpg too"),
        ("photos/a.jpg --weights photos/b.png", "photos/b.png: cannot be read as model weights"),
        ("photos/a.jpg --weights none.pt", "none.pt: no such file"),
        ("photos/a.jpg --scale 1", "--centre and --scale: found one of them, expected both or neither"),
        ("photos/a.jpg --centre 1,2 --scale 0", "--scale: found 0, expected a number above 0"),
        ("photos/a.jpg --centre 1,2 --scale 1e300", r"--scale: found 1e\+300, .* at most 5000"),
        ("photos/a.jpg --box 1,2,0,4", "--box: found 0 x 4 pixels, expected a width and a height above 0"),
        ("photos/a.jpg --box 1,2,3,4 --centre 1,2 --scale 1", "--box: found with --centre and --scale"),
        ("photos/a.jpg --device meta", "device: found 'meta', expected cpu, cuda"),
        ("photos/a.jpg --device hpu", "device: found 'hpu', expected cpu, cuda"),
        ("photos/a.jpg --device warp", "device: found 'warp', expected cpu, cuda"),
        ("photos/a.jpg --device cuda:99", "device: found 'cuda:99', expected cpu, cuda"),
        ("photos/a.jpg --box 1,2,3,4 --weights multi.pt", "box: weights of hgpose-ae find all people"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    arguments, message, weights, multi_weights, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_image(Path("more/a.jpg"), NOISE_HW3)
    Path("multi.pt").symlink_to(multi_weights)
    before = sorted(tmp_path.rglob("*"))
    with user_error(message):
        run(["predict", "--weights", str(weights), *arguments.split()])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "expected", "values"),
    [
        ("scales", "numbers from 0.1 to 8", ["0.5,2", "1,0", "1,wide", "1,-2", "1,300", "1,nan", ""]),
        ("box", "4 numbers with commas between them", ["1,2,wide,4"]),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_the_parser(option, expected, values, capsys):
    for value in values:
        with pytest.raises(SystemExit) as error:
            run(["predict", "a.jpg", "--weights", "a.pt", f"--{option}={value}"])
        assert error.value.code == 2
        message = f"argument --{option}: found {value!r}, expected {expected}"
        assert message in capsys.readouterr().err.splitlines()[-1]
