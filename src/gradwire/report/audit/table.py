"""The table of an audit: one row a scheme, with both knowledges side by side."""

from collections.abc import Sequence

from gradwire.metrics import SUCCESS
from gradwire.report.audit.summary import Summary, labels, pair
from gradwire.report.formats import NOTHING, percent, size, spread, times
from gradwire.report.tables import Column, Table


def leakage_table(summaries: Sequence[Summary], brief: bool = False) -> Table:
    """Scheme, bytes up and ratio; SSIM (mean ± sample std, and per cent of `none`) naive and adaptive; success.

    Data, model, attack, adversary, mode and batch get a column where they differ between the summaries.

    Args:
        summaries: what `summarise` gives.
        brief: leave the column of success out (share of victims with SSIM ≥ 0.6, naive / adaptive), so that the table
            fits a terminal of 80 characters.
    """
    pairs = pair(summaries)
    told = labels(p.setting for p in pairs)
    varying = next(iter(told.values()), {})
    columns = (
        *(Column(field, numeric=False) for field in varying),
        Column("scheme", numeric=False),
        *map(Column, ("bytes up", "ratio", "naive SSIM", "adaptive SSIM")),
        *([] if brief else [Column("success")]),
    )
    rows = tuple(
        (
            *told[p.setting].values(),
            p.scheme,
            size(p.present[-1].bytes_up),
            times(p.present[-1].ratio),
            _similarity(p.naive),
            _similarity(p.adaptive),
            *([] if brief else [f"{_success(p.naive)} / {_success(p.adaptive)}"]),
        )
        for p in pairs
    )
    return Table(columns, rows, note=_note(summaries, brief))


def _note(summaries: Sequence[Summary], brief: bool) -> str:
    counts = sorted({summary.victims for summary in summaries})
    victims = (
        f"{counts[0]} victim{'s' if counts[0] > 1 else ''}"
        if len(counts) == 1
        else f"{counts[0]} to {counts[-1]} victims"
    )
    shares = "" if brief else f" Success: share of victims with SSIM ≥ {SUCCESS}, naive / adaptive."
    return f"SSIM: mean ± sample standard deviation over {victims}, and per cent of what none leaks.{shares}"


def _similarity(summary: Summary | None) -> str:
    if summary is None:
        return NOTHING
    # Padded to the width of 100 %, so that means stand under means.
    return f"{spread(summary.ssim, summary.ssim_std)} ({percent(summary.percent_of_none):>5})"


def _success(summary: Summary | None) -> str:
    return NOTHING if summary is None else percent(100 * summary.success)
