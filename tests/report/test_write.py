import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from gradwire import report
from gradwire.errors import GradwireError
from gradwire.report import COST_COLUMNS, table, write

SCHEMES = ("none", "powersgd:rank=4", "topk:match_rank=4")
FILES = {"report.html", "summary.md", "summary.tex", "leakage.svg", "leakage.png", "reconstructions.png"}


def test_everything_is_written_and_named(write_run, rows) -> None:
    folder = write_run(rows, notes=["One restart was lost."], settings={"lr": 0.1, "schemes": ["none", "topk"]})
    path = write(folder)
    assert path == folder / "report.html"
    assert {file.name for file in folder.iterdir()} >= FILES
    page = path.read_text()
    for text in (*SCHEMES, "One restart was lost.", "none, topk", "victim 1 from"):
        assert text in page


def test_settings_that_cannot_be_guessed_are_explained(write_run, rows) -> None:
    page = write(write_run(rows, settings={"clients": 0, "chunk": 7})).read_text()
    assert "<dt>clients</dt><dd>as few as the attack needs</dd>" in page
    assert "<dt>chunk (victims at a time)</dt><dd>7</dd>" in page


def test_numbers_stay_whole_where_names_go_on_in_the_next_line(write_run, rows) -> None:
    page = write(
        write_run([{**row, "scheme": row["scheme"].replace("topk:", "a-b:tv=1e-4,")} for row in rows])
    ).read_text()
    assert 'a-b:<wbr>tv=<span class="whole">1e-4</span>,<wbr>match_<wbr>rank=4' in page


def test_the_page_stands_alone(write_run, rows) -> None:
    page = write(write_run(rows)).read_text()
    addresses = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "<script" not in page
    assert "url(" not in page


def test_every_picture_has_a_text(write_run, rows) -> None:
    page = write(write_run(rows)).read_text()
    assert all(" alt=" in image for image in re.findall(r"<img[^>]*>", page))


def test_names_are_escaped(write_run, rows) -> None:
    for row in rows:
        row["scheme"] = row["scheme"].replace("topk", "<script>alert('$')</script>$")
    page = write(write_run(rows, notes=["<b>"], settings={"<i>": "<u>"})).read_text()
    assert "&lt;script&gt;" in page
    assert not re.search(r"<(script|b|i|u)>", page)


def test_the_same_folder_gives_the_same_files(write_run, rows) -> None:
    folders = [write_run(rows, name=name) for name in ("one", "two")]
    for folder in folders:
        write(folder)
    for name in FILES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_writing_again_replaces(write_run, rows) -> None:
    folder = write_run(rows)
    first = write(folder).read_bytes()
    assert write(folder).read_bytes() == first


def test_without_reconstructions_the_report_says_so(write_run, rows) -> None:
    folder = write_run(rows, pictures=False)
    assert "no reconstructions.safetensors" in write(folder).read_text()
    assert not (folder / "reconstructions.png").exists()


def test_without_config_the_report_says_so(write_run, rows) -> None:
    folder = write_run(rows)
    (folder / "config.json").unlink()
    assert "no config.json" in write(folder).read_text()


def test_only_the_first_images_are_shown_of_large_batches(write_run, rows) -> None:
    folder = write_run(rows, pictures=False)
    images = torch.rand(3, 5, 3, 12, 9)
    save_file({"originals": images, "none|iga|naive": images.clone()}, folder / "reconstructions.safetensors")
    page = write(folder).read_text()
    assert "victim 1, image 2 from none, naive attack" in page
    assert "victim 1, image 3" not in page


def test_the_settings_that_differ_get_a_panel_and_a_label(write_run, rows) -> None:
    page = write(write_run(rows + [row | {"attack": "dlg"} for row in rows])).read_text()
    assert "attack dlg" in page


def test_many_rows_are_cut_short(write_run, row) -> None:
    page = write(write_run([row(victim=victim) for victim in range(1001)], pictures=False)).read_text()
    assert "The first 1000 of 1001 attacks" in page


def test_terminal_table_fits_eighty_characters(write_run, rows, training_rows) -> None:
    for folder in (write_run(rows), write_run(training_rows, pictures=False, name="train", command="train")):
        console = Console(width=80)
        with console.capture() as capture:
            console.print(table(folder))
        assert any("powersgd:rank=4" in line and "38×" in line for line in capture.get().splitlines())


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(GradwireError, match=r"holds no results\.csv"):
        write(tmp_path)


def test_results_without_rows(write_run, row) -> None:
    folder = write_run([row()])
    results = folder / "results.csv"
    results.write_text(results.read_text().splitlines()[0] + "\n")
    with pytest.raises(GradwireError, match="has no rows"):
        write(folder)


def test_results_without_columns(write_run) -> None:
    with pytest.raises(GradwireError, match=r"results\.csv lacks the columns .*attack, knowledge"):
        write(write_run([{"data": "digits", "scheme": "none"}], pictures=False))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.csv", b"\xff\xfe\x00", "cannot be read as CSV"),
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"[]", "holds a list"),
        ("reconstructions.safetensors", b"nothing", "cannot be read as safetensors"),
    ],
)
def test_broken_files_are_named(write_run, rows, name: str, content: bytes, message: str) -> None:
    folder = write_run(rows)
    (folder / name).write_bytes(content)
    with pytest.raises(GradwireError, match=message) as error:
        write(folder)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cell_that_is_no_number_is_named_where_rows_have_no_scheme(write_run) -> None:
    row = dict.fromkeys(COST_COLUMNS, 1) | {"what": "round, sga", "by": "gradwire", "seconds_client": "fast"}
    with pytest.raises(GradwireError, match="column seconds_client holds 'fast'; it should be a number"):
        write(write_run([row], pictures=False))


def test_pictures_of_different_shapes(write_run, rows) -> None:
    folder = write_run(rows)
    path = folder / "reconstructions.safetensors"
    save_file(load_file(path) | {"none|iga|naive": torch.zeros(1, 1, 1, 8, 8)}, path)
    with pytest.raises(GradwireError, match="all must be one V×B×C×H×W"):
        write(folder)


def test_a_report_that_cannot_be_written(write_run, rows) -> None:
    folder = write_run(rows)
    (folder / "report.html").mkdir()
    with pytest.raises(GradwireError, match="cannot be written"):
        write(folder)


def test_any_other_command_is_told_by_its_columns(write_run, rows) -> None:
    folder = write_run(rows, command="study")
    assert "gradwire study" in write(folder).read_text()
    assert json.loads((folder / "config.json").read_text())["command"] == "study"


def test_a_run_of_the_plain_scheme_alone(write_run, rows) -> None:
    page = write(write_run(rows[:4])).read_text()
    assert "What one round of updates gives away" in page


def test_what_draws_is_loaded_when_it_is_used() -> None:
    """The package itself is replaced by an empty one, since it has reasons of its own to load torch."""
    script = """if True:
        import sys, types
        package = sys.modules["gradwire"] = types.ModuleType("gradwire")
        package.__path__ = [sys.argv[1]]
        import gradwire.progress, gradwire.report, gradwire.runs
        sys.exit(", ".join({"jinja2", "matplotlib", "numpy", "torch"} & set(sys.modules)) or None)
    """
    package = str(Path(report.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", script, package], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
