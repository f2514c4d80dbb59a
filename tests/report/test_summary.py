import math

import pytest

from gradwire.errors import GradwireError
from gradwire.report import leakage_table, pair, summarise, to_markdown


def test_figures_by_hand(rows) -> None:
    summary = summarise(rows)[3]
    assert (summary.scheme, summary.knowledge, summary.victims) == ("powersgd:rank=4", "adaptive", 2)
    assert summary.score == pytest.approx(0.7)
    assert summary.score_std == pytest.approx(math.sqrt((0.2**2 + 0.2**2) / 1))
    assert summary.success == 0.5
    assert (summary.scores["psnr"], summary.scores["mse"]) == (20.0, 0.01)
    assert (summary.bytes_up, summary.ratio) == (1000, 38.0)


def test_per_cent_is_of_the_best_knowledge_of_none(rows) -> None:
    percents = {(s.scheme, s.knowledge): s.percent_of_none for s in summarise(rows)}
    assert percents["none", "naive"] == pytest.approx(100)
    assert percents["none", "adaptive"] == pytest.approx(100 * 0.8 / 0.9)
    assert percents["powersgd:rank=4", "adaptive"] == pytest.approx(100 * 0.7 / 0.9)


def test_per_cent_compares_only_the_same_attack_and_setting(row) -> None:
    cells = [row(ssim=0.5), row(ssim=1.0, attack="dlg"), row("topk:ratio=0.1", ssim=0.25)]
    assert summarise(cells)[2].percent_of_none == pytest.approx(50)
    for other in ({"attack": "dlg"}, {"mode": "train"}, {"adversary": "client"}, {"data": "mnist"}, {"batch": 4}):
        assert summarise([row(ssim=0.5, **other), row("topk:ratio=0.1", ssim=0.25)])[1].percent_of_none is None


def test_nothing_is_a_share_of_nothing(row) -> None:
    assert summarise([row(ssim=0.0), row("topk:ratio=0.1", ssim=0.2)])[1].percent_of_none is None


def test_one_victim_has_no_deviation(row) -> None:
    assert summarise([row()])[0].score_std is None


def test_order_of_appearance_is_kept(rows) -> None:
    assert [s.scheme for s in summarise(reversed(rows))] == [s.scheme for s in reversed(summarise(rows))]
    assert [p.scheme for p in pair(summarise(rows))] == ["none", "powersgd:rank=4", "topk:match_rank=4"]


def test_rows_from_a_file_and_from_memory_agree(rows) -> None:
    assert summarise([{name: str(value) for name, value in row.items()} for row in rows]) == summarise(rows)


def test_families_leave_parameters_out(row) -> None:
    assert [summarise([row(s)])[0].family for s in ("none", "topk:ratio=0.1+sga:bits=16")] == ["none", "topk+sga"]


def test_the_table_names_what_differs(row) -> None:
    table = leakage_table(summarise([row(), row(attack="dlg")]))
    assert [column.title for column in table.columns][:2] == ["attack", "scheme"]
    assert [line[0] for line in table.rows] == ["iga", "dlg"]


def test_the_table_puts_naive_beside_adaptive(rows) -> None:
    line = to_markdown(leakage_table(summarise(rows))).splitlines()[3]
    assert line == ("| powersgd:rank=4 | 1 kB | 38× | 0.20 ± 0.14 ( 22 %) | 0.70 ± 0.28 ( 78 %) | 0 % / 50 % |")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ssim": "high"}, "column ssim of none holds 'high'; it should be a number"),
        ({"success": "perhaps"}, "column success of none holds 'perhaps'; it should be True or False"),
        ({"batch": ""}, "column batch of none holds ''; it should be a whole number"),
        ({"knowledge": "psychic"}, "unknown knowledge 'psychic'; known: naive, adaptive"),
    ],
)
def test_bad_cells_are_named(row, change: dict[str, str], message: str) -> None:
    with pytest.raises(GradwireError, match=message):
        summarise([row() | change])


def test_missing_columns_are_named(row) -> None:
    with pytest.raises(GradwireError, match="a row of results lacks the columns ssim, psnr"):
        summarise([{name: value for name, value in row().items() if name not in ("ssim", "psnr")}])
