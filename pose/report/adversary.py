"""What the page shows of the adversary.

The game against it, and how a task with one does beside the same task without.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pose.params import AdversaryParams, Params
from pose.report.charts import SERIES, Line, line_chart, pairs, thinned, with_smoothed
from pose.report.common import signed
from pose.report.content import Block, Cell, Chart, Row, Table
from pose.report.published import PUBLISHED_PAIRS, PUBLISHED_TRAINING
from pose.report.run import Run

GAME = (
    "E_real",
    "E_fake",
    "k",
    "balance",
    "convergence",
)  # columns of train.csv, empty before the game begins
PLAIN, PLAYED = SERIES[1], SERIES[0]


def game_charts(train: pd.DataFrame, params: AdversaryParams, anchor: str, task: str) -> list[Chart]:
    """Charts of the game from where it begins; none where train.csv knows nothing of it."""
    balance, numbers = "gamma E(real) − E(fake)", f"gamma {params.gamma:g}"
    charts = (
        (
            "Repainting errors",
            {"E_real": "E(real)", "E_fake": "E(fake)"},
            "Mean squared error of the adversary's repainting: of the true heatmaps, and of the pose network's.",
        ),
        (
            "k_t",
            {"k": "k_t"},
            f"The adversary descends E(real) − k_t E(fake). After each step k_t ← clip(k_t + balance_rate ({balance}), 0, 1); "
            f"balance_rate {params.balance_rate:g}, {numbers}.",
        ),
        ("Balance", {"balance": "balance"}, f"{balance}; {numbers}. Above 0, k_t rises; below 0, it falls."),
        (
            "Convergence measure",
            {"convergence": "convergence"},
            f"E(real) + |{balance}|; {numbers}. Small where true heatmaps are repainted well and the game is balanced.",
        ),
    )
    drawn = [_game_chart(train, title, columns, note, anchor, task) for title, columns, note in charts]
    return [chart for chart in drawn if chart]


def comparisons(params: Params, runs: Mapping[str, Run]) -> list[Block]:
    """Each task with an adversary beside the one that is equal but for it, where there are runs of both."""
    blocks: list[Block] = []
    for task, played in runs.items():
        plain = plain_task(params, task)
        if plain is not None and plain in runs:
            blocks.append(_comparison(params, runs[plain], played, f"versus-{len(blocks)}"))
    return blocks


def plain_task(params: Params, task: str) -> str | None:
    """The task that is equal to this one but for its adversary; None if there is none, or this one has no adversary."""
    spec = params.task(task)
    if spec.adversary is None:
        return None
    alike = spec.model_copy(update={"adversary": None})
    return next((name for name, other in params.tasks.items() if other == alike), None)


def _comparison(params: Params, plain: Run, played: Run, name: str) -> Block:
    kind = played.kind
    charts: list[Chart] = []
    trained_on = f"At most {params.train.train_samples:,} of them. {PUBLISHED_TRAINING.get(played.spec.problem, '')}".strip()
    for prefix, over, note in (
        ("train ", f"{kind.things} trained on", trained_on),
        ("", kind.watched(params), ""),
    ):
        chart = _versus(plain, played, prefix, over, note, f"{name}-{prefix.strip() or 'valid'}")
        charts += [chart] if chart else []
    words: tuple[str, ...] = ()
    figure = next((figure for figure in plain.headline if figure in played.headline), None)
    if figure is not None:
        without, with_it = plain.headline[figure], played.headline[figure]
        words = (
            f"{figure} {without:.{kind.digits}f} without the adversary, {with_it:.{kind.digits}f} with it: a difference of "
            f"{signed(with_it - without, kind.digits)} between one run each with the same seed ({params.seed}), part of which is chance.",
        )
    return Block(f"{played.task} beside {plain.task}", words, _table(plain, played), tuple(charts))


def _table(plain: Run, played: Run) -> Table:
    digits, problem = played.kind.digits, played.spec.problem
    rows = [
        _difference(f"{figure}, tested", plain.headline[figure], played.headline[figure], digits)
        for figure in plain.headline
        if figure in played.headline
    ]
    if plain.seconds is not None and played.seconds is not None:
        rows.append(_difference("Minutes of training", plain.seconds / 60, played.seconds / 60, 1))
    notes = []
    if problem in PUBLISHED_PAIRS:
        one, other = PUBLISHED_PAIRS[problem]
        before, after = (
            Cell(f"{row.figures['Mean']:.1f}", number=True, source=row.source, url=row.url)
            for row in (one, other)
        )
        change = Cell(signed(other.figures["Mean"] - one.figures["Mean"], 1), number=True)
        rows.append(Row((Cell(f"As published: PCKh@0.5, {one.on}"), before, after, change), faint=True))
        notes.append(
            "The published figures are of two papers, each with its own training, and of photographs: not of one code with and without."
        )
    return Table(
        f"{played.task} beside {plain.task}",
        ("", plain.task, played.task, "Difference"),
        tuple(rows),
        notes=tuple(notes),
    )


def _difference(what: str, plain: float, played: float, digits: int) -> Row:
    numbers = (f"{plain:.{digits}f}", f"{played:.{digits}f}", signed(played - plain, digits))
    return Row((Cell(what), *(Cell(number, number=True) for number in numbers)))


def _versus(plain: Run, played: Run, prefix: str, over: str, note: str, name: str) -> Chart | None:
    """The first of the headline's figures that both histories have, over steps."""
    if plain.valid is None or played.valid is None:
        return None
    column = next(
        (
            prefix + figure
            for figure in played.kind.headline.values()
            if prefix + figure in {*plain.valid} & {*played.valid}
        ),
        None,
    )
    if column is None:
        return None
    lines = [
        Line(run.task, *pairs(valid["step"].to_numpy(), valid[column]), colour)
        for run, valid, colour in ((plain, plain.valid, PLAIN), (played, played.valid, PLAYED))
    ]
    highest = max(float(line.y.max()) for line in lines)
    start = 0.0 if played.train is None else _start(played.train)
    title = f"{column.removeprefix(prefix)} on {over}"
    svg = line_chart(
        lines,
        name=name,
        title=f"{title}, {plain.task} and {played.task}",
        x_label="step",
        y_limits=(0, min(1.1 * highest, played.kind.top) or played.kind.top),
        mark=start or None,
    )
    return Chart(title, svg, f"{note} {'The game begins at the broken line.' if start else ''}".strip())


