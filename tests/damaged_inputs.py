"""DamagedFileError inputs.

What is done to good files of every kind that the project reads, and the command that is then given them.

Everything is made from a good workspace (`tests/test_damaged.py` makes one); chance comes from fixed seeds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import scipy.io
import torch
from ruamel.yaml import YAML

GIB = 2**30
Damage = Callable[[Path], Any]  # to a file of its own, which it changes or replaces


@dataclass(frozen=True)
class Case:
    """A command, and one damaged file among those that it reads.

    fate: `refused`, by one line that holds `says`; `said`: done without it, which standard output or the
    report says, holding `says`; `any` of these or nothing at all, as a flipped bit may do no harm. apart:
    folders and files that the command is not to find.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    target: str
    damage: Damage
    fate: str
    says: str
    apart: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}".replace(" ", "-")


# Damage that any file may suffer


def content(data: bytes) -> Damage:
    """Something else in its place."""
    return lambda path: path.write_bytes(data)


def changed(change: Callable[[bytes], bytes]) -> Damage:
    """Its own bytes, changed."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def cut(share: float) -> Damage:
    """Only its first part."""
    return changed(lambda data: data[: int(len(data) * share)])


def flipped(seed: int, bits: int = 6) -> Damage:
    """Some bits are others."""

    def change(data: bytes) -> bytes:
        rng, flipped = random.Random(seed), bytearray(data)
        for _ in range(bits):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)

    return changed(change)


def huge(path: Path) -> None:
    """Goes on for gigabytes of zeros, which take no room on the disk."""
    os.truncate(path, 40 * GIB)


def pipe(path: Path) -> None:
    """A named pipe that nobody writes to: who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


NOISE = random.Random(0).randbytes(5000)
ANYWHERE: dict[str, tuple[Damage, str]] = {
    "empty": (content(b""), "refused"),
    "its first bytes": (changed(lambda data: data[:7]), "refused"),
    "a tenth of it": (cut(0.1), "refused"),
    "half of it": (cut(0.5), "refused"),
    "nearly all of it": (cut(0.97), "refused"),
    "zeros": (changed(lambda data: bytes(len(data))), "refused"),
    "noise": (content(NOISE), "refused"),
    "too large": (huge, "refused"),
    "a folder": (folder, "refused"),
    **{f"bits flipped {seed}": (flipped(seed), "any") for seed in range(3)},
    "many bits flipped": (flipped(9, bits=400), "any"),
}


def anywhere(
    kind: str, words: str, target: str, *, but: dict[str, str] | None = None, only: str = "", **how: Any
) -> Iterator[Case]:
    """The cases of `ANYWHERE`.

    But: the fates of those that have another; only: those whose names begin so.
    """
    for name, (damage, fate) in ANYWHERE.items():
        if name.startswith(only):
            yield case(kind, name, words, target, damage, fate=(but or {}).get(name, fate), **how)


def case(
    kind: str,
    name: str,
    words: str,
    target: str,
    damage: Damage,
    *,
    fate: str = "refused",
    says: str = "",
    **how: Any,
) -> Case:
    """A case whose words are given as one line; it is named by its file if nothing else is said."""
    return Case(
        kind,
        f"{Path(target).name} {name}",
        tuple(words.split()),
        target,
        damage,
        fate,
        says or Path(target).name,
        **how,
    )


# Pictures


def png(width: int, height: int, *, data: bytes = b"", crc: int = 0) -> bytes:
    """A PNG that declares itself so large. crc: added to each checksum."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", (zlib.crc32(kind + content) + crc) % 2**32)
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data or zlib.compress(bytes(3000)))
        + chunk(b"IEND", b"")
    )


def jpeg_sized(width: int, height: int) -> Damage:
    """The size that a JPEG declares."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xc0")
        return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]

    return changed(change)


def bmp(width: int, height: int, compression: int = 0, bits: int = 24) -> bytes:
    """A BMP that declares itself so large."""
    return (
        b"BM"
        + struct.pack(
            "<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0
        )
        + bytes(946)
    )


