import pytest

from gradwire.report.run import read
from gradwire.report.study.page import grouped, sections


def labelled(*labels):
    return [{"label": label, "command": "train"} for label in labels]


def test_cells_of_a_group_are_shown_together_by_what_tells_them_apart():
    found = grouped(labelled("mlp IID: none", "mlp non-IID: none", "mlp IID: topk:ratio=0.1", "alone"))
    assert {group: [row["scheme"] for row in rows] for group, rows in found.items()} == {
        "mlp IID": ["none", "topk:ratio=0.1"],
        "mlp non-IID": ["none"],
        "": ["alone"],
    }


@pytest.mark.parametrize("labels", [("none", "topk:ratio=0.1"), ("mlp: none", "mlp: topk:ratio=0.1")])
def test_where_there_is_one_group_labels_are_left_whole(labels):
    assert [row["scheme"] for row in grouped(labelled(*labels))[""]] == list(labels)
    assert grouped([]) == {}


def test_every_group_has_a_table_and_a_figure_of_its_own(write_run, training_rows):
    rows = [{"command": "train", "label": f"{g}: {row['scheme']}", **row} for g in ("a", "b") for row in training_rows]
    found = sections(read(write_run(rows, pictures=False, command="study")))
    assert [section.name for section in found] == ["train-0", "train-1"]
    assert [section.title.rpartition(": ")[2] for section in found] == ["a", "b"]
    assert [row[0] for row in found[1].table.rows] == ["none", "powersgd:rank=4"]


def test_audits_of_each_domain_have_a_section_of_their_own(write_run, write_domain, row):
    told = {"name": "tokens", "what": "sentences", "scores": ["positions"], "higher": True}
    cell = write_domain(told, None)
    rows = [{"command": "audit", "label": each["scheme"], **each} for each in (*read(cell).rows, row(), row("topk"))]
    columns = dict.fromkeys(name for each in rows for name in each)
    study = write_run(
        [dict.fromkeys(columns, "") | each for each in rows], pictures=False, name="study", command="study"
    )
    (study / "cells").mkdir()
    cell.rename(study / "cells" / "text")
    found = [section for section in sections(read(study)) if section.name.startswith("audit")]
    assert [section.table.columns[3].title for section in found] == ["naive positions right", "naive SSIM"]
    assert [len(section.table.rows) for section in found] == [3, 2]
