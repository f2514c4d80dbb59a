"""Audits of sentences, of rows of tables, and of what gradwire does not know."""

import json
import re

import pytest
from rich.console import Console

from gradwire.errors import GradwireError
from gradwire.report import leakage_table, pair, summarise, table, to_markdown, write
from gradwire.report.audit.figure import leakage_figure
from gradwire.report.audit.leakage import scores_table
from gradwire.report.audit.words import headline
from gradwire.report.domain import RunDomain
from gradwire.report.run import read

FIELDS = RunDomain("columns", "rows", ("fields",))
ERRORS = RunDomain("numbers", "inputs", ("relative_error",), higher=False)


def text_of(page: str) -> str:
    """What a page says, without its styles, pictures and tags."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", body).split())


def cells(row, domain: RunDomain, **scores: list[tuple[float, float]]):
    """Rows of schemes `none` and `topk`: for each, victims' scores and what knowing nothing gets of them."""
    return [
        {**row(scheme, victim=victim), domain.leading: score, "uninformed": nothing}
        for scheme, values in scores.items()
        for victim, (score, nothing) in enumerate(values)
    ]


def test_percentages_are_of_what_is_gained_over_knowing_nothing(row) -> None:
    plain, sparse = summarise(cells(row, FIELDS, none=[(0.9, 0.5), (0.9, 0.5)], topk=[(0.6, 0.5), (0.8, 0.5)]), FIELDS)
    assert (plain.uninformed, plain.gain, plain.percent_of_none) == (0.5, pytest.approx(0.4), pytest.approx(100))
    assert sparse.percent_of_none == pytest.approx(50)


def test_less_than_knowing_nothing_is_nothing(row) -> None:
    assert summarise(cells(row, FIELDS, none=[(0.9, 0.5)], topk=[(0.4, 0.5)]), FIELDS)[1].percent_of_none == 0


def test_there_is_no_percentage_of_what_may_be_chance(row) -> None:
    rows = cells(row, FIELDS, none=[(0.5, 0.5), (0.6, 0.5)], topk=[(0.55, 0.5)])
    assert [s.percent_of_none for s in summarise(rows, FIELDS)] == [None, None]


def test_there_is_no_percentage_where_nobody_says_what_knowing_nothing_gets(row) -> None:
    rows = cells(row, FIELDS, none=[(0.9, 0.5), (0.9, "")], topk=[(0.6, 0.5)])
    plain, sparse = summarise(rows, FIELDS)
    assert (plain.uninformed, plain.percent_of_none, sparse.percent_of_none) == (None, None, None)


def test_errors_leak_the_more_the_lower_they_are(row) -> None:
    rows = cells(row, ERRORS, none=[(0.0, 1.0)], topk=[(0.25, 1.0)])
    assert summarise(rows, ERRORS)[1].percent_of_none == pytest.approx(75)
    both = [*rows, *({**each, "knowledge": "adaptive", "relative_error": 0.01} for each in rows)]
    assert "reaches 0.01 (relative error), one who does not 0.25" in headline(pair(summarise(both, ERRORS)))


def test_the_headline_has_plain_figures_beside_knowing_nothing(row) -> None:
    rows = cells(row, FIELDS, none=[(1.0, 0.5)], topk=[(0.6, 0.5)])
    assert headline(pair(summarise(rows, FIELDS))) == (
        "At 1/2 of the bytes, the naive attack on topk reaches 0.60 (share of fields right); "
        "one who has seen nothing reaches 0.50"
    )
    assert headline(pair(summarise(rows[:1], FIELDS))) is None


def test_the_table_has_what_knowing_nothing_gets(table_run) -> None:
    found = leakage_table(summarise(read(table_run).rows, read(table_run).domain))
    assert [column.title for column in found.columns] == [
        *("scheme", "bytes up", "ratio", "knowing nothing", "naive fields right", "adaptive fields right", "success")
    ]
    line = to_markdown(found).splitlines()[3]
    assert "| 0.50 | 0.60 ± 0.00 ( 20 %) | 0.90 ± 0.00 ( 80 %) | 0 % / 100 % |" in line
    assert "fields right ≥ 0.9" in found.note


