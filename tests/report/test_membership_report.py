import math

import pytest
import torch
from safetensors.torch import save_file

from gradwire.errors import GradwireError
from gradwire.metrics import roc
from gradwire.report import MEMBERSHIP_COLUMNS, findings, membership_table, table, write
from gradwire.report.membership.page import headline, tradeoff_figure
from gradwire.runs import write_table


def row(attack: str = "loss", threshold: str = "shadow", tpr: float = 0.002, **others: object) -> dict[str, object]:
    values: dict[str, object] = dict.fromkeys(MEMBERSHIP_COLUMNS, "")
    values |= {"data": "cifar10", "model": "resnet18", "scheme": "none", "seed": 0, "device": "cpu", "seconds": 1}
    values |= {"bytes_up": 4000000, "bytes_down": 4000000, "ratio": 1.0, "attack": attack, "threshold": threshold}
    values |= {"balanced_accuracy": 0.551, "low": 0.542, "high": 0.56, "members": 5000, "nonmembers": 5100}
    for name, value in (("auc", 0.571), ("tpr_at_1e-2", 0.02), ("tpr_at_1e-3", tpr)):
        values |= {name: value, f"{name}_low": value / 2, f"{name}_high": value * 2}
    values |= {"finds": "tpr_at_1e-3" if threshold == "shadow" and tpr >= 0.03 else "", "p": 0.01}
    return values | {"epsilon": 0.25 if threshold == "shadow" else ""} | others


ROWS = [row(), row(threshold="target"), row("lira", tpr=0.05), row("cosine", tpr=0.03, knowledge="adaptive")]


def test_a_finding_has_its_figures_and_their_intervals() -> None:
    loss = findings(ROWS)[0]
    assert (loss.name, loss.by, loss.threshold, loss.plain) == ("none", "loss", "shadow", True)
    assert loss.balanced_accuracy == (0.551, 0.542, 0.56, 1)
    assert loss.tpr_at_1e3 == (0.002, 0.001, 0.004, 1)
    assert loss.epsilon == 0.25
    assert math.isnan(findings(ROWS)[1].epsilon)


def test_the_table() -> None:
    found = membership_table(findings(ROWS))
    intervals = ("55.1 (54.2–56.0)", "0.571 (0.285–1.142)", "2.00 (1.00–4.00)")
    assert found.rows[0] == ("none", "loss", "shadow", *intervals, "0.20 (0.10–0.40)", "–", "0.25")
    assert [line[-2] for line in found.rows] == ["–", "–", "at 0.1 %", "at 0.1 %"]
    assert found.rows[1][-1] == "–"
    assert found.rows[3][1] == "cosine, adaptive"
    assert "Over 5,000 members and 5,100 other candidates" in found.note
    assert membership_table(findings(ROWS), brief=True).rows[0][3:] == ("55.1", "0.571", "0.20", "–")


def test_several_seeds_are_one_finding_with_their_spread() -> None:
    (found,) = findings([row(balanced_accuracy=0.5), row(balanced_accuracy=0.6, seed=1)])
    assert found.balanced_accuracy.text() == "55.0 ± 7.1"


def test_data_are_named_where_they_differ() -> None:
    assert [f.name for f in findings([row(), row(data="mnist")])] == ["cifar10 · none", "mnist · none"]


def test_a_figure_that_there_is_none_of() -> None:
    audit = row("one-run:mislabelled:100", "fixed") | dict.fromkeys(("auc", "low", "high", "tpr_at_1e-3"), "")
    assert membership_table(findings([audit])).rows[0][3:5] == ("55.1", "–")


@pytest.mark.parametrize(("claimed", "text"), [("", "0.25"), (8.0, "0.25 of 8")])
def test_a_bound_stands_beside_what_the_scheme_claims(claimed, text) -> None:
    assert membership_table(findings([row(epsilon_claimed=claimed)])).rows[0][-1] == text


@pytest.fixture
def folder(write_run):
    made = write_run(ROWS, pictures=False, command="membership", settings={"shadows": 64})
    random = torch.Generator().manual_seed(0)
    scores, members = torch.randn(1000, generator=random), torch.rand(1000, generator=random) < 0.5
    curve = roc(scores + members, members).points()
    names = ("none|loss|", "none|lira|", "none|cosine|adaptive")
    save_file({name: curve.clone() for name in names}, made / "curves.safetensors")
    return made


def test_the_page(folder) -> None:
    page = write(folder).read_text()
    assert "At one false alarm in 1,000, the lira attack finds 5.0 % of the members of plain training" in page
    assert "Of plain training, the loss attack finds 0.2 %, at a balanced accuracy of 55.1 %." in page
    assert page.count("data:image/svg+xml") == 2
    assert {"curves.svg", "curves.png", "summary.md", "summary.tex"} < {path.name for path in folder.iterdir()}
    assert table(folder).row_count == len(ROWS) - 1  # without the one of a threshold chosen on the answers