def tiff(width: int, height: int, compression: int = 1) -> bytes:
    """A TIFF that declares itself so large."""
    values = {
        256: width,
        257: height,
        258: 8,
        259: compression,
        262: 1,
        273: 8,
        277: 1,
        278: height,
        279: 1000,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return (
        b"II*\0" + struct.pack("<I", 1008) + bytes(1000) + struct.pack("<H", len(values)) + entries + bytes(4)
    )


def webp(width: int, height: int) -> bytes:
    """A lossless WebP that declares itself so large."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<IB", 105, 0x2F) + struct.pack("<I", bits) + bytes(101)
    return b"RIFF" + struct.pack("<I", len(body)) + body


LSP_PICTURE, COCO_PICTURE = "data/raw/LSP/images/im0003.jpg", "data/raw/coco/val2017/000000000008.jpg"
PREDICT = "pose predict {} --weights models/hgpose/last.pt --out drawn"
PUBLISHED = "data/raw/lsp_mpii.h5"
ONLY_LSP = (PUBLISHED, "data/raw/LSPET", "data/raw/mpii")
ONLY_MPII = (PUBLISHED, "data/raw/LSP", "data/raw/LSPET")
PEERS = ("data/raw/mpii/mpii_annotations.json", "data/raw/mpii/mpii_annotations.json.gz")
LSP_STAGE, COCO_STAGE = "stages.prepare_lsp_mpii", "stages.prepare_coco"


def pictures() -> Iterator[Case]:
    for target in ("photo.png", "photo.jpg"):
        yield from anywhere("image", PREDICT.format(target), target)
    for target in ("photo.bmp", "photo.tif", "photo.webp"):
        yield from anywhere("image", PREDICT.format(target), target, only="bits flipped 1")
        yield from anywhere("image", PREDICT.format(target), target, only="half")
    # A preparation leaves them out and counts them.
    left_out = dict.fromkeys(ANYWHERE, "said") | {name: "any" for name in ANYWHERE if "flipped" in name}
    for only in ("half", "too large", "bits flipped 2", "noise"):
        yield from anywhere("image", LSP_STAGE, LSP_PICTURE, but=left_out, only=only, apart=ONLY_LSP)
    made = {
        "of 60000 px a side": ("photo.png", content(png(60000, 60000))),
        "of 30000 px a side": ("photo.png", content(png(30000, 30000))),
        "of no size": ("photo.png", content(png(0, 0))),
        "with wrong checksums": ("photo.png", content(png(30, 30, crc=1))),
        "whose data unpack to far more": (
            "photo.png",
            content(png(30000, 30000, data=zlib.compress(bytes(2**26)))),
        ),
        "that is larger than it says": ("photo.jpg", jpeg_sized(65500, 65500)),
        "of 30000 px a side.": ("photo.jpg", jpeg_sized(30000, 30000)),
        "of no height": ("photo.jpg", jpeg_sized(40, 0)),
        "of 30000 px": ("photo.bmp", content(bmp(30000, 30000))),
        "run-length encoded of 30000 px": ("photo.bmp", content(bmp(30000, -30000, compression=1, bits=8))),
        "of a size below 0": ("photo.bmp", content(bmp(-40, -(2**31)))),
        "with 30000 px a side": ("photo.tif", content(tiff(30000, 30000))),
        "packed, of 30000 px a side": ("photo.tif", content(tiff(30000, 30000, compression=32773))),
        "whose directory is its own end": ("photo.tif", content(b"II*\0" + struct.pack("<I", 2**31))),
        "of 16384 px a side": ("photo.webp", content(webp(16384, 16384))),
        "that is a PPM of 30000 px": ("photo.png", content(b"P6 30000 30000 255\n" + bytes(1000))),
        "that is an HDR picture of 30000 px": (
            "photo.jpg",
            content(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n" + bytes(99)),
        ),
        "that is a GIF of 30000 px": (
            "photo.png",
            content(b"GIF89a" + struct.pack("<HHBBB", 30000, 30000, 0, 0, 0) + bytes(99)),
        ),
        "that is a web page": ("photo.jpg", content(b"<html><body>404 not found</body></html>")),
    }
    for name, (target, damage) in made.items():
        yield case("image", name, PREDICT.format(target), target, damage)
    yield case("image", "a pipe", PREDICT.format("photo.png"), "photo.png", pipe)
    yield case(
        "image",
        "of 30000 px a side",
        LSP_STAGE,
        LSP_PICTURE,
        content(png(30000, 30000)),
        fate="said",
        apart=ONLY_LSP,
    )
    yield case(
        "image", "of 30000 px a side", COCO_STAGE, COCO_PICTURE, content(png(30000, 30000)), fate="said"
    )
    yield case("image", "half of it", COCO_STAGE, COCO_PICTURE, cut(0.5), fate="said")
    yield case(
        "image",
        "of another size",
        COCO_STAGE,
        COCO_PICTURE,
        content(cv2.imencode(".jpg", np.zeros((9, 99, 3), np.uint8))[1].tobytes()),
        fate="said",
    )
    yield case("image", "a pipe", COCO_STAGE, COCO_PICTURE, pipe, fate="said", says="image missing 1")
    thin = cv2.imencode(".png", np.zeros((1, 30000, 3), np.uint8))[1].tobytes()
    yield case(
        "image", "of one pixel's height", PREDICT.format("photo.png"), "photo.png", content(thin), fate="any"
    )


# Videos


def replaced(old: bytes, *, after: int, new: bytes) -> Damage:
    """Bytes so far after the first `old` become others."""

    def change(data: bytes) -> bytes:
        at = data.index(old) + after
        return data[:at] + new + data[at + len(new) :]

    return changed(change)


def videos() -> Iterator[Case]:
    # What is cut short may still show its first pictures: an AVI has its index at its end, and a frame is
    # whole or not there.
    cut_short = dict.fromkeys(("half of it", "nearly all of it", "a tenth of it"), "any")
    for target, but in (("clip.mp4", {}), ("clip.avi", cut_short)):
        # A film may be of any length.
        yield from (
            case
            for case in anywhere("video", PREDICT.format(target), target, but=but)
            if "too large" not in case.name
        )
    u16, u32 = struct.Struct(">H"), struct.Struct(">I")
    l32 = struct.Struct("<I")
    avi_frame = "clip.avi"
    made = {
        "of 65535 px a side": ("clip.mp4", replaced(b"mp4v", after=28, new=u16.pack(65535) * 2), "any"),
        "of no size": ("clip.mp4", replaced(b"mp4v", after=28, new=u16.pack(0) * 2), "any"),
        "of 4 thousand million pictures": (
            "clip.mp4",
            replaced(b"stts", after=12, new=u32.pack(2**32 - 1)),
            "any",
        ),
        "whose pictures last no time": ("clip.mp4", replaced(b"stts", after=16, new=u32.pack(0)), "any"),
        "of 4 thousand million sizes": (
            "clip.mp4",
            replaced(b"stsz", after=12, new=u32.pack(2**32 - 1)),
            "any",
        ),
        "of 4 thousand million places": (
            "clip.mp4",
            replaced(b"stco", after=8, new=u32.pack(2**32 - 1)),
            "any",
        ),
        "whose clock stands": ("clip.mp4", replaced(b"mdhd", after=16, new=u32.pack(0)), "any"),
        "whose box ends before it begins": ("clip.mp4", replaced(b"moov", after=-4, new=u32.pack(4)), "any"),
        "that declares 60000 px": (avi_frame, replaced(b"strf", after=12, new=l32.pack(60000) * 2), "any"),
        "whose pictures are of 16000 px": (
            avi_frame,
            changed(lambda data: sized_frames(data, 16000, 16000)),
            "refused",
        ),
        "of no rate": (avi_frame, replaced(b"strh", after=28, new=l32.pack(0) * 2), "any"),
        "of 4 thousand million pictures a second": (
            avi_frame,
            replaced(b"strh", after=28, new=l32.pack(1) + l32.pack(2**32 - 1)),
            "any",
        ),
        "with 4 thousand million pictures": (
            avi_frame,
            replaced(b"avih", after=24, new=l32.pack(2**32 - 1)),
            "any",
        ),
        "that is a playlist": (
            "clip.mp4",
            content(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.avi\n#EXT-X-ENDLIST\n"),
            "refused",
        ),
        "that is a list of files": (
            "clip.mp4",
            content(b"ffconcat version 1.0\nfile other.avi\n"),
            "refused",
        ),
        "that is a picture": ("clip.mp4", content(png(30, 30)), "refused"),
        "that is a web page": ("clip.avi", content(b"<html><body>404 not found</body></html>"), "refused"),
    }
    for name, (target, damage, fate) in made.items():
        yield case("video", name, PREDICT.format(target), target, damage, fate=fate)
    yield case("video", "a pipe", PREDICT.format("clip.mp4"), "clip.mp4", pipe)


def sized_frames(data: bytes, width: int, height: int) -> bytes:
    """A motion JPEG whose pictures, and whose own heads, all declare that size."""
    sized = bytearray(data)
    at = data.find(b"\xff\xc0")
    while at >= 0:
        sized[at + 5 : at + 9] = struct.pack(">HH", height, width)
        at = data.find(b"\xff\xc0", at + 1)
    for mark, after in ((b"strf", 12), (b"avih", 40)):
        at = data.index(mark) + after
        sized[at : at + 8] = struct.pack("<II", width, height)
    return bytes(sized)


# HDF5


def h5(change: Callable[[h5py.File], Any]) -> Damage:
    """An HDF5 file changed as such."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def put(name: str, change: Callable[[np.ndarray], Any], **how: Any) -> Damage:
    """Another dataset in the place of one, its attributes kept."""

    def damage(file: h5py.File) -> None:
        old, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=change(old), **how)
        file[name].attrs.update(attributes)

    return h5(damage)


def declared(name: str, *shape: int, **how: Any) -> Damage:
    """A dataset that declares a shape, and holds nothing of it."""

    def damage(file: h5py.File) -> None:
        attributes, dtype = dict(file[name].attrs), file[name].dtype
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, **how)
        file[name].attrs.update(attributes)

    return h5(damage)


def set_to(name: str, value: Any, *, at: Any = slice(None)) -> Damage:
    """Entries of a dataset."""

    def damage(file: h5py.File) -> None:
        file[name][at] = value

    return h5(damage)


