"""What holds of the pages: schemes and attacks have one with all parts, terms are few, tables come from the code."""

import re
import sys

import pytest

import gradwire
from gradwire import registry, testing
from tests.docs.markdown import DOCS, ROOT

sys.path.insert(0, str(DOCS / "_ext"))
import parameters
import threats

PARTS = ("Formula", "Paper", "What it assumes", "What it costs", "When its figure misleads", "Parameters")
SHARED = ("answers", "shadows", "wire")


def sections(text: str, level: int) -> dict[str, str]:
    """Heading → what stands under it, at one level."""
    _, *found = re.split(rf"^{'#' * level} (.*)\n", text, flags=re.MULTILINE)
    return {title: body.strip() for title, body in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize(
    ("folder", "known"), [("schemes", registry.SCHEMES), ("attacks", registry.ATTACKS)], ids=("schemes", "attacks")
)
def test_each_has_a_page_with_every_part(folder, known):
    there = {path.stem for path in (DOCS / folder).glob("*.md")} - {"index"}
    assert there == set(known.builtin)
    listed = (DOCS / folder / "index.md").read_text().splitlines()
    for name in known.builtin:
        text = (DOCS / folder / f"{name}.md").read_text()
        assert text.startswith(f"# `{name}`: ")
        found = sections(text, 2)
        assert tuple(found) == PARTS, f"{folder}/{name}.md"
        assert all(found.values()), f"{folder}/{name}.md has an empty part"
        assert "$" in found["Formula"], f"{folder}/{name}.md has no formula"
        assert name in listed, f"{folder}/index.md does not list {name}"


def test_each_membership_attack_has_a_section_with_every_part():
    told = {}
    for page in SHARED:
        for title, text in sections((DOCS / "membership" / f"{page}.md").read_text(), 2).items():
            name = re.match(r"`(.*?)`: ", title)[1]
            told[name] = sections(text, 3)
    assert set(told) == set(registry.MEMBERSHIP.builtin)
    for name, found in told.items():
        assert tuple(found) == PARTS, name
        assert all(found.values()), name
        assert "$" in found["Formula"], name


@pytest.mark.parametrize("kind", parameters.KINDS)
def test_parameters_are_told_of_everything(kind):
    for name in parameters.KINDS[kind].builtin:
        table = parameters.table(kind, name)
        said = re.findall(r"^\| `(\w+)` \| \S.* \| (.*) \|$", table, re.MULTILINE)
        assert said or "takes no parameters" in table, name
        assert all(len(words) > 3 for _, words in said), f"{name} says nothing of {[n for n, w in said if len(w) <= 3]}"


def test_there_are_few_words_and_each_is_short():
    words = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", (DOCS / "words.md").read_text(), re.MULTILINE)
    assert 20 <= len(words) <= 40
    assert [name for name, _ in words] == sorted(name for name, _ in words)
    for name, text in words:
        assert len(re.findall(r"[.!?](?= [A-Z]|$)", text)) <= 2, name


def test_indexes_are_short():
    assert len((DOCS / "measurements" / "index.md").read_text().splitlines()) <= 80
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_what_adversaries_see_is_told_of_every_scheme():
    _, header, _, *rows = threats.adversaries().splitlines()
    assert header.count("|") == 5
    named = {re.match(r"\| `([\w-]+)", row)[1]: row for row in reversed(rows)}  # what is made of them comes last
    assert set(registry.SCHEMES.builtin) <= set(named)
    assert "the victim alone: every entry" in named["none"]
    assert "the sign of every entry" in named["signsgd"]
    assert "noise" in named["dpsgd"]
    server = {name: row.split("|")[2] for name, row in named.items()}
    masked = {name for name in registry.SCHEMES.builtin if "the mean of all clients" in server[name]}
    assert masked == {"sga", "ssga", "ssga-dgc"}


def test_what_schemes_need_and_carriers_offer():
    table = threats.needs()
    server = next(row for row in table.splitlines() if row.startswith("| a server apart"))
    assert "`sga`" in server
    assert [cell.strip() for cell in server.split("|")[3:-1]] == ["yes", "no", "yes", "no", "no"]


def test_lies_succeed_by_the_papers_protocol_alone_but_for_the_imprint():
    _, _, _, *rows = threats.lies().splitlines()
    told = {cells[1].strip(): cells[3:5] for row in rows if (cells := row.split("|"))}
    assert "it has them" in told["split R_max"][0]
    assert [name for name, cells in told.items() if "it has them" in cells[1]] == ["imprint"]


def test_the_api_reference_has_all_that_is_public():
    text = (DOCS / "api" / "gradwire.md").read_text()
    assert set(re.findall(r"auto(?:function|class|exception):: (\w+)", text)) == set(gradwire.__all__)
    text = (DOCS / "api" / "testing.md").read_text()
    assert set(re.search(r":members: (.*)", text)[1].split(", ")) == set(testing.__all__)


def test_files_that_the_structure_names_are_there():
    named = re.findall(r"`([\w/]+\.py)`", (DOCS / "structure.md").read_text())
    package = ROOT / "src" / "gradwire"
    there = [str(path) for path in (*package.rglob("*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("tests/*.py"))]
    assert len(named) > 20
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
