import math

import pytest
from rich.console import Console

from gradwire.report import Column, Table, formats, to_latex, to_markdown, to_rich

TABLE = Table(
    (Column("scheme", numeric=False), Column("SSIM")), (("a|b_c [red]", "0.9 ± 0.1"), ("d", "1")), note="50 %"
)


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "| scheme | SSIM |\n| :--- | ---: |\n| a\\|b_c [red] | 0.9 ± 0.1 |\n| d | 1 |\n\n50 %\n"
    )


def test_latex_escapes() -> None:
    text = to_latex(TABLE, "Leakage & cost")
    assert r"\caption{Leakage \& cost 50 \%}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"  a|b\_c [red] & 0.9 $\pm$ 0.1 \\" in text


def test_terminal_aligns_figures_and_shows_brackets() -> None:
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(to_rich(TABLE))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert "a|b_c [red]  0.9 ± 0.1" in "\n".join(lines)
    assert " d                    1" in lines
    assert "50 %" in lines


@pytest.mark.parametrize("width", [39, 40, 80, 200])
def test_a_terminal_that_is_too_narrow_loses_nothing(width: int) -> None:
    figures = {f"a heading of its own, number {n}": f"{n}.123 ± 0.456" for n in range(4)}
    table = Table.of([{"scheme": "topk:match_rank=1", **figures}, {"scheme": "none", **figures}], ("scheme",), "so")
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(to_rich(table))
    text = "".join(console.export_text().split())
    for told in (*figures, *figures.values()):
        assert text.count("".join(told.split())) >= 1, told
    assert all(text.count(value.replace(" ", "")) == 2 for value in figures.values())
    assert "…" not in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (5310, "5.3 kB"),
        (53_100, "53 kB"),
        (999_600, "1 MB"),
        (2e12, "2000 GB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert formats.size(count) == text


def test_ratios() -> None:
    assert [formats.times(x) for x in (1, 8.94, 38.2)] == ["1×", "8.9×", "38×"]
    assert [formats.part(x) for x in (38.2, 1, 0.5)] == ["1/38 of the bytes", "all of the bytes", "2 times the bytes"]


def test_what_is_not_measured_is_a_dash() -> None:
    assert {formats.size(math.nan), formats.percent(None), formats.spread(math.nan, None)} == {formats.NOTHING}


def test_a_terminal_folds_names_behind_marks() -> None:
    table = Table.of(
        [{"scheme": "topk:ratio=0.01,momentum=0.9", "attack": "tag:TAG", "SSIM": "0.9"}], ("scheme", "attack")
    )
    console = Console(width=30, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(to_rich(table))
    words = console.export_text().split()
    assert words[-5:] == ["topk:", "tag:TAG", "0.9", "ratio=0.01,", "momentum=0.9"]
