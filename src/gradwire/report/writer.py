"""The folder of a run → its report."""

from collections.abc import Callable
from pathlib import Path

from gradwire.errors import GradwireError
from gradwire.report import costs, html, membership_words, network, pictures, speeds, study, words
from gradwire.report.curves import leakage_figure
from gradwire.report.figures import THEMES, render
from gradwire.report.leakage import leakage_table
from gradwire.report.membership import findings, membership_table
from gradwire.report.progress import training_figure
from gradwire.report.run import Kind, Run, read
from gradwire.report.summary import pair, summarise
from gradwire.report.tables import Table, to_latex, to_markdown
from gradwire.report.tradeoff import tradeoff_figure
from gradwire.report.training import follow, training_table


def write(folder: Path) -> Path:
    """Write the report of a run beside its results, replacing an earlier one.

    Written are report.html (self-contained), summary.md and summary.tex, and the pictures: leakage.svg, leakage.png
    and, where there are reconstructions, reconstructions.png for an audit; training.svg and training.png for training;
    curves.svg and curves.png, where there are curves, for membership; for a study, those of the commands it has cells
    of; network.svg and network.png for a network benchmark, speeds.svg and speeds.png for one of inversion,
    costs.svg and costs.png for one of secure sums.
    The same folder gives the same files, byte for byte.

    Args:
        folder: holds results.csv, and as a rule config.json and reconstructions.safetensors.

    Returns:
        The path of report.html.

    Raises:
        GradwireError: results.csv is missing, empty or lacks columns; a file cannot be read or written.
    """
    run = read(folder)
    files = WRITERS[run.kind](run)
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise GradwireError(f"the report cannot be written to {folder}: {error.strerror}") from error
    return folder / "report.html"


def _audit(run: Run) -> dict[str, bytes | str]:
    summaries = summarise(run.rows)
    pairs = pair(summaries)
    shown = pictures.rows(run, pairs)
    curves = {theme: render(leakage_figure(summaries, colours), "svg") for theme, colours in THEMES.items()}
    files: dict[str, bytes | str] = {
        "leakage.svg": curves["light"],
        "leakage.png": render(leakage_figure(summaries), "png"),
        "report.html": html.audit_page(run, summaries, shown, curves),
        **_texts(leakage_table(summaries), words.headline(pairs), words.baseline(pairs)),
    }
    if shown:
        figure = pictures.reconstructions_figure(pictures.originals(run), shown)
        files["reconstructions.png"] = render(figure, "png")
    return files


def _training(run: Run) -> dict[str, bytes | str]:
    series = follow(run.rows)
    table = training_table(series)
    curves = {theme: render(training_figure(series, colours), "svg") for theme, colours in THEMES.items()}
    return {
        "training.svg": curves["light"],
        "training.png": render(training_figure(series), "png"),
        "report.html": html.training_page(run, series, table, curves),
        **_texts(table, words.training_headline(series)),
    }


def _membership(run: Run) -> dict[str, bytes | str]:
    found = findings(run.rows)
    table = membership_table(found)
    figures: dict[str, bytes] = {}
    files: dict[str, bytes | str] = {}
    if run.curves:
        drawn = {theme: tradeoff_figure(run.curves, found, colours) for theme, colours in THEMES.items()}
        figures = {theme: render(figure, "svg") for theme, figure in drawn.items()}
        files = {"curves.svg": figures["light"], "curves.png": render(drawn["light"], "png")}
    return {
        **files,
        "report.html": html.membership_page(run, found, table, figures),
        **_texts(table, membership_words.headline(found), membership_words.beside(found)),
    }


def _study(run: Run) -> dict[str, bytes | str]:
    parts, claims = study.parts(run), study.claims(run.folder)
    figures = {part.name: part.figures for part in parts}
    tables = [table for table in (study.claims_table(claims), *(part.table for part in parts)) if table.rows]
    return {
        **{f"{name}.svg": drawn["light"] for name, drawn in figures.items()},
        "report.html": html.study_page(run, parts, claims),
        "summary.md": "\n".join(map(to_markdown, tables)),
        "summary.tex": "\n".join(map(to_latex, tables)),
    }


def _network(run: Run) -> dict[str, bytes | str]:
    found = network.paces(run.rows)
    table, headline = network.network_table(found), network.headline(found)
    curves = {theme: render(network.network_figure(found, colours), "svg") for theme, colours in THEMES.items()}
    return {
        "network.svg": curves["light"],
        "network.png": render(network.network_figure(found), "png"),
        "report.html": html.network_page(run, table, headline, curves),
        **_texts(table, headline),
    }


def _speeds(run: Run) -> dict[str, bytes | str]:
    found = speeds.points(run.rows)
    table, headline = speeds.speed_table(found), speeds.headline(found)
    curves = {theme: render(speeds.speed_figure(found, colours), "svg") for theme, colours in THEMES.items()}
    return {
        "speeds.svg": curves["light"],
        "speeds.png": render(speeds.speed_figure(found), "png"),
        "report.html": html.speeds_page(run, table, headline, curves),
        **_texts(table, headline),
    }


def _costs(run: Run) -> dict[str, bytes | str]:
    table = costs.cost_table(run.rows)
    curves = {theme: render(costs.cost_figure(run.rows, colours), "svg") for theme, colours in THEMES.items()}
    return {
        "costs.svg": curves["light"],
        "costs.png": render(costs.cost_figure(run.rows), "png"),
        "report.html": html.costs_page(run, table, curves),
        **_texts(table),
    }


WRITERS: dict[Kind, Callable[[Run], dict[str, bytes | str]]] = {
    "audit": _audit,
    "train": _training,
    "membership": _membership,
    "study": _study,
    "network": _network,
    "speed": _speeds,
    "cost": _costs,
}


def _texts(table: Table, *sentences: str | None) -> dict[str, bytes | str]:
    said = [sentence.rstrip(".") + "." for sentence in sentences if sentence]
    return {
        "summary.md": "\n".join([*(f"{sentence}\n" for sentence in said), to_markdown(table)]),
        "summary.tex": to_latex(table, " ".join(said)),
    }
