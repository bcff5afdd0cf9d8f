"""The study of the adversary: many runs in one file, and what their numbers say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pose.io.errors import UserError
from pose.report.common import signed
from pose.report.content import Block, Cell, Row, Table
from pose.report.files import read_table
from pose.report.run import KINDS

STUDY = Path("studies/adversary.csv")
TITLES = {"game": "How the game is played", "seeds": "The same with other seeds"}  # by `study`
WORDS, NEEDED, SETTINGS = (
    ("study", "task", "figure"),
    ("seed", "epochs", "value"),
    ("weight", "start", "gamma", "balance_rate"),
)
NUMBERS = (*NEEDED, *SETTINGS, "train_value", "E_real", "E_fake", "k")
DIGITS = {name: kind.digits for kind in KINDS.values() for name in kind.headline.values()}
SURE = 0.95


@dataclass(frozen=True)
class Experiment:
    """A row of the file. NaN.

    Not known, or, as in the settings of a task without an adversary, nothing that it has.
    """

    study: str
    task: str
    figure: str
    seed: float
    epochs: float
    value: float
    weight: float
    start: float
    gamma: float
    balance_rate: float
    train_value: float
    E_real: float
    E_fake: float
    k: float

    @property
    def plain(self) -> bool:
        """Whether it has no adversary."""
        return bool(np.isnan(self.weight))

    @property
    def setting(self) -> str:
        """How the game was played; "" without one."""
        return ", ".join(
            f"{name} {getattr(self, name):g}" for name in SETTINGS if not np.isnan(getattr(self, name))
        )


def study_blocks(path: Path) -> list[Block]:
    """A table for each study and figure, one row an experiment; none without the file.

    UserError if it cannot be used.
    """
    if not path.is_file():
        return []
    blocks, experiments = [], _read(path)
    for (study, figure), some in _by(experiments, "study", "figure").items():
        if (
            study == "game"
        ):  # what was run for other questions as long and with the same seed stands beside it
            alike = {(one.seed, one.epochs) for one in some}
            some = [
                one
                for one in experiments
                if one.figure == figure and (one.study == study or (one.seed, one.epochs) in alike)
            ]
        title = f"{TITLES.get(study, study)}: {figure}"
        words = (_seeds_say if study == "seeds" else _settings_say)(some, figure)
        blocks.append(Block(title, tuple(words), _table(some, title, figure)))
    return blocks


def _read(path: Path) -> list[Experiment]:
    table = read_table(path)
    missing = [name for name in (*WORDS, *NUMBERS) if name not in table]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}, found {', '.join(map(str, table.columns))}")
    experiments = []
    for line, row in enumerate(table.to_dict(orient="records"), start=2):
        number_of: dict[str, Any] = {}
        for name in NUMBERS:
            number_of[name] = float(pd.to_numeric(row[name], errors="coerce"))
            if not np.isfinite(number_of[name]) and (name in NEEDED or not pd.isna(row[name])):
                raise UserError(f"{path}: line {line}: {name} is {row[name]!r}, expected a number")
        word_of: dict[str, Any] = {name: "" if pd.isna(row[name]) else str(row[name]) for name in WORDS}
        if word_of["figure"] not in DIGITS:
            raise UserError(
                f"{path}: line {line}: figure is {word_of['figure']!r}, expected one of: {', '.join(DIGITS)}"
            )
        experiments.append(Experiment(**word_of, **number_of))
    return experiments


def _by(experiments: Iterable[Experiment], *names: str) -> dict[tuple, list[Experiment]]:
    """Experiments that are alike in these, in the file's order."""
    groups: dict[tuple, list[Experiment]] = {}
    for one in experiments:
        groups.setdefault(tuple(getattr(one, name) for name in names), []).append(one)
    return groups


def _table(some: list[Experiment], title: str, figure: str) -> Table:
    def cell(value: float, form: str) -> Cell:
        return Cell("" if np.isnan(value) else format(value, form), number=True)

    accuracy = f".{DIGITS[figure]}f"
    rows = []
    for one in some:
        cells = [Cell(one.task), cell(one.seed, ".0f"), cell(one.epochs, "g")]
        cells += [cell(getattr(one, name), "g") for name in SETTINGS]
        cells += [cell(one.value, accuracy), cell(one.train_value, accuracy)]
        cells += [cell(one.E_real, ".2e"), cell(one.E_fake, ".2e"), cell(one.k, ".3f")]
        rows.append(Row(tuple(cells), faint=one.plain))
    columns = (
        "Task",
        "Seed",
        "ResumableBatchSampler",
        *SETTINGS,
        figure,
        "trained on",
        "E(real)",
        "E(fake)",
        "k_t",
    )
    notes = (
        f"{figure}: on what the network did not learn from; trained on: the same on some of what it did. weight: λ_G; start: the share of "
        "the steps before the game; gamma: γ; balance_rate: λ_k. E(real), E(fake) and k_t: means over the last tenth of a run. "
        "Faint: no adversary.",
    )
    return Table(title, columns, tuple(rows), notes=notes)


