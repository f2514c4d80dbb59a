import re

import pytest

from gradwire.errors import GradwireError
from gradwire.report import follow, training_table, write
from gradwire.report.training import training_figure


def test_series_are_means_over_seeds(training_rows) -> None:
    plain, powersgd = follow(training_rows)
    assert (plain.name, powersgd.name, plain.seeds) == ("none", "powersgd:rank=4", 2)
    assert [point.round for point in plain.points] == [0, 10]
    assert plain.points[-1].measured == pytest.approx(0.85)
    assert plain.measured_std == pytest.approx(0.1 / 2**0.5)
    assert plain.points[0].train_loss != plain.points[0].train_loss


def test_data_and_model_are_named_where_they_differ(training_rows) -> None:
    other = [row | {"model": "lenet"} for row in training_rows]
    assert [s.name for s in follow(training_rows + other)][::2] == ["mlp · none", "lenet · none"]


def test_final_table(training_rows) -> None:
    table = training_table(follow(training_rows))
    assert table.rows[1] == (
        *("powersgd:rank=4", "10", "26 kB", "1 MB", "38×", "0.500", "0.600", "75.0 ± 7.1 %", "5 s"),
    )
    assert len(training_table(follow(training_rows), brief=True).columns) == 7


def test_bytes_within_a_decade_stand_on_an_axis_with_ticks(training_rows) -> None:
    both, one = follow(training_rows), follow(training_rows)[:1]
    for series, scale in ((both, "log"), (one, "linear")):
        axis = training_figure(series).axes[3]
        assert axis.get_xscale() == scale
        least, most = axis.get_xlim()
        assert any(least <= tick <= most for tick in axis.get_xticks())


def test_report_of_a_training_run(write_run, training_rows) -> None:
    folder = write_run(training_rows, pictures=False, command="train")
    page = write(folder).read_text().replace("<wbr>", "")
    assert "At 1/38 of the bytes, powersgd:rank=4 reaches 75.0 % test accuracy; plain SGD reaches 85.0 %" in page
    assert {"training.svg", "training.png", "summary.md", "summary.tex"} < {path.name for path in folder.iterdir()}


def test_missing_columns_are_named(write_run, training_rows) -> None:
    rows = [{name: value for name, value in row.items() if name != "test_loss"} for row in training_rows]
    with pytest.raises(GradwireError, match=r"results\.csv lacks the columns test_loss"):
        write(write_run(rows, pictures=False, command="train"))


def measured(rows, **columns):
    """The rows with other measures than accuracy: column → its value at the end."""
    return [
        {name: value for name, value in row.items() if name != "test_accuracy"}
        | {name: value * (2 - row["round"] / 10) for name, value in columns.items()}
        for row in rows
    ]


def test_a_regression_reports_its_absolute_error(write_run, training_rows) -> None:
    rows = measured(training_rows, test_absolute_error=0.25)
    for row in rows:
        row["test_absolute_error"] *= 2 if row["scheme"] == "none" else 1
    (plain, powersgd) = follow(rows)
    assert (plain.measure, plain.points[-1].measured, powersgd.points[0].measured) == ("absolute_error", 0.5, 0.5)
    assert "0.250 ± 0.000" in training_table(follow(rows)).rows[1]
    assert training_figure(follow(rows)).axes[2].get_ylabel() == "test absolute error"
    page = write(write_run(rows, pictures=False, command="train")).read_text()
    assert "reaches a test absolute error of 0.250; plain SGD reaches 0.500" in page
    assert "accuracy" not in page
    assert not re.search(r"\bimages?\b(?!/)", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))


def test_a_loss_of_ones_own_has_no_measure(write_run, training_rows) -> None:
    rows = measured(training_rows)
    assert follow(rows)[0].measure == ""
    assert len(training_figure(follow(rows)).axes) == 2
    page = write(write_run(rows, pictures=False, command="train")).read_text()
    assert "reaches a test loss of 0.600; plain SGD reaches 0.600" in page


def test_a_measure_that_nobody_knows_goes_by_its_name(training_rows) -> None:
    rows = measured(training_rows, test_f1_score=0.5)
    assert "test f1 score" in [column.title for column in training_table(follow(rows)).columns]


def test_schemes_with_different_measures_have_a_column_and_a_panel_each(training_rows) -> None:
    other = measured([row | {"data": "diabetes"} for row in training_rows], test_absolute_error=0.25)
    both = [{"test_accuracy": "", "test_absolute_error": "", **row} for row in (*training_rows, *other)]
    series = follow(both)
    table = training_table(series)
    assert [column.title for column in table.columns][-3:-1] == ["test accuracy", "test absolute error"]
    assert [row[-3:-1] for row in table.rows][::2] == [("85.0 ± 7.1 %", "–"), ("–", "0.250 ± 0.000")]
    assert len(training_figure(series).axes) == 6
