"""Which of our sources decide what a training run computes, and in which version.

DVC trains again when they say something else (`build/code/`), and a resume state of other code is not continued: one list for both.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
OPERATOR = PACKAGE.parent / "csrc"  # absent where the package is installed without its repository
ENTRY = "pose.training"
# What it imports, though to a task of that problem it brings nothing, nor does what only they import.
BESIDE = {"single": {"pose.tracking", "pose.multi", "pose.thresholds"}, "multi": {"pose.tracking", "pose.single"}}


@cache
def code_version(problem: str) -> dict[str, str]:
    """A short hash of each source that training of a problem (`single`, `multi`) needs, by its path, such as `pose/engine.py`.

    Of what the code says: comments, docstrings and layout count for nothing, so that polishing them costs nobody a run. The operator's
    C++ counts as it stands.
    """
    versions = {path.relative_to(PACKAGE.parent).as_posix(): _short(_said(path)) for path in _needed(problem)}
    for path in sorted(path for path in OPERATOR.glob("*") if path.is_file() and problem == "multi"):
        versions[path.relative_to(PACKAGE.parent).as_posix()] = _short(path.read_bytes())
    # Another Python may parse the same text into another tree.
    return versions | {"Python": ".".join(map(str, sys.version_info[:2]))}


def code_digest(problem: str) -> str:
    """All of `code_version` in one short hash."""
    return _short(repr(sorted(code_version(problem).items())).encode())


def _needed(problem: str) -> list[Path]:
    found: dict[str, Path] = {}
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in found or name in BESIDE[problem]:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(found.values())


def _file(name: str) -> Path | None:
    """The source of a module of ours; None for any other name."""
    if name.partition(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _said(path: Path) -> bytes:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
