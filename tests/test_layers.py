"""How the sources lie: layers, names and sizes. Read from the sources themselves."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from helpers import ROOT, SOURCES, imported_modules, imported_sources, run_python, without_packages

# Folders and files of `pose/`; each imports only from itself and from those before it.
ORDER = [
    *("io", "keypoints", "models", "params", "ops", "data", "metrics", "tasks", "inference", "tracking"),
    *("training", "report", "experiments", "cli"),
]
OPTIONAL = {"dvc", "faster_coco_eval", "mlflow", "pycocotools"}  # what a bare training machine lacks
SLOW = {"pandas", "scipy", "matplotlib"}  # to import, and not needed by training
CORE = [*ORDER[: ORDER.index("tracking")], "training"]
# Words that this project once had for what the field has a name for.
FORMER_NAMES = {
    *("States", "Record", "Unrecorded", "unsent", "headline", "HEADLINE", "Progress", "Plan", "_note"),
    *("_condense", "_judge", "watched", "plays", "slope", "View", "answers", "find_people", "written_whole"),
    *("sweep", "whole_folder", "of_main", "agree", "same_buffers", "Epochs", "in_order", "_Told"),
    *("_as_it_is", "Peer", "theirs", "ours", "Trial", "Life", "done_again", "_lone_picture_named"),
    *("worker_deaths_named", "unmeasured", "BESIDE", "CIRCUMSTANCES", "_said"),
}


def layer(module: str) -> str:
    """`pose.io.images` -> `io`."""
    return module.split(".")[1]


def test_a_folder_imports_only_from_folders_before_it():
    modules = [name for name in SOURCES if name.startswith("pose.")]
    assert sorted({layer(name) for name in modules} ^ set(ORDER)) == []
    offenders = [
        f"{name} imports {target}"
        for name in modules
        for target in sorted(imported_sources(name))
        if not target.startswith("pose.") or ORDER.index(layer(target)) > ORDER.index(layer(name))
    ]
    assert offenders == []


def test_no_module_imports_itself_through_others():
    try:
        TopologicalSorter({name: imported_sources(name) for name in SOURCES}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_stages_are_thin_and_the_package_does_not_know_them():
    stages = {name for name in SOURCES if name.startswith("stages.")}
    own = {"pose", "__future__", *sys.stdlib_module_names}
    imports = {name: {target.split(".")[0] for target in imported_modules(name)} for name in SOURCES}
    assert [name for name in SOURCES if name not in stages and "stages" in imports[name]] == []
    assert [name for name in stages if imports[name] - own] == []
    assert [name for name in stages if len(SOURCES[name].read_text().splitlines()) > 40] == []


def test_the_core_is_imported_without_what_training_does_not_need():
    names = [name for name in SOURCES if name.startswith("pose.") and layer(name) in CORE]
    code = f"""
import importlib
import pose.training.launch
assert not {SLOW!r} & {{name.split(".")[0] for name in sys.modules}}
for name in {names!r}:
    importlib.import_module(name)
"""
    done = run_python(without_packages(*OPTIONAL) + code)
    assert done.returncode == 0, done.stderr


def sources_of(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def identifiers(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        for field in ("id", "attr", "name", "asname", "arg"):
            if isinstance(found := getattr(node, field, None), str):
                yield from found.split(".")


def test_nothing_bears_a_former_name():
    found = {
        path.relative_to(ROOT).as_posix(): sorted(FORMER_NAMES & set(identifiers(path)))
        for path in sources_of("pose", "stages", "tests")
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_files_and_folders_stay_small():
    files = sources_of("pose", "stages", "tests", "studies", "examples")
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > 350} == {}
    folders = {path.parent for path in files}
    sizes = {folder.relative_to(ROOT).as_posix(): len([*folder.glob("*.py")]) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > 13} == {}
    entries = {path.relative_to(ROOT / "pose").parts[0] for path in sources_of("pose")} | {"py.typed"}
    assert len(entries) <= 16
