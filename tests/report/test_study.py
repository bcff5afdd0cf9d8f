"""The study of the adversary: its runs as tables, and the mean difference with its interval."""

import pytest

from pose.report.study import study_blocks

SETTINGS = "weight,start,gamma,balance_rate"
COLUMNS = f"study,task,optimizer,seed,epochs,{SETTINGS},metric,value,train_value,E_real,E_fake,k"


@pytest.fixture
def study(bare_root):
    def write(*lines, columns=COLUMNS):
        (bare_root / "studies").mkdir(exist_ok=True)
        path = bare_root / "studies/adversary.csv"
        path.write_text("\n".join([columns, *lines]) + "\n")
        return path

    return write


def seeds(*changes, plain=70.0, metric="PCKh@0.5"):
    """A run with and one without an adversary for each seed, so far apart."""
    lines = []
    for seed, change in enumerate(changes, start=1):
        value = plain + 0.1 * seed
        lines.append(f"seeds,hgpose,muon,{seed},10,,,,,{metric},{value},{value + 2},,,")
        settings = "0.01,0.5,0.5,0.001"
        lines.append(
            f"seeds,advpose,muon,{seed},10,{settings},{metric},{value + change},{value + 3},1e-4,2e-3,0.02"
        )
    return lines


def rows(block, *, marked):
    return [[cell.text for cell in row.cells] for row in block.table.rows if row.marked == marked]


def test_each_run_is_a_row_of_the_table_of_its_study_and_metric(study):
    other = "settings,advpose,muon,1,4,1,0.5,0.5,0.001,PCKh@0.5,50,52,1e-4,1e-3,0.3"
    first, second = study_blocks(study(*seeds(-0.5, 0.5), other))
    assert (first.title, second.title) == ("Study: seeds, PCKh@0.5", "Study: settings, PCKh@0.5")
    assert first.table.columns[4:10] == ("weight", "start", "gamma", "balance_rate", "PCKh@0.5", "trained on")
    plain, adversarial = (" ".join(filter(None, row)) for row in rows(first, marked=False)[2:])
    assert plain == "hgpose muon 2 10 70.2 72.2"
    assert adversarial == "advpose muon 2 10 0.01 0.5 0.5 0.001 70.7 73.2 1.00e-04 2.00e-03 0.020"
    assert [row.faint for row in first.table.rows] == [True, False, True, False]
    assert rows(second, marked=False)[0][0] == "advpose"


@pytest.mark.parametrize(
    ("lines", "change", "interval"),
    [
        (seeds(0, 1, 2), "+1.0", "−1.5 to +3.5"),  # 1 +- 4.303 / sqrt(3), Student's
        (seeds(-2, -2, -2), "−2.0", "−2.0 to −2.0"),
        (seeds(0.01, -0.02, 0.01, plain=0.2, metric="AP"), "0.000", "−0.043 to +0.043"),
    ],
)
def test_three_seeds_beside_the_plain_task_have_a_mean_difference_and_an_interval(
    study, lines, change, interval
):
    (block,) = study_blocks(study(*lines))
    (row,) = [row for row in block.table.rows if row.marked]
    assert [cell.text for cell in row.cells[:4]] == ["advpose − hgpose", "muon", "3 seeds", "10"]
    assert (row.cells[8].text, row.cells[8].below) == (change, interval)
    assert len(row.cells) == len(block.table.columns)
    assert row.cells[9].text.startswith("+1.0")  # on training samples


def test_fewer_seeds_or_other_lengths_have_no_interval(study):
    lines = seeds(1.9, 2.0, 2.1)
    for some in (
        lines[:4],  # two seeds
        lines[1:],  # one of three has no counterpart
        [*lines[1::2], *(line.replace(",10,", ",20,") for line in lines[::2])],  # trained longer
        [*lines[1::2], *(line.replace("muon", "adamw") for line in lines[::2])],  # by another optimizer
        [*lines[2:], lines[0].replace("hgpose", "another")],  # of several plain tasks
    ):
        (block,) = study_blocks(study(*some))
        assert rows(block, marked=True) == []


@pytest.mark.parametrize(
    ("columns", "line", "words"),
    [
        (COLUMNS, "", "no rows"),
        ("study,task", "seeds,advpose", "no column optimizer, metric"),
        (COLUMNS, seeds(1)[0].replace("PCKh@0.5", "mAP"), "cannot be read as the table of a study"),
    ],
)
def test_a_damaged_study_is_named_on_the_page(study, bare_root, params_of, page_of, columns, line, words):
    study(*([line] if line else []), columns=columns)
    page = page_of(bare_root, params_of("hgpose"))
    assert f"studies/adversary.csv: {words}" in page.text
    assert "PCKh@0.5 within half a head size 50.0" in page.text


def test_a_study_is_on_the_page_and_its_names_are_text(study, bare_root, params_of, page_of):
    assert "Study" not in page_of(bare_root, params_of("hgpose")).text
    study("<b>,<u>adv,muon,1,4,0.1,<i>,0.5,0.1,AP,0.1,0.1,1,1,0")
    page = page_of(bare_root, params_of("hgpose"))
    assert not page.all("b") + page.all("u")
    assert "Study: <b>, AP" in page.text
    assert "<u>adv muon 1 4 0.1 <i>" in page.text