def test_the_same_folder_gives_the_same_files(folder) -> None:
    before = {path.name: path.read_bytes() for path in write(folder).parent.iterdir()}
    assert before == {path.name: path.read_bytes() for path in write(folder).parent.iterdir()}


def test_a_curve_runs_in_steps_as_no_threshold_divides_a_tie() -> None:
    tied = {"none|loss|": torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.75, 1.0]])}
    line = tradeoff_figure(tied, findings(ROWS)).axes[0].lines[0]
    assert line.get_drawstyle() == "steps-post"


def test_a_folder_without_curves_has_a_page_without_them(folder) -> None:
    (folder / "curves.safetensors").unlink()
    page = write(folder).read_text()
    assert "data:image/svg+xml" not in page
    assert "Members found" not in page


def test_curves_of_another_shape_are_refused(folder) -> None:
    save_file({"none|loss|": torch.zeros(3, 4)}, folder / "curves.safetensors")
    with pytest.raises(GradwireError, match=r"of shape \(3, 4\); a curve is \(2, points\)"):
        write(folder)


def test_a_scheme_stands_beside_plain_training(write_run) -> None:
    other = row("lira", tpr=0.04, scheme="topk:ratio=0.01")
    page = write(write_run([*ROWS[:2], row("lira", tpr=0.03), other], pictures=False, command="membership"))
    page = page.read_text().replace("<wbr>", "")
    assert "finds 4.0 % of the members of training with topk:ratio=0.01" in page
    assert "Of the members of plain training, it finds 3.0 %." in page


def test_missing_columns_are_named(write_run) -> None:
    rows = [{name: value for name, value in each.items() if name != "auc_low"} for each in ROWS]
    with pytest.raises(GradwireError, match=r"results\.csv lacks the columns auc_low"):
        write(write_run(rows, pictures=False, command="membership"))


def page_of(write_run, *rows) -> str:
    return write(write_run(list(rows), pictures=False, command="membership")).read_text()


def test_what_chance_can_do_is_no_finding(write_run) -> None:
    page = page_of(write_run, row(tpr=0.0015), row("lira", tpr=0.0018))
    assert "No attack in this table was found to tell members from others better than chance would" in page
    assert "; the intervals allow an AUC of up to 1.14" in page
    assert "lira attack finds" not in page


def test_the_headline_takes_the_lowest_rate_at_which_anything_is_found() -> None:
    """Not the highest figure: a row that is beyond chance at 1 in 100 only says so."""
    weak = row("rmia", finds="tpr_at_1e-2") | {"tpr_at_1e-2": 0.04, "tpr_at_1e-3": ""}
    said = headline(findings([weak, row(finds="auc")]))
    assert said == (
        "At one false alarm in 100, the rmia attack finds 4.0 % of the members of plain training; guessing finds 1 %. "
        "Over all rates: AUC 0.571 (0.285–1.142)"
    )
    said = headline(findings([weak, row("lira", tpr=0.031)]))
    assert said.startswith("At one false alarm in 1,000, the lira attack finds 3.1 %")


def test_an_area_beyond_chance_names_nobody(write_run) -> None:
    page = page_of(write_run, row("lira", finds="auc"), row())
    assert "The lira attack tells members of plain training from others, AUC 0.571 (0.285–1.142)" in page
    assert "at 1 % and 0.1 % false alarms it was not found to name more than guessing" in page
    rare = {"finds": "auc", "tpr_at_1e-3": ""}
    assert "; at 1 % false alarms it was not found" in headline(findings([row(**rare)]))
    assert headline(findings([row(**rare) | {"tpr_at_1e-2": ""}])).endswith(
        "no low rate of false alarms could be judged"
    )
    assert "finds 0.2 % of the members" not in page


def test_a_threshold_chosen_on_the_answers_is_no_headline_and_stands_apart(write_run) -> None:
    page = page_of(write_run, row(threshold="target", tpr=0.5), row(tpr=0.05))
    assert "finds 5.0 % of the members" in page
    assert page.index("Thresholds chosen on the answers: optimistic") > page.index("What the models&#39; answers tell")


def test_several_seeds_find_what_each_of_them_finds() -> None:
    (both,) = findings([row(finds="tpr_at_1e-3"), row(finds="auc", seed=1)])
    assert both.finds == "auc"
    with pytest.raises(GradwireError, match="column finds holds 'much'"):
        findings([row(finds="much")])


def test_a_permuted_truth_stands_at_the_end(write_run) -> None:
    made = write_run(ROWS, pictures=False, command="membership")
    write_table(made / "permuted.csv", MEMBERSHIP_COLUMNS, [row(balanced_accuracy=0.4987, finds="")])
    page = write(made).read_text()
    assert page.index("Self-test: the same tables of a permuted truth") < page.index("49.9")


def test_members_are_called_what_they_are(write_run) -> None:
    domain = {"name": "columns", "what": "rows", "scores": ["fields"]}
    page = write(write_run(ROWS, pictures=False, command="membership", domain=domain)).read_text()
    assert "5,100 other candidates of a row&#39;s targets, which are rows." in page
