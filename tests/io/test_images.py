"""Images: decoded completely, or refused by name."""

import struct

import cv2
import numpy as np
import pytest
from helpers import user_error
from raw_sets import with_orientation

from pose.io.images import (
    decode_image,
    encode_jpeg,
    exif_orientation,
    read_image,
    relative_name,
    shrink,
)
from pose.keypoints.geometry import transform


@pytest.fixture
def image_HW3() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_colours_come_as_red_green_blue(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 6, 3), (0, 0, 255), dtype=np.uint8))
    image = read_image(tmp_path / "red.png")
    assert image.shape == (4, 6, 3)
    assert (image == (255, 0, 0)).all()


def test_an_encoded_image_is_decoded_with_its_colours():
    image = np.full((16, 16, 3), (200, 100, 30), dtype=np.uint8)
    assert np.abs(decode_image(encode_jpeg(image, 95), "x").astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    ("suffix", "share", "kind"),
    [*(("jpg", share, "JPEG") for share in (0.05, 0.3, 0.6, 0.9, 0.999)), ("png", 0.99, "PNG")],
)
def test_an_image_cut_short_anywhere_is_refused_by_name(tmp_path, image_HW3, suffix, share, kind):
    data = cv2.imencode(f".{suffix}", image_HW3)[1].tobytes()
    (tmp_path / f"cut.{suffix}").write_bytes(data[: int(len(data) * share)])
    with user_error(rf"cut\.{suffix}: truncated {kind}"):
        read_image(tmp_path / f"cut.{suffix}")


def test_the_end_of_a_thumbnail_does_not_stand_for_the_end_of_the_image(image_HW3):
    jpeg, thumbnail = encode_jpeg(image_HW3, 90), b"Exif\0\0 thumbnail " + encode_jpeg(image_HW3[:8, :8], 90)
    complete = jpeg[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + jpeg[2:]
    assert decode_image(complete, "x").shape == image_HW3.shape
    with user_error("truncated JPEG"):
        decode_image(complete[:-500], "x")


def test_a_progressive_jpeg_cut_between_its_scans_is_refused(image_HW3):
    _, data = cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    complete = data.tobytes()
    assert decode_image(complete, "x").shape == image_HW3.shape
    with user_error("truncated JPEG"):
        decode_image(complete[: complete.rfind(b"\xff\xda")], "x")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(image_HW3):
    assert decode_image(encode_jpeg(image_HW3, 90) + b"\0camera notes", "x").shape == image_HW3.shape


JPEGS: dict[str, list[int]] = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restart markers": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "own codes": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    "4:4:4": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}


# Of a progressive one, 0.9 would be within the last scan.
KEPT = [(kind, kept) for kind in JPEGS for kept in (0, 0.3, 0.9) if (kind, kept) != ("progressive", 0.9)]


@pytest.mark.parametrize(("kind", "kept"), KEPT)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_that_lacks_data_before_its_end_marker_is_refused(image_HW3, kind, channels, kept):
    stored = image_HW3 if channels == 3 else image_HW3[..., 0]
    data = cv2.imencode(".jpg", stored, JPEGS[kind])[1].tobytes()
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode_image(data, "x"), plain)
    scan = data.index(b"\xff\xda") + 30
    with user_error("damaged JPEG, data is missing before its end"):
        decode_image(data[: scan + int(kept * (len(data) - scan))] + data[-2:], "x")


def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused(image_HW3):
    data = cv2.imencode(".jpg", image_HW3, JPEGS["progressive"])[1].tobytes()
    last = data.rindex(b"\xff\xda")
    with user_error("damaged JPEG, data is missing before its end"):
        decode_image(data[: data.rindex(b"\xff\xc4", 0, last)] + data[-2:], "x")


def test_a_progressive_jpeg_is_as_good_as_whole_without_the_end_of_its_last_scan(image_HW3):
    smooth_HW3 = cv2.resize(image_HW3[:6, :9], (90, 60))
    data = cv2.imencode(".jpg", smooth_HW3, JPEGS["progressive"])[1].tobytes()
    found = decode_image(data[: data.rindex(b"\xff\xda") + 30] + data[-2:], "x").astype(int)
    assert 0 < np.abs(found - decode_image(data, "x")).mean() < 1


def test_a_jpeg_that_lacks_some_of_its_restart_markers_is_refused(image_HW3):
    data = cv2.imencode(".jpg", image_HW3, JPEGS["restart markers"])[1].tobytes()
    with user_error("damaged JPEG, data is missing before its end"):
        decode_image(data[: data.index(b"\xff\xd1")] + data[data.index(b"\xff\xd2") :], "x")


