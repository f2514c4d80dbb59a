import pytest

from gradwire.errors import GradwireError
from gradwire.report import follow, training_table, write
from gradwire.report.training import training_figure


def test_series_are_means_over_seeds(training_rows) -> None:
    plain, powersgd = follow(training_rows)
    assert (plain.name, powersgd.name, plain.seeds) == ("none", "powersgd:rank=4", 2)
    assert [point.round for point in plain.points] == [0, 10]
    assert plain.points[-1].test_accuracy == pytest.approx(0.85)
    assert plain.accuracy_std == pytest.approx(0.1 / 2**0.5)
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
    page = write(folder).read_text()
    assert "At 1/38 of the bytes, powersgd:rank=4 reaches 75.0 % test accuracy; plain SGD reaches 85.0 %" in page
    assert {"training.svg", "training.png", "summary.md", "summary.tex"} < {path.name for path in folder.iterdir()}


def test_missing_columns_are_named(write_run, training_rows) -> None:
    rows = [{name: value for name, value in row.items() if name != "test_accuracy"} for row in training_rows]
    with pytest.raises(GradwireError, match=r"results\.csv lacks the columns test_accuracy"):
        write(write_run(rows, pictures=False, command="train"))


def test_a_run_without_accuracy_tells_its_error(write_run, training_rows) -> None:
    rows = [row | {"test_accuracy": "", "test_absolute_error": row["test_accuracy"]} for row in training_rows]
    series = follow(rows)
    assert [column.title for column in training_table(series).columns][-2] == "test absolute error"
    assert training_table(series).rows[1][-2] == "0.750 ± 0.071"
    assert training_figure(series).axes[2].get_ylabel() == "test absolute error"
    page = write(write_run(rows, pictures=False, command="train")).read_text()
    assert "powersgd:rank=4 reaches 0.750 test absolute error; plain SGD reaches 0.850" in page
