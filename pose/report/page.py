"""The page: a section for each evaluated task, of whichever files there are, and what the tasks share."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from pose.io.errors import UserError
from pose.io.files import remove_stale_temp_files, write_text
from pose.io.git import has_changes, run_git
from pose.io.paths import TaskPaths
from pose.io.schema import flatten
from pose.metrics.monitored import MONITORED, Metric
from pose.params import Params
from pose.report.adversary import families
from pose.report.common import signed
from pose.report.content import Block, Cell, PageImage, Parameters, Row, Section, Table
from pose.report.files import try_read
from pose.report.run import Run, read_run
from pose.report.section import PROBLEMS, task_section
from pose.report.study import STUDY, study_blocks
from pose.tasks.task import open_data

TYPICAL = 8  # images on top of the page, one of each task or more
SAMPLES = {"single": "One person", "multi": "Several people"}


def write_report(params: Params, *, root: str | Path = ".", folder: str | Path = "report") -> list[str]:
    """Write `index.html` and `summary.md` into `folder`, from files of `root`.

    Returns the names of the tasks shown: those with a `metrics/TASK.json`. UserError if there is none at all,
    or if one is damaged; whatever else is missing is named on the page.
    """
    root, folder = Path(root), Path(folder)
    shown = [task for task in params.tasks if TaskPaths(task, root).metrics.is_file()]
    if not shown:
        expected = ", ".join(str(TaskPaths(task).metrics) for task in params.tasks)
        found = f"{root / 'metrics'}: found metrics of no task"
        raise UserError(f"{found}, expected {expected}: run `dvc repro` first")
    remove_stale_temp_files(folder)
    runs = {task: read_run(params, task, root) for task in shown}
    data = ", ".join(dict.fromkeys(run.data for run in runs.values()))
    overview, origin = _overview(params, runs), f"Data: {data}. Revision: {_revision()}."
    sections, typical = _sections(params, runs, root)
    page = render("Pose report", ", ".join(shown), origin, overview, sections, typical)
    write_text(folder / "index.html", page)
    write_text(folder / "summary.md", "\n".join([*map(_markdown, overview), _plain(origin), ""]))
    return shown


def render(
    title: str,
    about: str,
    origin: str,
    overview: Sequence[Table],
    sections: Sequence[Section],
    images: Sequence[PageImage] = (),
) -> str:
    """A page that needs no other file. about: its subject. origin: a line below the title. images: on top."""
    environment = Environment(
        loader=PackageLoader("pose.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values = {"title": title, "about": about, "origin": origin, "overview": overview}
    return environment.get_template("report.html").render(values, sections=sections, images=images)


def _sections(params: Params, runs: Mapping[str, Run], root: Path) -> tuple[list[Section], list[PageImage]]:
    """One for each task, plain and adversarial in one, one for the studies, one on what they share.

    And typical images of all tasks.
    """
    place = {task: (run.spec.dataset, run.spec.problem, str(run.spec.override)) for task, run in runs.items()}
    missing: dict[tuple[str, str, str], list[str]] = {one: [] for one in place.values()}
    data = {}
    for task, one in place.items():
        if one not in data:
            read = partial(open_data, params.problem(task), root / params.prepared(task))
            data[one] = try_read(missing[one], read)
    sections, images, typical = [], list[PageImage](), max(1, TYPICAL // len(runs))
    for family in families(params, runs):
        one = place[family[0].task]
        section, some = task_section(family, data[one], missing[one], typical)
        sections.append(section)
        images += some
    study_missing: list[str] = []
    studies: list[Block] = []
    if any(run.is_published for run in runs.values()):
        studies = try_read(study_missing, lambda: study_blocks(root / STUDY)) or []
    if studies or study_missing:
        sections.append(Section("studies", "Studies of the adversary", studies, missing=study_missing))
    sets = {
        f"Prepared set {dataset}, problem {problem}": (problem, one)
        for (dataset, problem, _), one in data.items()
    }
    shared = [
        Block(title, table=PROBLEMS[problem].data_table(prepared), half=True)
        for title, (problem, prepared) in sets.items()
        if prepared is not None
    ]
    shared.append(Block("Made by", parameters={"": _origin()}, folded=True))
    shared.append(Block("Parameters", parameters=_parameters(params), folded=True))
    all_missing = [line for lines in missing.values() for line in lines]
    return [*sections, Section("shared", "Data and parameters", shared, missing=all_missing)], images


def _overview(params: Params, runs: Mapping[str, Run]) -> list[Table]:
    """For each problem the metrics of its tasks, and by how much they changed since the last commit."""
    tables = []
    anchors = {run.task: family[0].anchor for family in families(params, runs) for run in family}
    for problem, metrics in MONITORED.items():
        tasks = [task for task in params.tasks if params.task(task).problem == problem]
        known = {metric for task in tasks if task in runs for metric, _ in runs[task].monitored}
        shown = [metric for metric in metrics if metric in known]
        rows = []
        for task in tasks:
            cells = [Cell("", number=True)] * len(shown)
            more, url = ("not evaluated yet", ""), ""
            if task in runs:
                run, url = runs[task], f"#{anchors[task]}"
                values = dict(run.monitored)
                cells = [_overview_cell(run, metric, values.get(metric)) for metric in shown]
                counts = ", ".join(f"{count:,} {name}" for name, count in run.counts.items()) or "unknown"
                more = counts, run.training_time
            ends = [Cell(text, number=True) for text in more]
            rows.append(Row([Cell(task, url=url), *cells, *ends], faint=task not in runs))
        if rows:
            columns = (SAMPLES[problem], *(metric.name for metric in shown), "Evaluated on", "Training time")
            tables.append(Table(columns, rows))
    if any(cell.below for table in tables for row in table.rows for cell in row.cells):
        tables[-1] = replace(tables[-1], notes=["In small type: the change since the last commit."])
    return tables


def _overview_cell(run: Run, metric: Metric, value: float | None) -> Cell:
    text = "" if value is None else f"{value:.{metric.digits}f}"
    change = round(run.change(metric) or 0.0, metric.digits)  # one that cannot be seen is none
    return Cell(text, number=True, below=signed(change, metric.digits) if change else "")


def _parameters(params: Params) -> Parameters:
    """All of params.yaml by its sections, and by task; what stands outside of sections first."""
    values = params.model_dump()
    values |= {f"tasks.{task}": spec for task, spec in values.pop("tasks").items()}
    groups = {name: value for name, value in values.items() if isinstance(value, dict)}
    groups = {"all": {name: value for name, value in values.items() if name not in groups}} | groups

    def text(value: object) -> str:
        if isinstance(value, list):
            return ", ".join(map(str, value)) or "none"
        return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return {
        group: {name: text(value) for name, value in flatten(inner).items()}
        for group, inner in groups.items()
    }


def _markdown(table: Table) -> str:
    """For a comment under a pull request."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [
        [_plain(cell.text + (f" ({cell.below})" if cell.below else "")) for cell in row.cells]
        for row in table.rows
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def _revision() -> str:
    """The git revision of this checkout, with `-dirty` where files differ from it."""
    found = run_git("describe", "--always")
    return found + ("-dirty" if has_changes() else "") if found else "unknown"


def _origin() -> dict[str, str]:
    """Revision, versions, and the device that this process would train on."""
    device = f"CPU, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    system = f"{platform.system()} {platform.machine()}"
    versions = {"PyTorch": torch.__version__, "Python": platform.python_version()}
    return {"Revision": _revision(), **versions, "Device": device, "System": system}