@pytest.mark.parametrize("tail", [b"", b"\0camera notes"])
@pytest.mark.parametrize("kind", JPEGS)
def test_nothing_is_printed_of_a_jpeg_that_is_whole(image_HW3, kind, tail, capfd):
    decode_image(cv2.imencode(".jpg", image_HW3, JPEGS[kind])[1].tobytes() + tail, "x")
    assert capfd.readouterr().err == ""


def test_a_jpeg_that_is_grey_to_its_corners_is_not_taken_for_one_that_lacks_data():
    grey_HW3 = np.full((40, 50, 3), 128, dtype=np.uint8)
    assert (decode_image(encode_jpeg(grey_HW3, 90), "x") == grey_HW3).all()


def test_missing_empty_and_foreign_files_are_refused_by_name(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "folder.jpg").mkdir()
    for name, what in {
        "missing.jpg": "no such file",
        "empty.jpg": "empty file",
        "text.jpg": "cannot be decoded",
        "folder.jpg": "is a folder, expected an image",
    }.items():
        with user_error(f"{name}: .*{what}"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    "stored",
    [
        np.zeros((5, 7), np.uint8),
        np.zeros((5, 7, 4), np.uint8),
        np.zeros((5, 7, 3), np.uint16),
        np.zeros((1, 1), np.uint8),
    ],
)
def test_grey_transparent_deep_and_tiny_images_come_as_rgb_bytes(stored):
    image = decode_image(cv2.imencode(".png", stored)[1].tobytes(), "x")
    assert image.dtype == np.uint8
    assert image.shape == (*stored.shape[:2], 3)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_pixels_of_any_depth_span_the_whole_range(bits):
    value = np.linspace(0, 2**bits - 1, 12).astype(np.uint16).reshape(3, 4)
    [red, *_] = np.moveaxis(decode_image(cv2.imencode(".png", value)[1].tobytes(), "x"), 2, 0)
    assert np.array_equal(red, value >> (bits - 8))


def test_pixels_lie_as_stored_and_are_turned_only_on_request(image_HW3):
    data = with_orientation(encode_jpeg(image_HW3, 90), 6)
    assert decode_image(data, "x").shape == (60, 90, 3)
    assert decode_image(data, "x", upright=True).shape == (90, 60, 3)


def test_an_orientation_is_read_from_exif_data_of_either_byte_order(image_HW3):
    plain = encode_jpeg(image_HW3, 90)
    assert exif_orientation(plain) == 1
    for orientation in range(1, 9):
        data = with_orientation(plain, orientation)
        assert exif_orientation(data) == orientation
        at = data.index(b"MM\0*")
        little = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0)
        data = data[:at] + little + data[at + len(little) :]
        assert exif_orientation(data) == orientation
        assert decode_image(data, "x", upright=True).shape[0] == (60 if orientation < 5 else 90)
    assert exif_orientation(data[: at + 12]) == exif_orientation(with_orientation(plain, 9)) == 0


@pytest.mark.parametrize("zoom", [0.5, 0.31])
def test_a_shrunk_image_shows_things_where_its_affine_says(zoom):
    y, x = np.mgrid[:120, :170]
    spot = 255 * np.exp(-((x - 61) ** 2 + (y - 83) ** 2) / (2 * 8**2))
    small, affine = shrink(np.repeat(spot[..., None], 3, axis=2).astype(np.uint8), zoom)
    weight = small[..., 0].astype(float)
    sy, sx = np.mgrid[: small.shape[0], : small.shape[1]]
    centre = (weight * sx).sum() / weight.sum(), (weight * sy).sum() / weight.sum()
    np.testing.assert_allclose(centre, transform(affine, np.array([61, 83])), atol=0.05)
    assert max(small.shape) == round(170 * zoom)


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "images/../../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", "a\nb.jpg", "", ".", None, 7],
)
def test_the_name_of_an_image_that_leads_elsewhere_is_refused(name):
    with user_error(r"list.json: name .* is not usable, expected a relative path"):
        relative_name(name, "list.json: name")


def test_the_name_of_an_image_is_tidied():
    assert relative_name("val2017//./1.jpg", "x") == "val2017/1.jpg"


@pytest.mark.parametrize("space", [" ", "\u00a0", "\u202f", "\u3000"])
def test_the_name_of_an_image_may_have_spaces_of_any_width(space):
    assert relative_name(f"a{space}b.jpg", "x") == f"a{space}b.jpg"
    with user_error("is not usable"):
        relative_name(f"a{space}\u2028b.jpg", "x")  # which ends a line
