"""Folders of released weights, each with its hash and a model card: `pose release`, `pose fetch`.

Such a folder can lie on a disk, a share or any web server: it is only read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.parse
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tqdm.auto import tqdm

from pose.experiments.provenance import provenance
from pose.inference.images import HTTP_SCHEMES, open_url, public_name, scheme
from pose.io.errors import UserError, reading, within
from pose.io.files import atomic_write, write_json, write_text
from pose.io.paths import TaskPaths, is_synthetic
from pose.io.schema import Frozen, parse
from pose.models.limits import TaskName
from pose.models.weights import SAFETENSORS, load_weights, save_weights

INDEX, SUFFIX = "index.json", ".pt"
SECONDS = 30.0  # without an answer from a server
SLOWEST = 20_000  # bytes a second of a download, which ends otherwise
MAX_BYTES, MAX_INDEX = 2**32, 2**20  # of weights, of the index
# Of a card: the weights say it, another line does, or it is no news.
LEFT_OUT = ("weights", "params.yaml", "parameters", "source")
LIMITS = (
    "Measured on held-out data of the kind that it was trained on; elsewhere, expect less.",
    "Not for identifying people, nor for decisions about them.",
)


class Release(Frozen):
    """Entry of `index.json`. metrics: the monitored ones of the task."""

    file: Annotated[str, Field(pattern=r"^[\w.-]+\.pt$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(gt=0, le=MAX_BYTES)]
    metrics: dict[str, float]


class _Name(Frozen):
    task: TaskName  # part of the names of files


class _Index(Frozen):
    releases: dict[TaskName, Release]


def release(task: str, folder: Path, *, licence: str, weights: Path | None = None) -> Path:
    """Put the weights of a task and their model card into a folder of releases; returns the card.

    weights: by default models/TASK/last.pt. Others in the folder stay.
    UserError if the weights are missing or damaged, or the task's name can be no file's.
    """
    parse(_Name, {"task": task}, "release")
    source = weights or TaskPaths(task).models / "last.pt"
    card = model_card(task, source, licence)
    releases = dict(read_index(str(folder))) if (folder / INDEX).exists() else {}
    target = folder / f"{task}{SUFFIX}"
    with atomic_write(target) as temporary:
        if source.suffix == SAFETENSORS:
            save_weights(temporary, load_weights(source))
        else:  # the same bytes, by whose hash `pose show` finds the run
            shutil.copyfile(source, temporary)
    facts = {fact.name: fact.value for fact in provenance(str(source))}
    releases[task] = Release(
        file=target.name,
        sha256=hashlib.sha256(target.read_bytes()).hexdigest(),
        bytes=target.stat().st_size,
        metrics=facts["metrics"] or {},
    )
    write_text(folder / f"{task}.md", card)
    write_json(folder / INDEX, _Index(releases=releases).model_dump())  # last: what it names is there
    return folder / f"{task}.md"


def model_card(task: str, path: Path, licence: str) -> str:
    """What weights are, what they were trained on and how they did, as Markdown, from their provenance."""
    weights = load_weights(path)
    facts = {fact.name: fact.text for fact in provenance(str(path)) if fact.name not in LEFT_OUT}
    if weights.task == task:
        del facts["task"]
    people = {"single": "one person per crop", "multi": "all people of an image"}[weights.problem]
    size, network = weights.inference["input_size"], weights.network.kind
    joints = ", ".join(weights.skeleton.joints)
    dataset = weights.provenance.get("task.dataset", "unknown: the weights do not say")
    if source := weights.provenance.get("source"):
        dataset += f", from {source}" + (": people who are drawn" if is_synthetic(str(source)) else "")
    lines = [
        f"# {task}",
        "",
        f"2D pose of {people}: {network} network at {size} px, {len(weights.skeleton.joints)} joints.",
        "",
        "| | |",
        "|---|---|",
        f"| joints | {weights.skeleton.name}: {joints} |",
        f"| data set | {_cell(dataset)} |",
        *(f"| {name} | {_cell(text)} |" for name, text in facts.items()),
        f"| licence | {_cell(licence)} |",
        "",
        *(f"- {line}" for line in LIMITS),
        "",
        "```sh",
        f"pose predict {task}.pt photo.jpg",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that keeps a table of Markdown whole."""
    return " ".join(text.replace("|", " ").split())


def read_index(source: str) -> dict[str, Release]:
    """The releases of a folder, by name. source: its path, or its URL (http, https).

    UserError naming what cannot be read.
    """
    place, kind = _join(source, INDEX), "an index of releases"
    name = public_name(place)

    def read() -> bytes:
        with closing(_open(place, kind)) as file:
            return file.read(MAX_INDEX)

    with reading(name, kind):
        content = json.loads(within(SECONDS, name, read))
    return parse(_Index, content, name).releases


def fetch(name: str, source: str, out: Path) -> Release:
    """Copy released weights to a file, if their size, hash and content are right; nothing else is written.

    source: path or URL of a folder of releases. UserError for a name that it has not, and for wrong content.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: found the ending {out.suffix!r}, expected {SUFFIX}")
    releases = read_index(source)
    if name not in releases:
        known = ", ".join(releases) or "none"
        raise UserError(f"{public_name(source)}: found no release {name!r}, expected one of {known}")
    entry = releases[name]
    url = _join(source, entry.file)
    place = public_name(url)
    with atomic_write(out, sync=True) as temporary:
        with reading(place, "weights"):
            copied = partial(_copy, url, temporary, entry.bytes)
            size, sha256 = within(round(SECONDS + entry.bytes / SLOWEST), place, copied)
        if (size, sha256) != (entry.bytes, entry.sha256):
            found = f"{size:,} bytes of sha256 {sha256[:12]}"
            expected = f"{entry.bytes:,} of {entry.sha256[:12]}"
            raise UserError(f"{place}: found {found}, expected {expected}")
        try:
            load_weights(temporary)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), place)) from None
    return entry


def _copy(place: str, path: Path, most: int) -> tuple[int, str]:
    """Copy a file of at most that many bytes; their number and their hash."""
    digest, size = hashlib.sha256(), 0
    bar = tqdm(total=most, desc=place.rpartition("/")[2], unit="B", unit_scale=True, disable=None)
    with bar, closing(_open(place, "weights")) as file, path.open("wb") as copy:
        while size <= most and (block := file.read(2**20)):
            size += len(block)
            digest.update(block)
            copy.write(block)
            bar.update(len(block))
    return size, digest.hexdigest()


def _join(source: str, name: str) -> str:
    name = urllib.parse.quote(name) if scheme(source) in HTTP_SCHEMES else name
    return f"{source.rstrip('/')}/{name}"


def _open(place: str, kind: str) -> Any:
    if scheme(place) in HTTP_SCHEMES:
        return open_url(place, kind, SECONDS)
    try:
        return Path(place).open("rb")
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be read ({getattr(error, 'strerror', error)})") from None