def _game_chart(
    train: pd.DataFrame, title: str, columns: Mapping[str, str], note: str, anchor: str, task: str
) -> Chart | None:
    drawn = [
        Line(label, *thinned(*pairs(train["step"].to_numpy(), train[column])), colour)
        for (column, label), colour in zip(columns.items(), (SERIES[2], SERIES[0]), strict=False)
        if column in train
    ]
    if not drawn:
        return None
    least, most = min(float(line.y.min()) for line in drawn), max(float(line.y.max()) for line in drawn)
    top = most or 1.0
    svg = line_chart(
        drawn
        if "k" in columns
        else [part for line in drawn for part in with_smoothed(line)],  # k_t is a sum, and smooth
        name=f"{anchor}-game-{next(iter(columns))}",
        title=f"{title}, {task}",
        x_label="step",
        log=least > 0 and most > 5 * least and "k" not in columns,
        y_limits=(-0.02 * top, 1.02 * top)
        if "k" in columns
        else None,  # so that it is seen where it stays at 0
        x_from=_start(train),
    )
    return Chart(title, svg, note)


def _start(train: pd.DataFrame) -> float:
    """The last step on record before the game; 0 if it began at once, or nothing is known of one."""
    first = int(train["E_real"].notna().to_numpy().argmax()) if "E_real" in train else 0
    return float(train["step"].iloc[first - 1]) if first else 0.0
