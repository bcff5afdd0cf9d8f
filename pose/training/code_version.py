"""The version of the code that decides what a training run computes.

DVC trains again when it changes (`build/code/`), and a checkpoint of another version is not resumed. All
modules of these folders count, but for those named here as shaping no weights.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

from pose.io.paths import PACKAGE
from pose.ops.build import SOURCES

FOLDERS = ("io", "keypoints", "models", "params", "ops", "data", "metrics", "tasks", "inference", "training")
# Modules, or beginnings of their paths. The prepared data counts by its hash, not by the code that made it.
EXCLUDED_MODULES = (
    *("data/formats/lsp.py", "data/formats/matlab.py", "data/formats/mpii.py"),
    *("data/prepare/", "data/results/", "data/synthetic/", "data/threads.py"),
    *("inference/app.py", "inference/draw.py", "inference/evaluate.py", "inference/export.py"),
    *("inference/images.py", "inference/onnx_network.py", "inference/predict.py", "inference/predictor.py"),
    *("inference/refine.py", "inference/sources.py", "inference/torch_network.py"),
    *("io/command.py", "io/dvc_stage.py", "io/errors.py", "io/file_lock.py", "io/git.py", "io/paths.py"),
    *("io/video.py", "keypoints/track.py", "metrics/scoring/"),
    *("models/external_formats.py", "models/published.py"),
    *("training/code_version.py", "training/environment.py", "training/launch.py", "training/lock.py"),
)
EXCLUDED_BY_PROBLEM = {
    "single": (
        *("data/image_set.py", "data/multi_samples.py", "keypoints/grouping.py", "ops/", "tasks/multi.py"),
        "tasks/thresholds.py",
    ),
    "multi": (
        *("data/formats/person_table.py", "data/formats/published_h5.py", "data/person_set.py"),
        "tasks/single.py",
    ),
}


@cache
def code_version(problem: str) -> dict[str, str]:
    """A short hash of each folder of `pose` as far as a problem (`single`, `multi`) needs it, by its path.

    Comments, docstrings and layout do not count, so that polishing them does not repeat a run. The operator's
    C++ sources count byte by byte.
    """
    files: dict[str, list[bytes]] = {}
    for path in counted_sources(problem):
        name = path.relative_to(PACKAGE.parent)
        part = files.setdefault("/".join(name.parts[:2]), [])
        part += [name.as_posix().encode(), normalized_source(path)]
    if problem == "multi":
        files["csrc"] = _operator_sources()
    # Another Python may parse the same text into another tree.
    versions = {name: _short_hash(b"".join(parts)) for name, parts in files.items()}
    return versions | {"Python": ".".join(map(str, sys.version_info[:2]))}


def code_digest(problem: str) -> str:
    """All of `code_version` in one short hash."""
    return _short_hash(repr(sorted(code_version(problem).items())).encode())


def counted_sources(problem: str) -> list[Path]:
    """The Python files of which `code_version` is made."""
    excluded = EXCLUDED_MODULES + EXCLUDED_BY_PROBLEM[problem]
    paths = (path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
    return sorted(path for path in paths if not path.relative_to(PACKAGE).as_posix().startswith(excluded))


def package_version() -> str:
    """A short hash of all code of the package: for stages that do not depend on its files one by one."""
    modules = [normalized_source(path) for path in sorted(PACKAGE.rglob("*.py"))]
    return _short_hash(b"".join(modules + _operator_sources()))


def normalized_source(path: Path) -> bytes:
    """What the code of a file says: its syntax tree without docstrings."""
    tree, documented = ast.parse(path.read_bytes()), (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def _operator_sources() -> list[bytes]:
    sources = sorted(path for path in SOURCES.iterdir() if path.is_file())
    return [part for path in sources for part in (path.name.encode(), path.read_bytes())]


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
