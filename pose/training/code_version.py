"""The version of the code that decides what a training run computes.

DVC trains again when it changes (`build/code/`), and a checkpoint of another version is not resumed. A folder
counts as a whole, but for the modules that shape no weights; a new file counts until it is named here.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "csrc"  # absent where the package is installed without its repository
FOLDERS = ("io", "keypoints", "models", "ops", "data", "metrics", "tasks", "inference", "training")
# Modules, or the start of their paths, that shape no weights: what makes the prepared data is known by its
# hash.
EXCLUDED_MODULES = (
    *("data/formats/", "data/prepare/", "data/synthetic/", "data/threads.py"),
    *("inference/draw.py", "inference/evaluate.py", "inference/predict.py", "inference/results.py"),
    *("io/command.py", "io/errors.py", "io/git.py", "io/matlab.py", "io/paths.py", "io/video.py"),
    *("models/external_formats.py", "models/published.py"),
    *("training/code_version.py", "training/launch.py", "training/lock.py"),
)
EXCLUDED_BY_PROBLEM = {
    "single": (
        *(
            "data/image_set.py",
            "data/multi_samples.py",
            "data/rle.py",
            "keypoints/grouping.py",
            "metrics/oks.py",
        ),
        *("models/ae_hourglass.py", "ops/", "tasks/multi.py", "tasks/thresholds.py"),
    ),
    "multi": ("data/person_set.py", "tasks/single.py"),
}


@cache
def code_version(problem: str) -> dict[str, str]:
    """A short hash of each folder of `pose` as far as a problem (`single`, `multi`) needs it, by its path.

    Comments, docstrings and layout do not count, so that polishing them costs nobody a run. The operator's
    C++ counts as it stands.
    """
    versions = {f"pose/{folder}": _hash_of(ROOT / "pose" / folder, problem) for folder in FOLDERS}
    versions["pose/params.py"] = _short(normalized_source(ROOT / "pose" / "params.py"))
    if problem == "multi" and OPERATOR.is_dir():
        sources = sorted(path for path in OPERATOR.iterdir() if path.is_file())
        versions["csrc"] = _short(b"".join(path.name.encode() + path.read_bytes() for path in sources))
    # Another Python may parse the same text into another tree.
    return versions | {"Python": ".".join(map(str, sys.version_info[:2]))}


def code_digest(problem: str) -> str:
    """All of `code_version` in one short hash."""
    return _short(repr(sorted(code_version(problem).items())).encode())


def counted_sources(problem: str) -> list[Path]:
    """The Python files of which `code_version` is made."""
    folders = [path for folder in FOLDERS for path in (ROOT / "pose" / folder).rglob("*.py")]
    return sorted(path for path in [*folders, ROOT / "pose" / "params.py"] if not _is_excluded(path, problem))


def normalized_source(path: Path) -> bytes:
    """What the code of a file says: its syntax tree without docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def _hash_of(folder: Path, problem: str) -> str:
    sources = sorted(path for path in folder.rglob("*.py") if not _is_excluded(path, problem))
    parts = (path.relative_to(ROOT).as_posix().encode() + normalized_source(path) for path in sources)
    return _short(b"".join(parts))


def _is_excluded(path: Path, problem: str) -> bool:
    return (
        path.relative_to(ROOT / "pose").as_posix().startswith(EXCLUDED_MODULES + EXCLUDED_BY_PROBLEM[problem])
    )


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