def _counterparts(some: list[Experiment], epochs: float) -> list[Experiment]:
    """The runs without an adversary that were as long; none where they are of several tasks."""
    plain = [one for one in some if one.plain and one.epochs == epochs]
    return plain if len({one.task for one in plain}) == 1 else []


def _seeds_say(some: list[Experiment], figure: str) -> list[str]:
    """Each setting of the game less the run of the same seed and length without an adversary."""
    words = []
    for (task, epochs, setting), played in _by(
        [one for one in some if not one.plain], "task", "epochs", "setting"
    ).items():
        plain_of = {one.seed: one for one in _counterparts(some, epochs)}
        pairs = [
            (plain_of[one.seed], one)
            for one in {one.seed: one for one in played}.values()
            if one.seed in plain_of
        ]
        if pairs:
            words += _pairs_say(pairs, figure, f"{task} ({epochs:g} epochs, {setting})")
    return words


def _pairs_say(pairs: list[tuple[Experiment, Experiment]], figure: str, what: str) -> list[str]:
    digits, count = DIGITS[figure], len(pairs)
    plain_S, played_S = (np.array([pair[which].value for pair in pairs]) for which in (0, 1))
    change_S = played_S - plain_S
    mean = float(change_S.mean())
    means = f"{figure} is {plain_S.mean():.{digits}f} for {pairs[0][0].task} and {played_S.mean():.{digits}f} for {what}"
    if count == 1:
        return [
            f"{means}, a difference of {signed(mean, digits)} with a single seed, which nothing tells from chance."
        ]
    reach = float(student.ppf((1 + SURE) / 2, count - 1) * change_S.std(ddof=1) / count**0.5)
    low, high = mean - reach, mean + reach
    trained = float(np.mean([played.train_value - plain.train_value for plain, played in pairs]))
    words = [
        f"{means}, means of {count} seeds, which differ among themselves by up to {np.ptp(plain_S):.{digits}f} and "
        f"{np.ptp(played_S):.{digits}f}.",
        f"Seed by seed the adversary changes it by {', '.join(signed(change, digits) for change in change_S)}: {signed(mean, digits)} on "
        f"average, {SURE:.0%} interval {signed(low, digits)} to {signed(high, digits)} (Student's t)."
        + ("" if np.isnan(trained) else f" On what was trained on, {signed(trained, digits)} on average."),
    ]
    if low > 0:
        words.append(f"By these runs the adversary raises {figure} here.")
    elif high < 0:
        words.append(f"By these runs the adversary costs accuracy here: {-mean:.{digits}f} of {figure}.")
    else:
        words.append(
            "The interval holds 0: the adversary brings nothing here that these runs can tell from chance."
        )
    return [" ".join(words)]


def _settings_say(some: list[Experiment], figure: str) -> list[str]:
    """The range over settings, by task and length of run; not which is to be chosen, which single runs do not tell."""
    digits, words = DIGITS[figure], []
    for (task, epochs), played in _by([one for one in some if not one.plain], "task", "epochs").items():
        low, high = min(played, key=lambda one: one.value), max(played, key=lambda one: one.value)
        said = (
            f"{task}, {len(played)} {'run' if len(played) == 1 else 'runs'} of {epochs:g} epochs: {figure} "
        )
        if len(played) > 1:
            said += f"from {low.value:.{digits}f} ({low.setting}) to {high.value:.{digits}f} ({high.setting})"
        else:
            said += f"{low.value:.{digits}f}"
        plain = _counterparts(some, epochs)
        if plain:
            values = [one.value for one in plain]
            said += f"; {plain[0].task} has {', '.join(f'{value:.{digits}f}' for value in values)}"
            highest = "it" if len(values) == 1 else "the highest of them"
            said += f", and none of these is above {highest}" if high.value <= max(values) else ""
        ratios = [one.E_fake / one.E_real for one in played if one.E_real > 0 and not np.isnan(one.E_fake)]
        if ratios:
            said += f". At the end E(fake) was {_range(ratios, '.3g')} times E(real)"
        ks = [one.k for one in played if not np.isnan(one.k)]
        if ks:
            said += f", k_t {_range(ks, '.3f')}" if ratios else f". At the end k_t was {_range(ks, '.3f')}"
        if len(_by(played, "setting")) == len(played):
            said += ". Each setting was run once, so differences between them are partly chance"
        words.append(said + ".")
    return words


def _range(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
