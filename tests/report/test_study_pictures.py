"""A study's report shows what its audits rebuilt."""

from safetensors.torch import load_file, save_file

from gradwire.report.audit import pictures
from gradwire.report.run import read
from gradwire.report.study import page
from gradwire.report.writer import write


def test_audits_of_the_same_victims_share_a_figure_and_others_have_their_own(row, write_run, monkeypatch):
    none, rank = (
        [row(scheme, knowledge) for knowledge in ("naive", "adaptive")] for scheme in ("none", "powersgd:rank=4")
    )
    study = write_run([{"command": "audit", "label": r["scheme"], **r} for r in (*none, *rank)], pictures=False)
    (study / "cells").mkdir()
    write_run(none, name="run/cells/none")
    write_run(rank, name="run/cells/rank")
    other = write_run(none, name="run/cells/zebra")
    tensors = {name: 1 - images for name, images in load_file(other / "reconstructions.safetensors").items()}
    save_file(tensors, other / "reconstructions.safetensors")
    write_run(none, name="run/cells/bare", pictures=False)
    drawn, draw = [], pictures.reconstructions_figure

    def seen(truth, shown, theme):
        drawn.append([(each.pair.scheme, *each.strips) for each in shown])
        return draw(truth, shown)

    monkeypatch.setattr(page, "reconstructions_figure", seen)
    names = [section.name for section in page.study_page(read(study)).sections if section.name.startswith("pictures")]
    assert names == ["pictures-0", "pictures-1"]
    report = write(study).read_text()
    assert "What was rebuilt: digits, convnet" in report
    assert drawn[0] == [("none", "naive", "adaptive"), ("powersgd:rank=4", "naive", "adaptive")]
    assert [("none", "naive", "adaptive")] in drawn
    assert (study / "pictures-1.png").read_bytes().startswith(b"\x89PNG")
