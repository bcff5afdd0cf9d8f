"""Damages to files of every kind that the project reads, which `test_damaged_inputs.py` tries."""

from __future__ import annotations

import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ruamel.yaml import YAML

Damage = Callable[[Path], Any]  # changes or replaces a file
Found = Iterator[tuple[str, Damage, bool]]  # name, damage, whether the file may be read all the same

# --- any file ---


def content(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(seed: int, bits: int) -> Damage:
    def change(data: bytes) -> bytes:
        bit_N = np.unpackbits(np.frombuffer(data, np.uint8))
        bit_N[np.random.default_rng(seed).integers(len(bit_N), size=bits)] ^= 1
        return np.packbits(bit_N).tobytes()

    return changed(change)


def replaced_by(make: Callable[[Path], Any]) -> Damage:
    return lambda path: (path.unlink(), make(path))


GENERIC: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": content(b""),
    "one byte": changed(lambda data: data[:1]),
    "cut at a tenth": changed(lambda data: data[: len(data) // 10]),
    "cut in the middle": changed(lambda data: data[: len(data) // 2]),
    "cut near the end": changed(lambda data: data[: len(data) * 97 // 100]),
    "zeros": changed(lambda data: bytes(len(data))),
    "noise": content(random.Random(0).randbytes(5000)),
    "a web page": content(b"<html><body>404 not found</body></html>"),
    "text in UTF-16": content("step\n1\n".encode("utf-16")),
    "a folder": replaced_by(Path.mkdir),
    "a pipe": replaced_by(os.mkfifo),
    "without end": replaced_by(lambda path: path.symlink_to("/dev/zero")),
    **{f"bits flipped {seed}": flipped(seed, bits=6) for seed in range(4)},
    "many bits flipped": flipped(9, bits=400),
}
if os.geteuid():  # root may read anything
    GENERIC["not readable"] = lambda path: path.chmod(0)
SHORTER = {"one byte", "cut at a tenth", "cut in the middle", "cut near the end"}
HARMLESS = {  # beside flipped bits
    "video.avi": SHORTER,  # its index is at its end
    "valid_id": SHORTER | {"empty"},
    "train.csv": SHORTER,
}


# --- values of JSON, YAML and torch files, datasets of HDF5 ---

WRONG = ["text", None, [], {}, -1, 1e300, float("nan"), 10**30, True, "../../etc/passwd", [[1], 2], "a\nb"]


def load(path: Path) -> Any:
    if path.suffix in (".pt", ".tar"):
        return torch.load(path, weights_only=True)
    return YAML(typ="safe").load(path) if path.suffix == ".yaml" else json.loads(path.read_text())


def edited(change: Callable[[Any], Any]) -> Damage:
    """The values of a file changed in place, or, where `change` gives some, others."""

    def damage(path: Path) -> None:
        values = load(path)
        values = change(values) or values
        if path.suffix in (".pt", ".tar"):
            torch.save(values, path)
        else:
            path.write_text(json.dumps(values))  # which is YAML too

    return damage


def put(keys: tuple[Any, ...], value: Any) -> Damage:
    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return edited(change)


def all_keys(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, of lists that of the first entry."""
    entries = dict(enumerate(values[:1])) if isinstance(values, list) else values
    for key, value in entries.items() if isinstance(entries, dict) else ():
        if not isinstance(value, torch.Tensor):
            yield *above, key
            yield from all_keys(value, (*above, key))


def wrong_values(file: Path) -> Found:
    pairs = [(keys, wrong) for keys in all_keys(load(file)) for wrong in WRONG]
    most = 20 if file.suffix == ".pt" else 60
    for keys, wrong in pairs[:: len(pairs) // most + 1]:
        yield f"{'.'.join(map(str, keys))} {wrong!r}", put(keys, wrong), True


def dataset(name: str, link: Any = None, **how: Any) -> Damage:
    """A link, another dataset with the same attributes, or nothing in the place of a dataset."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            attributes = dict(file[name].attrs)
            del file[name]
            if how:
                file.create_dataset(name, **how).attrs.update(attributes)
            elif link:
                file[name] = link

    return damage


def wrong_datasets(file: Path) -> Found:
    with h5py.File(file) as opened:
        found = {name: (one.shape, one.dtype) for name, one in opened.items()}
    for name, ((rows, *axes), dtype) in found.items():
        for value in (-5, 0, 2**40, np.nan, np.inf, 1e300, 1j, b"a"):
            yield f"{name} of {value}", dataset(name, data=np.full((rows, *axes), value)), True
        for other in ((rows + 3, *axes), (1, rows, *axes)):
            yield f"{name} of shape {other}", dataset(name, data=np.ones(other)), True
        for many in (10**9, 10**15):
            huge = dataset(name, shape=(many, *axes), dtype=dtype, chunks=(1000, *axes))
            yield f"{name} of {many} rows", huge, False
        links = h5py.ExternalLink(str(file), name), h5py.SoftLink("/nowhere"), h5py.SoftLink(f"/{name}")
        for link in (*links, None):
            yield f"{name} as {link!r}", dataset(name, link), False


# --- files that ask for more than they hold, run code, or lead to other files ---


def patched(mark: bytes, offset: int, pattern: str, *values: Any) -> Damage:
    def change(data: bytes) -> bytes:
        result = bytearray(data)
        struct.pack_into(pattern, result, data.index(mark) + offset, *values)
        return bytes(result)

    return changed(change)


def png_size(side: int) -> Damage:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return patched(b"IHDR", 4, ">13sI", head, zlib.crc32(b"IHDR" + head))


def playlist(text: str) -> Damage:
    return lambda path: (path.rename(path.with_name("other.avi")), path.write_text(text))


def rezipped(**changes: bytes) -> Damage:
    """The archive of a torch file with another `data.pkl`."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            parts = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, data in parts.items():
                file.writestr(name, changes.get(name.rpartition("/")[2].removesuffix(".pkl"), data))

    return damage


ALIASES = b"".join(b"a%d: &a%d [%s]\n" % (n, n, b"*a%d, " % (n - 1) * 10 if n else b"lol") for n in range(12))
JSON: dict[str, Damage] = {
    "nested deep": content(b"[" * 100_000),
    "a number of 100000 digits": content(b'{"images": ' + b"9" * 100_000 + b"}"),
}
VIDEO: dict[str, Damage] = {
    "a playlist": playlist("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.avi\n#EXT-X-ENDLIST\n"),
    "a list of files": playlist("ffconcat version 1.0\nfile other.avi\n"),
}
TORCH: dict[str, Damage] = {
    "runs a command": rezipped(data=b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R."),
    "a list": edited(lambda values: [1]),
}
OUTSIDE = ("../../etc/passwd", "/etc/passwd", "..\\..\\a.jpg", "a\nb.jpg", "\ud800", "a" * 10**5)
SECURITY: dict[str, dict[str, Damage]] = {
    **dict.fromkeys(("metrics.json", "results.json"), JSON),
    "mpii.json": JSON | {"an image elsewhere": put((0, "img_paths"), "../../../etc/passwd")},
    "coco.json": JSON
    | {f"an image {name[:20]!r}": put(("images", 0, "file_name"), name) for name in OUTSIDE},
    "video.mp4": VIDEO,
    "video.avi": VIDEO | {"of 16000 px": patched(b"strf", 12, "<II", 16000, 16000)},
    "latest.pt": TORCH,
    "foreign.tar": TORCH,
    "weights.pt": TORCH,
    "image.png": {
        "of 30000 px": png_size(30000),
        "of 2e9 px": png_size(2**31 - 1),
        "of no size": png_size(0),
        "a PPM of 30000 px": content(b"P6 30000 30000 255\n" + bytes(1000)),
        "a GIF of 30000 px": content(b"GIF89a" + struct.pack("<HHBBB", 30000, 30000, 0, 0, 0) + bytes(99)),
        "an HDR image of 30000 px": content(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n"),
    },
    "image.jpg": {
        "of 65500 px": patched(b"\xff\xc0", 5, ">HH", 65500, 65500),
        "of no height": patched(b"\xff\xc0", 5, ">HH", 0, 40),
        "without data": changed(lambda data: data[: data.index(b"\xff\xda") + 30] + data[-2:]),
        "without half of its data": changed(lambda data: data[: len(data) // 2] + data[-2:]),
    },
    "image.bmp": {
        f"of {side} px": patched(b"BM", 18, "<ii", side, side) for side in (30000, -30000, -(2**31))
    },
    "image.tif": {"of 60000 px": patched(struct.pack("<HHI", 256, 3, 1), 8, "<I8xI", 60000, 60000)},
    "image.webp": {"of 16383 px": patched(b"\x9d\x01\x2a", 3, "<HH", 16383, 16383)},
    "joints.mat": {
        "of version 7.3": lambda path: h5py.File(path, "w").close(),
        "of version 4": content(struct.pack("<IIIII", 0, 10**5, 10**4, 0, 7) + b"joints\0" + bytes(99)),
    },
    "valid_id": {
        repr(text[:20]): content(text) for text in (b"1.5\n", b"9" * 100_000, b"1,2\n", b"1\n\x002\n")
    },
    "train.csv": {
        "of 20000 columns": content(b"step" + b"".join(b",%d" % n for n in range(20_000)) + b"\n"),
        "of a letter a million long": content(b"step,loss\n" + b"a" * 10**6 + b",1\n"),
    },
    "params.yaml": {
        "aliases of aliases": changed(lambda data: data + b"\n" + ALIASES),
        "a root of aliases": changed(lambda data: ALIASES + data.replace(b"root: ", b"root: *a11 #")),
        "nested deep": content(b"{a: " * 100_000),
        "its own child": content(b"&a [*a]"),
        "a tag of Python's": content(b"seed: !!python/object/apply:os.system ['touch owned']"),
        "a number of 100000 digits": content(b"seed: " + b"9" * 100_000),
    },
}