def test_all_scores_have_a_table(text_run) -> None:
    found = scores_table(summarise(read(text_run).rows, read(text_run).domain))
    assert [column.title for column in found.columns][2:5] == ["positions right", "token precision", "token recall"]
    assert len(found.rows) == 6
    assert "ROUGE-L" in (write(text_run).parent / "summary.md").read_text()


def test_the_figure_has_a_line_for_knowing_nothing(table_run, text_run, outside_run) -> None:
    for folder, drawn in ((table_run, True), (text_run, True), (outside_run, False)):
        run = read(folder)
        (ax, *_) = leakage_figure(summarise(run.rows, run.domain)).axes
        assert any("nothing" in text.get_text() for text in ax.texts) is drawn
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "warping distance: lower gives away more"


def test_pages_speak_of_rows_sentences_and_series(table_run, text_run, outside_run) -> None:
    for folder, what in ((table_run, "rows"), (text_run, "sentences"), (outside_run, "series")):
        said = text_of(write(folder).read_text())
        assert f"looks for the {what} whose update" in said
        assert f"Each victim sends the update of 2 {what}." in said
        assert f"The targets of the {what} are known to it." in said
        assert not re.search(r"\b(image|pixel|picture|PSNR|SSIM)", said)


def test_what_is_assumed_of_the_inputs_is_said(table_run, text_run) -> None:
    assert "It knows the 3 fields of the table." in text_of(write(table_run).read_text())
    assert "It knows the tokenizer (4096 tokens)." in text_of(write(text_run).read_text())


def test_pages_stand_alone_and_are_written_alike_twice(table_run, text_run, outside_run) -> None:
    for folder in (table_run, text_run, outside_run):
        page = write(folder).read_text()
        assert all(a.startswith("data:image/") for a in re.findall(r'(?:src|srcset|href)="([^"]*)"', page))
        assert "<script" not in page
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        write(folder)
        assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
        assert not (folder / "reconstructions.png").exists()


def test_terminal_tables_fit_eighty_characters(table_run, text_run, outside_run) -> None:
    for folder in (table_run, text_run, outside_run):
        console = Console(width=80)
        with console.capture() as capture:
            console.print(table(folder))
        assert any("powersgd:rank=4" in line and "38×" in line for line in capture.get().splitlines())


def test_without_examples_the_report_says_so(text_run) -> None:
    (text_run / "examples.json").unlink()
    assert "no examples.json with the originals, so there are no sentences to be seen" in write(text_run).read_text()


def test_a_score_that_results_lack_is_named(table_run) -> None:
    config = json.loads((table_run / "config.json").read_text())
    config["domain"]["scores"] = ["fields", "speed"]
    (table_run / "config.json").write_text(json.dumps(config))
    with pytest.raises(GradwireError, match=r"results\.csv lacks the columns speed"):
        write(table_run)


@pytest.mark.parametrize(
    "broken", [{"originals": 3}, {"originals": [[[["a"]]]]}, {"none|fields|naive": [[[["", "a"]]]]}]
)
def test_examples_of_another_form_are_named(text_run, broken) -> None:
    (text_run / "examples.json").write_text(json.dumps(broken))
    with pytest.raises(GradwireError, match=r"examples\.json holds '.*' in another form"):
        write(text_run)


def test_what_counts_as_a_success_and_who_knows_the_targets_may_be_said_in_words(text_run) -> None:
    config = json.loads((text_run / "config.json").read_text())
    config["domain"] |= {"success": "every sentence, whole", "targets": "Its targets are the sentences themselves."}
    (text_run / "config.json").write_text(json.dumps(config))
    said = text_of(write(text_run).read_text())
    assert "Success: every sentence, whole." in said
    assert "Its targets are the sentences themselves." in said
    assert "The targets of the sentences" not in said
    assert "given away (every sentence, whole)" in (text_run / "summary.md").read_text()


def test_schemes_that_give_both_adversaries_as_much(row) -> None:
    rows = cells(row, FIELDS, none=[(1.0, 0.5)], topk=[(0.6, 0.5)])
    both = [{**each, "knowledge": knowledge} for each in rows for knowledge in ("naive", "adaptive")]
    assert headline(pair(summarise(both, FIELDS))) == (
        "At 1/2 of the bytes, topk gives 0.60 (share of fields right) to both adversaries; "
        "one who has seen nothing reaches 0.50"
    )