def elsewhere(name: str, link: Any) -> Damage:
    """A link in the place of a dataset."""

    def damage(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return h5(damage)


def raw_outside(file: h5py.File) -> None:
    """A dataset whose numbers are the bytes of another file."""
    shape = file["scale"].shape
    del file["scale"]
    file.create_dataset("scale", shape, "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File) -> None:
    """A dataset put together of another file's."""
    shape = file["scale"].shape
    del file["scale"]
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource("other.h5", "scale", shape)
    file.create_virtual_dataset("scale", layout)


def pictures_of(dtype: Any, value: Any) -> Damage:
    """Packed pictures of another kind."""

    def damage(file: h5py.File) -> None:
        rows = len(file["packed"])
        del file["packed"]
        file.create_dataset("packed", shape=(rows,), dtype=dtype)
        for row in range(rows):
            file["packed"][row] = value

    return h5(damage)


def length_of_pictures(path: Path) -> None:
    """Packed pictures declare themselves gigabytes long, in the table of their lengths."""
    with h5py.File(path) as file:
        lengths = [len(file["packed"][row]) for row in range(3)]
    data = path.read_bytes()
    for length in lengths:
        # A reference: length, place of the heap, number within it.
        at = data.find(struct.pack("<I", length))
        while at >= 0:
            if data[at + 12 : at + 16] != bytes(4) and int.from_bytes(data[at + 4 : at + 12], "little") < len(
                data
            ):
                data = data[:at] + struct.pack("<I", 2**32 - 5) + data[at + 4 :]
            at = data.find(struct.pack("<I", length), at + 4)
    path.write_bytes(data)


H5, COCO_H5 = "data/prepared/lsp_mpii.h5", "data/prepared/coco/coco.h5"
EVALUATE, EVALUATE_MULTI = "stages.evaluate hgpose", "stages.evaluate hgpose-ae"
TRAIN, TRAIN_MULTI = "stages.train hgpose", "stages.train hgpose-ae"


def hdf5s() -> Iterator[Case]:
    zeros = {"nearly all of it": "any", "too large": "any"}  # an HDF5 file may be longer than it needs to be
    yield from anywhere("h5", EVALUATE, H5, but=zeros)
    yield from anywhere("h5", EVALUATE_MULTI, COCO_H5, but=zeros, only="bits")
    yield from anywhere("h5", EVALUATE_MULTI, COCO_H5, but=zeros, only="half")
    yield from anywhere("h5", EVALUATE_MULTI, COCO_H5, but=zeros, only="many")
    outside = h5py.ExternalLink("other.h5", "/scale")
    made: dict[str, tuple[Damage, str]] = {
        "without a dataset": (h5(lambda file: file.__delitem__("scale")), "refused"),
        "with a link to another file": (elsewhere("scale", outside), "refused"),
        "with a link to nowhere": (elsewhere("scale", h5py.SoftLink("/nowhere")), "refused"),
        "with a link to itself": (elsewhere("scale", h5py.SoftLink("/scale")), "refused"),
        "with a group for a dataset": (
            h5(lambda file: (file.__delitem__("scale"), file.create_group("scale"))),
            "refused",
        ),
        "with another file's bytes": (h5(raw_outside), "refused"),
        "with another file's dataset": (h5(virtual), "refused"),
        "of 1e9 people": (declared("imgname", 10**9, 50), "refused"),
        "of 1e9 people in chunks": (
            declared("imgname", 10**9, 50, chunks=(1000, 50), compression="gzip"),
            "refused",
        ),
        "of 1e15 people": (declared("imgname", 10**15, 50, chunks=(1000, 50)), "refused"),
        "of 1e6 people of nothing": (declared("imgname", 1_300_000, 50, chunks=(1000, 50)), "refused"),
        "of one axis too many": (put("part", lambda old: old[None]), "refused"),
        "of 14 joints": (put("part", lambda old: old[:, :14]), "refused"),
        "of other rows": (put("scale", lambda old: old[:-1]), "refused"),
        "of words": (put("scale", lambda old: [str(number) for number in old]), "refused"),
        "of complex numbers": (put("scale", lambda old: old + 1j), "refused"),
        "of references": (
            h5(
                lambda file: (
                    file.__delitem__("scale"),
                    file.create_dataset("scale", data=[file.ref] * 72, dtype=h5py.ref_dtype),
                )
            ),
            "refused",
        ),
        "of structures": (put("scale", lambda old: np.zeros(len(old), [("a", "f8")])), "refused"),
        "with places that are no number": (set_to("center", np.nan), "any"),
        "with scales that are no number": (set_to("scale", np.nan), "refused"),
        "with scales of 0": (set_to("scale", 0), "refused"),
        "with scales of 1e300": (set_to("scale", 1e300), "any"),
        "with scales of 1e-300": (set_to("scale", 1e-300), "any"),
        "with joints at infinity": (set_to("part", np.inf), "refused"),
        "with joints at 1e300": (set_to("part", 1e300), "any"),
        "with affines that are no number": (set_to("packed_affine", np.nan), "refused"),
        "with affines of 0": (set_to("packed_affine", 0), "refused"),
        "with affines of 1e300": (set_to("packed_affine", 1e300), "any"),
        "with codes that are none": (set_to("split", 200), "refused"),
        "with codes of other names": (
            h5(lambda file: file["split"].attrs.__setitem__("names", np.array(["a", "b"], dtype="S"))),
            "refused",
        ),
        "with a number for the names": (
            h5(lambda file: file["split"].attrs.__setitem__("names", 7)),
            "refused",
        ),
        "with nothing for the names": (
            h5(lambda file: file["split"].attrs.__setitem__("names", h5py.Empty("f8"))),
            "refused",
        ),
        "with references for the names": (
            h5(lambda file: file["split"].attrs.create("names", [file.ref] * 4, dtype=h5py.ref_dtype)),
            "refused",
        ),
        "with bytes that are no text for the names": (
            h5(lambda file: file["split"].attrs.__setitem__("names", np.array([b"\xff"] * 4))),
            "refused",
        ),
        "with numbers for the pictures": (pictures_of("f8", 1.0), "refused"),
        "with words for the pictures": (pictures_of(h5py.string_dtype(), "a"), "refused"),
        "with nothing for the pictures": (
            pictures_of(h5py.vlen_dtype(np.uint8), np.empty(0, np.uint8)),
            "refused",
        ),
        "with pictures of 30000 px": (
            pictures_of(h5py.vlen_dtype(np.uint8), np.frombuffer(png(30000, 30000), np.uint8)),
            "refused",
        ),
        "with pictures of gigabytes": (length_of_pictures, "refused"),
        "with people counted below 0": (set_to("person", -5), "any"),
        "with image sizes below 0": (set_to("image_size", -5), "any"),
    }
    for name, (damage, fate) in made.items():
        yield case("h5", name, EVALUATE, H5, damage, fate=fate)
    crowds: dict[str, tuple[Damage, str]] = {
        "with people counted below 0": (set_to("people", -1, at=0), "refused"),
        "with more people than can be": (set_to("people", 2**62), "refused"),
        "with people moved below 0": (h5(move_below_zero("people")), "refused"),
        "with runs counted below 0": (h5(move_below_zero("runs")), "refused"),
        "with runs of an image of 1e5 px": (h5(large_mask), "refused"),
        "with image sizes of 2e9": (set_to("image_size", 2 * 10**9), "refused"),
        "with image sizes of 0": (set_to("image_size", 0), "refused"),
        "of 1e9 images": (declared("id", 10**9), "refused"),
        "with ids that are no number": (put("id", lambda old: old * np.nan), "refused"),
        "with numbers for names": (put("name", lambda old: np.arange(len(old))), "refused"),
        "with affines that are no number": (set_to("packed_affine", np.nan), "refused"),
        "with a link to another file": (elsewhere("keypoint", outside), "refused"),
        "with joints at 1e300": (set_to("keypoint", 1e300), "any"),
        "with joints that are no number": (set_to("keypoint", np.nan), "any"),
    }
    for name, (damage, fate) in crowds.items():
        yield case("h5", name, EVALUATE_MULTI, COCO_H5, damage, fate=fate)
    damage, fate = made["with joints at 1e300"]
    yield case("h5", "with joints at 1e300, trained on", TRAIN, H5, damage, fate=fate)
    damage, fate = crowds["with joints that are no number"]
    yield case("h5", "with joints that are no number, trained on", TRAIN_MULTI, COCO_H5, damage, fate=fate)
    names = np.array([ord(letter) for letter in "LSP/../../../../../../etc/passwd"] + [0] * 18, dtype=float)
    raw: dict[str, tuple[Damage, str]] = {
        "with a path out of the data": (set_to("imgname", names), "refused"),
        "with an absolute path": (
            set_to("imgname", [ord(letter) for letter in "/etc/passwd".ljust(50, "\0")]),
            "refused",
        ),
        "with names of no letters": (set_to("imgname", -7), "refused"),
        "with names of 1e300": (set_to("imgname", 1e300), "refused"),
        "with kinds of people that are no number": (put("istrain", lambda old: old * np.nan), "refused"),
        "with scales of 1e300": (set_to("scale", 1e300, at=slice(9)), "any"),
        "with places of 1e300": (set_to("center", 1e300, at=slice(9)), "any"),
    }
    for name, (damage, fate) in raw.items():
        yield case("h5", f"as published {name}", LSP_STAGE, PUBLISHED, damage, fate=fate)


def move_below_zero(name: str) -> Callable[[h5py.File], None]:
    """Counts of the same sum, one of them below 0."""

    def damage(file: h5py.File) -> None:
        counts = file[name][()]
        file[name][:] = np.array([-1, counts.sum() + 1] + [0] * (len(counts) - 2))

    return damage


def large_mask(file: h5py.File) -> None:
    """Two runs that are a mask of 1e10 pixels."""
    images, runs = len(file["id"]), 2
    for name in ("run", "runs"):
        del file[name]
    file["run"] = np.array(
        [5 * 10**9 - 2**32 + 2**31] * 0 + [2**32 - 1, 10**10 - 2 * (2**32 - 1), 2**32 - 1] * images,
        dtype=np.uint32,
    )
    file["runs"] = np.full(images, runs + 1)
    file["image_size"][:] = 10**5


# MATLAB files


def mat(**variables: Any) -> Damage:
    """A MATLAB file of these variables."""
    return lambda path: scipy.io.savemat(path, variables, do_compression=True)


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, dims: tuple[int, ...], data: bytes = b"", name: bytes = b"joints") -> bytes:
    """An array of a MATLAB file by its parts: `kind` 4 is text, 6 double, 2 structures, 1 cells, 5 sparse."""
    parts = (
        element(6, struct.pack("<II", kind, 0))
        + element(5, struct.pack(f"<{len(dims)}i", *dims))
        + element(1, name)
        + data
    )
    return element(14, parts)


def bomb(size: int, first: bytes) -> bytes:
    """That much, packed: `first` and then zeros."""
    packer = zlib.compressobj()
    head = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # after which the packer knows nothing of what was before
    packed = head + block * (size // 2**20)
    return struct.pack("<II", 15, len(packed)) + packed


def numbers_bomb(path: Path) -> None:
    """Four thousand million zeros, in a file of four million bytes."""
    size = 2**32 - 2**21
    people = size // 42
    head = (
        element(6, struct.pack("<II", 9, 0))
        + element(5, struct.pack("<3i", 3, 14, people))
        + element(1, b"joints")
    )
    first = struct.pack("<II", 14, len(head) + 8 + size) + head + struct.pack("<II", 2, size)
    path.write_bytes(HEAD + bomb(2**32, first))


def release(**fields: Any) -> Damage:
    return mat(RELEASE=fields)


def annolist(name: str = "000000001.jpg", **changes: Any) -> dict[str, Any]:
    """One image of one person, as MPII's file has it."""
    points = np.array(
        [(float(10 + i), float(10 + i), i) for i in range(16)], dtype=[("x", "O"), ("y", "O"), ("id", "O")]
    )
    person = {
        "x1": 1.0,
        "y1": 1.0,
        "x2": 9.0,
        "y2": 9.0,
        "scale": 0.5,
        "objpos": {"x": 40.0, "y": 40.0},
        "annopoints": {"point": points},
    }
    return {"image": {"name": name}, "annorect": person | changes}


def mats() -> Iterator[Case]:
    lsp, lspet, mpii = (
        "data/raw/LSP/joints.mat",
        "data/raw/LSPET/joints.mat",
        "data/raw/mpii/mpii_human_pose_v1_u12_1.mat",
    )
    yield from anywhere("mat", LSP_STAGE, lsp, apart=ONLY_LSP)
    yield from anywhere("mat", LSP_STAGE, mpii, apart=(*ONLY_MPII, *PEERS), only="bits")
    yield from anywhere("mat", LSP_STAGE, mpii, apart=(*ONLY_MPII, *PEERS), only="half")
    joints = np.ones((3, 14, 16))
    made: dict[str, Damage] = {
        "without joints": mat(other=joints),
        "with joints of words": mat(joints=np.array(["a", "b"])),
        "with joints of structures": mat(joints={"a": 1}),
        "with joints of cells": mat(joints=np.array([1, "a"], dtype=object)),
        "with sparse joints": mat(joints=scipy.sparse.csc_matrix(np.eye(14))),
        "with complex joints": mat(joints=joints + 1j),
        "of nobody": mat(joints=np.ones((3, 14, 0))),
        "of the other set's axes": mat(joints=joints.transpose(1, 0, 2)),
        "of four axes": mat(joints=joints[..., None].repeat(2, axis=3)),
        "of one number": mat(joints=3.0),
        "of 1e9 people": content(HEAD + matrix(6, (3, 14, 10**9), element(9, bytes(64)))),
        "of fewer people than none": content(HEAD + matrix(6, (3, 14, -5), element(9, bytes(64)))),
        "of 4 thousand million zeros": numbers_bomb,
        "of two thousand million blanks": content(HEAD + matrix(4, (1, 2**31 - 1), element(16, b""))),
        "of a text of two thousand million, packed": content(
            HEAD
            + struct.pack("<II", 15, len(zlib.compress(matrix(4, (2**15, 2**16 - 1), element(16, b"")))))
            + zlib.compress(matrix(4, (2**15, 2**16 - 1), element(16, b"")))
        ),
        "of 1e18 structures": content(
            HEAD
            + matrix(2, (2**30, 2**30), element(5, struct.pack("<i", 8)) + element(1, b"a".ljust(8, b"\0")))
        ),
        "of 1e9 cells": content(HEAD + matrix(1, (10**5, 10**4))),
        "nested a thousand deep": content(HEAD + nested(3000)),
        "of version 7.3": lambda path: h5py.File(path, "w").close(),
        "of version 4, of 1e9 numbers": content(
            struct.pack("<IIIII", 0, 10**5, 10**4, 0, 7) + b"joints\0" + bytes(99)
        ),
    }
    for name, damage in made.items():
        yield case("mat", name, LSP_STAGE, lsp, damage, apart=ONLY_LSP)
    for name, value in {"no number": np.nan, "infinity": np.inf, "1e300": 1e300, "-1e300": -1e300}.items():
        yield case(
            "mat",
            f"with joints at {name}",
            LSP_STAGE,
            lsp,
            mat(joints=joints * value),
            fate="any",
            says="LSP",
            apart=ONLY_LSP,
        )
    yield case(
        "mat",
        "half of the other",
        LSP_STAGE,
        lspet,
        cut(0.5),
        apart=(PUBLISHED, "data/raw/LSP", "data/raw/mpii"),
    )
    people: dict[str, tuple[Damage, str]] = {
        "without RELEASE": (mat(joints=joints), "refused"),
        "with a number for RELEASE": (mat(RELEASE=7.0), "refused"),
        "without img_train": (release(annolist=annolist()), "refused"),
        "with a number for annolist": (release(annolist=1.0, img_train=1.0), "refused"),
        "of other lengths": (release(annolist=annolist(), img_train=np.ones(5)), "refused"),
        "with words for img_train": (release(annolist=annolist(), img_train="a"), "refused"),
        "with a path out of the data": (
            release(annolist=annolist("../../../../etc/passwd"), img_train=1.0),
            "refused",
        ),
        "with an absolute path": (
            release(annolist=annolist("/etc/passwd"), img_train=1.0),
            "any",
        ),  # becomes one within the folder
        "with a number for a name": (
            release(annolist=annolist() | {"image": {"name": 7.0}}, img_train=1.0),
            "refused",
        ),
        "with a name of 100000 letters": (
            release(annolist=annolist("a" * 10**5 + ".jpg"), img_train=1.0),
            "refused",
        ),
        "with joints of number 99": (
            release(annolist=annolist(annopoints={"point": {"x": 1.0, "y": 1.0, "id": 99.0}}), img_train=1.0),
            "refused",
        ),
        "with a joint of number 1e300": (
            release(
                annolist=annolist(annopoints={"point": {"x": 1.0, "y": 1.0, "id": 1e300}}), img_train=1.0
            ),
            "refused",
        ),
        "with a place of words": (release(annolist=annolist(objpos="here"), img_train=1.0), "any"),
        "with a scale of 1e300": (release(annolist=annolist(scale=1e300), img_train=1.0), "any"),
        "with a scale below 0": (release(annolist=annolist(scale=-1.0), img_train=1.0), "any"),
    }
    for name, (damage, fate) in people.items():
        says = "mpii_human_pose" if fate == "refused" else "mpii"
        yield case("mat", name, LSP_STAGE, mpii, damage, fate=fate, says=says, apart=(*ONLY_MPII, *PEERS))


def nested(depth: int) -> bytes:
    """A cell in a cell in a cell ..."""
    inner = b""
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner, b"joints")
    return inner


# COCO's annotations, and MPII's as peers write them


def edited(change: Callable[[Any], Any]) -> Damage:
    """JSON changed in place, or, where `change` gives one, another value."""

    def damage(path: Path) -> None:
        values = json.loads(path.read_text())
        path.write_text(json.dumps(change(values) or values))

    return damage


def entry(table: str, **values: Any) -> Damage:
    """Values of the first entry of `images`, `annotations` or `categories`; a value of ...

    Takes the key away.
    """

    def change(content: Any) -> None:
        for key, value in values.items():
            content[table][0][key] = value
            if value is ...:
                del content[table][0][key]

    return edited(change)


def gzipped(size: int) -> bytes:
    """Blanks, packed."""
    return gzip.compress(b" " * 2**24, mtime=0) * (
        size // 2**24
    )  # the members of a gzip file follow each other


def jsons() -> Iterator[Case]:
    target = "data/raw/coco/annotations/person_keypoints_val2017.json"
    yield from (case for case in anywhere("json", COCO_STAGE, target) if "a folder" not in case.name)
    yield case("json", "a folder", COCO_STAGE, target, folder, says="expected a train and a val file")
    person = list(range(51))
    made: dict[str, Damage] = {
        "a list": edited(lambda content: [1]),
        "a number": content(b"7"),
        "nested 100000 deep": content(b"[" * 100_000),
        "of a number of 100000 digits": content(b'{"images": ' + b"9" * 100_000 + b"}"),
        "without images": edited(lambda content: content.pop("images") and None),
        "with a number for images": edited(lambda content: content.update(images=7)),
        "with numbers for images": edited(lambda content: content.update(images=[1, 2])),
        "with a path out of the data": entry("images", file_name="../../../../../../etc/passwd"),
        "with an absolute path": entry("images", file_name="/etc/passwd"),
        "with a Windows path out of the data": entry("images", file_name="..\\..\\secret.jpg"),
        "with a name that breaks the line": entry("images", file_name="a\nerror: b.jpg"),
        "with half a letter in a name": entry("images", file_name="\ud800.jpg"),
        "with a name of 100000 letters": entry("images", file_name="a" * 100_000),
        "with no name": entry("images", file_name=...),
        "with a null name": entry("images", file_name="a\0b.jpg"),
        "with an id of 1e30": entry("images", id=10**30),
        "with an id that is text": entry("images", id="1"),
        "with an id that is a list": entry("images", id=[1]),
        "with a width of no number": entry("images", width=float("nan")),
        "with a width of -5": entry("images", width=-5),
        "with people of no image": entry("annotations", image_id=10**15),
        "with an annotation of id 1e30": entry("annotations", id=10**30),
        "without keypoints": entry("annotations", keypoints=...),
        "with 16 keypoints": entry("annotations", keypoints=person[:48]),
        "with keypoints of words": entry("annotations", keypoints=["a"] * 51),
        "with keypoints of no number": entry("annotations", keypoints=[float("nan")] * 51),
        "with keypoints of 1e300": entry("annotations", keypoints=[1e300, 1e300, 2] * 17),
        "with flags of 7": entry("annotations", keypoints=[1, 1, 7] * 17),
        "with an area of infinity": entry("annotations", area=float("inf")),
        "with a box of three": entry("annotations", bbox=[1, 2, 3]),
        "with a crowd of 5": entry("annotations", iscrowd=5),
        "with an RLE of another size": entry("annotations", segmentation={"size": [1, 1], "counts": [1]}),
        "with an RLE of words": entry(
            "annotations", iscrowd=1, segmentation={"size": [1, 1], "counts": "###"}
        ),
        "with a polygon far out": entry("annotations", segmentation=[[1e9, 1e9, -1e9, 1e9, 0, 0]]),
        "with a polygon of words": entry("annotations", segmentation=[["a"] * 6]),
        "with other joints": edited(lambda content: content["categories"][0].update(keypoints=["a"])),
        "without people": edited(lambda content: content["categories"][0].update(name="dog")),
        "with a category of no id": entry("categories", id=...),
        "with an unhashable category": entry("annotations", category_id=[1]),
        "with lines in its keys": edited(lambda content: {"a\nb" * 9: 1}),
        "with two images of one id": edited(lambda content: content["images"].append(content["images"][0])),
    }
    for name, damage in made.items():
        yield case("json", name, COCO_STAGE, target, damage)
    for name, damage in {
        "with info nested deep": changed(
            lambda data: data.replace(b'"info": {', b'"info": {"deep": ' + b"[" * 960 + b"]" * 960 + b",", 1)
        ),
        "with images of 1e9 px": edited(
            lambda content: [image.update(width=10**9, height=10**9) for image in content["images"]] and None
        ),
        "with a crowd of 1e18 px": edited(large_crowd),
    }.items():
        yield case("json", name, COCO_STAGE, target, damage, fate="any", says="coco")
    (peers, packed), apart = PEERS, (*ONLY_MPII, "data/raw/mpii/mpii_human_pose_v1_u12_1.mat")
    yield from anywhere("json", LSP_STAGE, peers, apart=apart, only="bits")

    def first(**values: Any) -> Damage:
        return edited(lambda people: people[0].update(values))

    for name, damage in {
        "with a path out of the data": first(img_paths="../../../etc/passwd"),
        "with a number for a name": first(img_paths=5),
        "with joints of words": first(joint_self="here"),
        "with ragged joints": first(joint_self=[[1, 2, 3], [1]]),
        "with a place of nothing": first(objpos=[]),
        "with a person of number infinity": first(people_index=float("inf")),
        "with a person of number 1e300": first(people_index=1e300),
        "with a person of number 1e30": first(people_index=10**30),
        "with words for a person": edited(lambda people: people.__setitem__(0, "a")),
        "with numbers among people": edited(lambda people: people.append(5)),
        "with a scale of 400 digits": first(scale_provided=10**400),
    }.items():
        yield case("json", name, LSP_STAGE, peers, damage, apart=apart)
    apart += (peers,)
    yield case(
        "json", "of 4 thousand million blanks", LSP_STAGE, packed, content(gzipped(2**32)), apart=apart
    )
    yield case("json", "half of it", LSP_STAGE, packed, cut(0.5), apart=apart)
    yield case("json", "bits flipped", LSP_STAGE, packed, flipped(3), apart=apart)
    truth = "data/prepared/coco/annotations/validation.json"
    yield from anywhere("json", EVALUATE_MULTI, truth, only="half")
    yield from anywhere("json", EVALUATE_MULTI, truth, only="bits")
    yield case("json", "a list", EVALUATE_MULTI, truth, edited(lambda content: [1]))
    yield case(
        "json",
        "of other images",
        EVALUATE_MULTI,
        truth,
        edited(lambda content: content.update(images=[], annotations=[])),
        fate="any",
    )
    yield case("json", "without keypoints", EVALUATE_MULTI, truth, entry("annotations", keypoints=...))
    yield case("json", "nested 100000 deep", EVALUATE_MULTI, truth, content(b"[" * 100_000))
    yield case(
        "json", "with keypoints of words", EVALUATE_MULTI, truth, entry("annotations", keypoints=["a"] * 51)
    )


def large_crowd(content: Any) -> None:
    """An image of 1e18 pixels, and a crowd that covers it."""
    content["images"][0].update(width=10**9, height=10**9)
    number = content["images"][0]["id"]
    crowd = {
        "image_id": number,
        "iscrowd": 1,
        "segmentation": {"size": [10**9, 10**9], "counts": [0, 10**18]},
    }
    content["annotations"].append(content["annotations"][0] | crowd | {"id": 987654321, "num_keypoints": 0})


# The list of COCO's validation images


def valid_ids() -> Iterator[Case]:
    target = "data/raw/coco/valid_id"
    # A shorter list is a list.
    shorter = dict.fromkeys(
        ("empty", "its first bytes", "a tenth of it", "half of it", "nearly all of it"), "any"
    )
    yield from anywhere("valid_id", COCO_STAGE, target, but=shorter, says="coco")
    made: dict[str, tuple[bytes, str]] = {
        "of words": (b"cat\ndog\n", "refused"),
        "of numbers with a point": (b"1.5\n", "refused"),
        "of numbers below 0": (b"-1\n", "refused"),
        "of a number of 100000 digits": (b"9" * 100_000, "refused"),
        "of a number of 30 digits": (b"9" * 30, "refused"),
        "of paths": (b"../../etc/passwd\n", "refused"),
        "of two columns": (b"1 2\n3 4\n", "refused"),
        "with commas": (b"1,2,3\n", "refused"),
        "in UTF-16": ("1\n2\n".encode("utf-16"), "refused"),
        "in Arabic digits": ("١\n٢\n".encode(), "refused"),
        "that is JSON": (b"[1, 2, 3]", "refused"),
        "that is one line of a million letters": (b"a" * 10**6, "refused"),
        "with a byte-order mark": (b"\xef\xbb\xbf1\n2\n", "any"),
        "with a null byte": (b"1\n\x002\n", "refused"),
        "with colours of a terminal": (b"\x1b[31m1\n", "refused"),
        "of ids that are nowhere": (
            b"\n".join(b"%d" % number for number in range(10**6, 10**6 + 500)),
            "any",
        ),
        "of one id many times": (b"2\n" * 100_000, "any"),
    }
    for name, (data, fate) in made.items():
        yield case("valid_id", name, COCO_STAGE, target, content(data), fate=fate)
    yield case("valid_id", "a pipe", COCO_STAGE, target, pipe)
    yield case(
        "valid_id",
        "without end",
        COCO_STAGE,
        target,
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    )


# Checkpoints: weights for use, published ones, the state from which training goes on


def torched(change: Callable[[Any], Any]) -> Damage:
    """What torch saved, changed in place, or, where `change` gives one, another object."""

    def damage(path: Path) -> None:
        values = torch.load(path, weights_only=True)
        torch.save(change(values) or values, path)

    return damage


def tensors(change: Callable[[dict[str, torch.Tensor]], Any], key: str = "tensors") -> Damage:
    """The state dict in a checkpoint, changed in place."""
    return torched(lambda values: change(values[key]) and None)


def packed_zip(path: Path) -> None:
    """A zip archive of its parts, all packed, and one of them a thousand million zeros."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
                for _ in range(2**10 if name.endswith("/data/0") else 0):
                    file.write(bytes(2**20))


def reducing(name: str, *arguments: Any) -> bytes:
    """A pickle that calls something as it is read."""

    class Call:
        def __reduce__(self) -> Any:
            module, _, attribute = name.rpartition(".")
            return getattr(__import__(module), attribute), arguments

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Call(), protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def spread_out(*shape: int) -> torch.Tensor:
    """A tensor that declares a shape, and holds one number."""
    return torch.ones(1).expand(*shape)


def first_tensor(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    """Another tensor in the place of the first."""

    def change(values: dict[str, torch.Tensor]) -> None:
        name = next(iter(values))
        values[name] = make(values[name])

    return change


def all_tensors(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda values: values.update({name: make(value) for name, value in values.items()})


def checkpoints() -> Iterator[Case]:
    weights, foreign, state = "models/hgpose/last.pt", "foreign.pth.tar", "checkpoints/hgpose/latest.pt"
    predict, importing = (
        PREDICT.format("photo.png"),
        "pose import-weights foreign.pth.tar --out imported/weights.pt",
    )
    yield from anywhere("checkpoint", predict, weights)
    yield from anywhere("checkpoint", importing, foreign)
    afresh = dict.fromkeys(ANYWHERE, "said") | {name: "any" for name in ANYWHERE if "flipped" in name}
    for only in ("half", "bits flipped 1"):
        yield from anywhere("checkpoint", TRAIN, state, but=afresh, only=only)
    made: dict[str, Damage] = {
        "a list": torched(lambda values: [1]),
        "of another format": torched(lambda values: values.update(format="pose-weights-99")),
        "without tensors": torched(lambda values: values.pop("tensors") and None),
        "with a number for tensors": torched(lambda values: values.update(tensors=7)),
        "with a number for a tensor": tensors(first_tensor(lambda tensor: 7)),  # type: ignore[arg-type,return-value]
        "with a tensor of another shape": tensors(first_tensor(lambda tensor: tensor[..., :1])),
        "with a tensor too few": tensors(lambda values: values.popitem()),
        "with a tensor too many": tensors(lambda values: values.update(more=torch.ones(1))),
        "with numbers for names": tensors(lambda values: values.update({7: torch.ones(1)})),  # type: ignore[dict-item]
        "with a tensor of 1e9 numbers": tensors(first_tensor(lambda _: spread_out(10**9))),
        "with sparse tensors": tensors(first_tensor(lambda tensor: tensor.to_sparse())),
        "with tensors of no memory": tensors(first_tensor(lambda tensor: tensor.to("meta"))),
        "with complex tensors": tensors(all_tensors(lambda tensor: tensor.to(torch.complex64))),
        "with a network of 1e9 stacks": torched(lambda values: values["network"].update(stacks=10**9)),
        "with a network of 1e9 features": torched(
            lambda values: values["network"].update(features=4 * 10**8)
        ),
        "with a network of another kind": torched(
            lambda values: values["network"].update(kind="transformer")
        ),
        "with an input of 1e9 px": torched(lambda values: values["params"].update(input=64 * 10**7)),
        "with words for the input": torched(lambda values: values["params"].update(input="large")),
        "with a mean of no number": torched(lambda values: values.update(mean=[float("nan")] * 3)),
        "with an unknown problem": torched(lambda values: values.update(problem="triple")),
        "packed, of a thousand million zeros": packed_zip,
        "that runs a command": content(reducing("os.system", "touch owned")),
        "that asks for 100 thousand million bytes": content(reducing("builtins.bytearray", 10**11)),
        "that is a published checkpoint": torched(lambda values: {"state_dict": dict(values["tensors"])}),
    }
    for name, damage in made.items():
        yield case("checkpoint", name, predict, weights, damage)
    nan = tensors(all_tensors(lambda tensor: tensor * float("nan") if tensor.is_floating_point() else tensor))
    yield case("checkpoint", "with weights of no number", predict, weights, nan)
    yield case(
        "checkpoint",
        "with weights of 1e38",
        predict,
        weights,
        tensors(all_tensors(lambda tensor: tensor + 3e38 if tensor.is_floating_point() else tensor)),
        fate="any",
    )

    published: dict[str, Damage] = {
        "a list": torched(lambda values: [1]),
        "of nothing": torched(lambda values: OrderedDict(other=1)),
        "with a tensor too few": tensors(lambda values: values.popitem(), "state_dict"),
        "with a tensor too many": tensors(
            lambda values: values.update({"module.more": torch.ones(1)}), "state_dict"
        ),
        "with a tensor of no axes": tensors(
            all_tensors(lambda tensor: tensor.flatten()[:1].squeeze()), "state_dict"
        ),
        "with tensors of 1e10 numbers": tensors(lambda values: wide(values, 10**5), "state_dict"),
        "with sparse tensors": tensors(all_tensors(lambda tensor: tensor.to_sparse()), "state_dict"),
        "with tensors of no memory": tensors(all_tensors(lambda tensor: tensor.to("meta")), "state_dict"),
        "with complex tensors": tensors(all_tensors(lambda tensor: tensor.to(torch.complex64)), "state_dict"),
        "of 10000 stacks": tensors(many_stacks, "state_dict"),
        "that is our own": torched(lambda values: {"format": "pose-weights-3"}),
        "packed, of a thousand million zeros": packed_zip,
        "that runs a command": content(reducing("os.system", "touch owned")),
    }
    for name, damage in published.items():
        yield case("checkpoint", name, importing, foreign, damage)
    old = "in the old format"
    yield case(
        "checkpoint", f"{old}, cut short", importing, foreign, lambda path: (legacy(path), cut(0.6)(path))
    )
    yield case(
        "checkpoint",
        f"{old}, flipped",
        importing,
        foreign,
        lambda path: (legacy(path), flipped(1, 40)(path)),
        fate="any",
    )

    states: dict[str, Damage] = {
        "of another format": torched(lambda values: values.update(format="pose-state-99")),
        "of another seed": torched(lambda values: values["fingerprint"].update(seed=99)),
        "without progress": torched(lambda values: values.pop("progress") and None),
        "with a list for the network": torched(lambda values: values.update(net=[])),
        "with a tensor of another shape": tensors(first_tensor(lambda tensor: tensor[..., :1]), "net"),
        "with words for the optimizer": torched(lambda values: values.update(optimizer="sgd")),
        "with an optimizer of nothing": torched(
            lambda values: values.update(optimizer={"state": {}, "param_groups": []})
        ),
        "with a step of -5": torched(lambda values: values["progress"].update(step=-5)),
        "with a step of words": torched(lambda values: values["progress"].update(step="a")),
        "with progress of another kind": torched(lambda values: values["progress"].update(more=1)),
        "with a number for the fingerprint": torched(lambda values: values.update(fingerprint=7)),
    }
    for name, damage in states.items():
        yield case("checkpoint", name, TRAIN, state, damage, fate="any")


def wide(values: dict[str, torch.Tensor], channels: int) -> None:
    """Every tensor declares more channels, and holds one number."""
    for name, value in values.items():
        if value.ndim:
            values[name] = spread_out(*(channels if length == 16 else length for length in value.shape))


def many_stacks(values: dict[str, torch.Tensor]) -> None:
    """The names of the tensors of a very deep network, which all are one."""
    one = torch.ones(1)
    values.update({f"module.score.{number}.weight": one.expand(16, 16, 1, 1) for number in range(10_000)})


def legacy(path: Path) -> None:
    """As torch before 1.6 wrote."""
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)


# Parameters


def key(name: str, value: Any) -> Damage:
    """A value in params.yaml; ... takes the key away."""

    def damage(path: Path) -> None:
        yaml = YAML(typ="safe")
        values = inner = yaml.load(path.read_text())
        *above, last = name.split(".")
        for part in above:
            inner = inner[part]
        inner[last] = value
        if value is ...:
            del inner[last]
        with path.open("w") as file:
            yaml.dump(values, file)

    return damage


def laughs(depth: int) -> bytes:
    """Ten of ten of ten ... of a word, by YAML's aliases."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines).encode()


def parameters() -> Iterator[Case]:
    target = "params.yaml"
    yield from anywhere("params", COCO_STAGE, target)
    made: dict[str, Damage] = {
        "of aliases of aliases": changed(lambda data: data + b"\n" + laughs(12)),
        "with a root of aliases of aliases": changed(
            lambda data: laughs(12) + b"\n" + data.replace(b"seed: 1", b"seed: *a11")
        ),
        "nested 100000 deep": content(b"[" * 100_000),
        "nested 100000 deep by mappings": content(b"{a: " * 100_000),
        "that is its own child": content(b"&a [*a]"),
        "with a key that is a list": content(b"? [1, 2]\n: 3\n"),
        "with two keys alike": changed(lambda data: data + b"\nseed: 2\n"),
        "with a tag of Python's": changed(
            lambda data: data.replace(b"seed: 1", b"seed: !!python/object/apply:os.system ['touch owned']")
        ),
        "with a seed of 100000 digits": changed(
            lambda data: data.replace(b"seed: 1", b"seed: " + b"9" * 100_000)
        ),
        "with a tab": changed(lambda data: data.replace(b"seed: 1", b"seed:\n\t- 1")),
        "with a null byte": changed(lambda data: data.replace(b"seed: 1", b"seed: \x00")),
        "in Latin-1": changed(lambda data: data.replace(b"seed: 1", b"seed: \xe9")),
        "a list": content(b"- 1\n- 2\n"),
        "a word": content(b"hello"),
        "of two documents": changed(lambda data: data + b"\n---\na: 1\n"),
    }
    for name, damage in made.items():
        yield case("params", name, COCO_STAGE, target, damage)
    values: dict[str, tuple[str, Any]] = {
        "seed": (COCO_STAGE, ...),
        "lr": (TRAIN, float("nan")),
        "lr ": (TRAIN, -1.0),
        "lr  ": (TRAIN, "fast"),
        "seed ": (TRAIN, 10**30),
        "seed  ": (TRAIN, True),
        "train": (TRAIN, [1]),
        "tasks": (TRAIN, {}),
        "single.input": (TRAIN, 64 * 10**7),
        "single.sigma": (TRAIN, 0.0),
        "single.input ": (TRAIN, 100),
        "tasks.hgpose.batch": (TRAIN, 10**9),
        "tasks.hgpose.network.features": (TRAIN, 4 * 10**8),
        "tasks.hgpose.network.stacks": (TRAIN, 10**8),
        "tasks.hgpose.network.stem": (TRAIN, [10**8, 10**8, 10**8]),
        "tasks.hgpose.network.kind": (TRAIN, "transformer"),
        "tasks.hgpose.epochs": (TRAIN, 0),
        "tasks.hgpose.like": (TRAIN, "hgpose"),
        "train.workers": (TRAIN, 10**6),
        "train.threads": (TRAIN, 10**6),
        "train.processes": (TRAIN, 10**6),
        "train.more": (TRAIN, 1),
        "evaluate.scales": (EVALUATE_MULTI, [1.0, 10**6]),
        "prepare.pack_size": (LSP_STAGE, 0),
        "prepare.coco.longest": (COCO_STAGE, -1),
        "report.people": ("stages.report", 0),
        "synthetic.size": ("stages.synthesize", 10**9),
        "data.root": (COCO_STAGE, "nowhere"),
        "data.root ": (COCO_STAGE, ""),
        "data.root  ": (COCO_STAGE, "a\0b"),
    }
    for name, (words, value) in values.items():
        says = name.strip().rpartition(".")[2] if name.strip() != "data.root" else "coco"
        yield case("params", f"{name} {str(value)[:20]}", words, target, key(name.strip(), value), says=says)


# History, figures and what else the report reads


ALONE = ("metrics/hgpose-ae.json",)  # without which the report is on the other task alone


def histories() -> Iterator[Case]:
    report, train, valid = "stages.report", "metrics/plots/hgpose/train.csv", "metrics/plots/hgpose/val.csv"
    # What the report cannot use, the page names; a shorter table is a table.
    named = dict.fromkeys(ANYWHERE, "said") | {
        name: "any" for name in ANYWHERE if "flipped" in name or name in ("half of it", "nearly all of it")
    }
    yield from anywhere("history", report, train, but=named, apart=ALONE)
    for only in ("half", "bits flipped 1", "a folder", "empty"):
        yield from anywhere("history", report, valid, but=named, only=only, apart=ALONE)
    rows = b"step,lr,heatmap,loss\n"
    made: dict[str, tuple[str, Damage, str]] = {
        "without steps": (train, content(b"a,b\n1,2\n"), "said"),
        "without rows": (train, content(rows), "said"),
        "of words": (train, content(rows + b"a,b,c,d\n"), "said"),
        "of ragged rows": (train, content(rows + b"1,2\n1,2,3,4,5,6\n"), "said"),
        "of an open quotation": (train, content(rows + b'1,"2,3,4\n' * 3), "said"),
        "of no numbers": (train, content(rows + b"1,nan,nan,nan\n2,nan,nan,nan\n"), "any"),
        "of infinities": (train, content(rows + b"1,inf,inf,-inf\n2,inf,inf,inf\n"), "any"),
        "of numbers of 1e308": (
            train,
            content(rows + b"1,1e308,1e308,1e308\n1e308,1e308,-1e308,1e308\n"),
            "any",
        ),
        "of steps below 0": (train, content(rows + b"-5,1,1,1\n-4,1,1,1\n"), "any"),
        "of losses below 0": (train, content(rows + b"1,1,-1,-1\n2,1,0,0\n"), "any"),
        "of the smallest numbers": (train, content(rows + b"1,1,5e-324,5e-324\n2,1,1e300,1e300\n"), "any"),
        "of one row": (train, content(rows + b"1,1,1,1\n"), "any"),
        "of 20000 columns": (
            train,
            content(
                b"step," + b",".join(b"c%d" % n for n in range(20_000)) + b"\n" + b",".join([b"1"] * 20_001)
            ),
            "said",
        ),
        "of 300000 rows": (train, content(rows + b"".join(b"%d,1,1,1\n" % n for n in range(300_000))), "any"),
        "of a letter a million long": (train, content(rows + b"a" * 10**6 + b",1,1,1\n"), "said"),
        "of markup": (train, content(b"step,<script>alert(1)</script>\n1,2\n2,3\n"), "any"),
        "of columns alike": (train, content(b"step,step,step,loss\n1,2,3,4\n2,3,4,5\n"), "any"),
        "with a null byte": (train, content(rows + b"1,\x00,1,1\n"), "any"),
        "in UTF-16": (train, content((rows + b"1,1,1,1\n").decode().encode("utf-16")), "said"),
        "of seconds of 1e308": (
            valid,
            content(b"step,epoch,seconds,PCKh@0.5\n1,1,1e308,1\n2,2,1e308,2\n"),
            "any",
        ),
        "of accuracies of 1e308": (
            valid,
            content(b"step,epoch,seconds,PCKh@0.5\n1,1,1,1e308\n2,2,2,-1e308\n"),
            "any",
        ),
        "a pipe": (valid, pipe, "said"),
    }
    for name, (target, damage, fate) in made.items():
        yield case("history", name, report, target, damage, fate=fate, apart=ALONE)
    metrics = "metrics/hgpose.json"
    for only in ("half", "bits", "empty", "noise", "zeros", "too large"):
        yield from anywhere("history", report, metrics, only=only)
    figures: dict[str, bytes] = {
        "a list": b"[1]",
        "nested 100000 deep": b'{"a":' * 100_000,
        "nested deep": b'{"a":' * 900 + b"1" + b"}" * 900,
        "with no number": b'{"PCKh": {"0.5": NaN}}',
        "with words": b'{"PCKh": {"0.5": "good"}}',
        "with lists": b'{"PCKh": [1, 2]}',
        "with a number of 400 digits": b'{"PCKh": {"0.5": ' + b"9" * 400 + b"}}",
        "with a count of infinity": b'{"people": {"all": 1e999}}',
        "with a number of 5000 digits": b'{"PCKh": {"0.5": ' + b"9" * 5000 + b"}}",
    }
    for name, data in figures.items():
        yield case("history", name, report, metrics, content(data))
    yield case(
        "history",
        "with a figure of 1e308",
        report,
        metrics,
        content(b'{"PCKh": {"0.5": 1e308}, "people": {"all": 1e308}}'),
        fate="any",
    )
    others: dict[str, tuple[str, Damage]] = {
        "of words": ("metrics/plots/hgpose/joints.csv", content(b"a,b\nc,d\n")),
        "half": ("predictions/hgpose.h5", cut(0.5)),
        "of 1e9 people": ("predictions/hgpose.h5", declared("joint", 10**9, 16, 2, chunks=(1000, 16, 2))),
        "with a link elsewhere": (
            "predictions/hgpose.h5",
            elsewhere("joint", h5py.ExternalLink("other.h5", "/joint")),
        ),
        "of words ": ("predictions/hgpose.h5", put("row", lambda old: [str(number) for number in old])),
        "with rows of no number": ("predictions/hgpose.h5", put("row", lambda old: old * np.nan)),
        "with rows below 0": ("predictions/hgpose.h5", put("row", lambda old: old * 0 - 5)),
        "half of it": ("predictions/hgpose-ae.json", cut(0.5)),
        "nested deep": ("predictions/hgpose-ae.json", content(b"[" * 100_000)),
        "with an image of 1e30": (
            "predictions/hgpose-ae.json",
            content(json.dumps([{"image_id": 10**30, "score": 1, "keypoints": [1] * 51}]).encode()),
        ),
        "with words for joints": (
            "predictions/hgpose-ae.json",
            content(json.dumps([{"image_id": 1, "score": 1, "keypoints": ["a"] * 51}]).encode()),
        ),
        "a number": ("predictions/hgpose-ae.json", content(b"7")),
        "half of them": ("metrics/plots/hgpose-ae/precision.csv", content(b"recall,mean\na,b\n")),
        "too large": ("predictions/hgpose-ae.json", huge),
        "too large ": ("metrics/plots/hgpose-ae/joints.csv", huge),
    }
    for name, (target, damage) in others.items():
        yield case("history", name, report, target, damage, fate="said")
    yield case(
        "history",
        "with scores of no number",
        report,
        "predictions/hgpose.h5",
        put("score", lambda old: old * np.nan),
        fate="any",
    )
    yield case(
        "history",
        "with joints of 1e308",
        report,
        "predictions/hgpose.h5",
        put("joint", lambda old: old.astype("f8") + 1e308),
        fate="any",
    )


KINDS = {
    "image": pictures,
    "video": videos,
    "h5": hdf5s,
    "mat": mats,
    "json": jsons,
    "valid_id": valid_ids,
    "checkpoint": checkpoints,
    "params": parameters,
    "history": histories,
}


def corpus() -> list[Case]:
    """All cases."""
    return [case for make in KINDS.values() for case in make()]
