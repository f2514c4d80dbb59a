"""The sentences of a screening, from tables made up; above all those where nothing can be told."""

import pytest

from gradwire.report.advise import advise_page, advised, sentences, verdict
from gradwire.report.rows import ADVISE_COLUMNS
from gradwire.report.run import Run
from gradwire.report.tables import to_markdown
from gradwire.report.writer import REPORTERS, write
from gradwire.runs import RunFolder

SETTINGS = {"data": "digits", "model": "convnet", "clients": 4, "samples": 8, "give_up": 0.05, "link": "100mbps"}
LIMITS = {0: (0.0, 0.369), 3: (0.085, 0.755), 8: (0.631, 1.0)}
"""Clopper and Pearson's, of eight."""


@pytest.fixture
def line():
    """A scheme that came to the end: of eight victims so many are given away."""

    def make(scheme, given=8, accuracy=0.97, cost=0.04, **others):
        low, high = LIMITS[given]
        row = dict.fromkeys(ADVISE_COLUMNS, "")
        row |= {"scheme": scheme, "state": "screened to the end", "front": 1, "rung": 3, "rounds": 160, "lr": 0.05}
        row |= {"test_accuracy": accuracy, "accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.01}
        row |= {"cost": cost, "bytes_up": 76880, "bytes_down": 76880, "seconds": 0.03, "victims": 8, "given": given}
        row |= {"low": low, "high": high, "worst": given / 8, "score": given / 8, "told": 1, "summed": 1, "ratio": 1}
        row |= {"data": "digits", "model": "convnet", "device": "cpu", "seed": 0, "knowledge": "adaptive"}
        return row | others

    return make


@pytest.fixture
def private(line):
    def make(noise, epsilon, accuracy):
        told = f"ε = {epsilon} at δ = 1e-05 under add/remove of one example (160 Poisson batches; PLD)"
        doubts = "nothing was rehearsed on images of the adversary's own"
        guarantee = {"epsilon": epsilon, "delta": 1e-5, "guarantee": told, "told": 0, "doubts": doubts}
        return line(f"dpsgd:noise={noise}", 0, accuracy, 0.1, **guarantee)

    return make


def test_a_scheme_whose_leakage_is_below_that_of_none_is_taken(line, private):
    rows = [line("none"), line("sga", 0, 0.96, summed=4), private(1.0, 5.5, 0.94), private(0.5, 20.0, 0.96)]
    take, leaves, following = sentences(rows, SETTINGS)
    assert take == (
        "Take sga, whose server sees only the sum of 4 clients: the strongest attack gets 0 of 8 victims, at 95 % "
        "confidence at most 37 % of all, and under none at least 63 %; at rate 0.05 it comes to 96.0 % accuracy (none "
        "to 97.0 %), a client’s step is 40 ms (40 ms); dpsgd comes to this accuracy at ε = 20.0 at δ = 1e-05 under "
        "add/remove of one example."
    )
    assert "what the sum of 4 clients says of each, fewer clients, and clients who help the server" in leaves
    assert "for it guarantees nothing" in leaves
    assert "membership inference, which was not tried" in leaves
    assert "--scheme none --scheme sga --samples 32 --seed 1" in following
    assert "--adversary active" in following
    assert "gradwire membership --data digits --model convnet --clients 4 --scheme none --scheme sga" in following


def test_no_attack_that_could_not_have_succeeded_makes_a_defence(line):
    weak = line("noise:std=0.1", 0, 0.97, 0.04, told=0, doubts="the search was too short for 8 of 8")
    assert not advised([line("none"), weak], 0.05)[1]
    take, leaves, _ = sentences([line("none", cost=0.05), weak], SETTINGS)
    assert take.startswith("No defence was found: of no scheme within 5 points of none’s accuracy can it be told")
    assert "take noise:std=0.1 for its cost alone" in take
    assert "the server gets 0 of 8 victims, and of the rest it cannot be told: the search was too short" in leaves
    assert verdict(weak) == "cannot tell: the search was too short for 8 of 8"


def test_nothing_can_be_told_where_the_attack_does_not_break_none(line):
    doubt = "the attack breaks only 3 of 8 under none"
    plain = line("none", 3, told=0, doubts="not even the plain update was inverted")
    rows = [plain, line("qsgd", 0, 0.97, 0.02, told=0, doubts=doubt)]
    take, _, _ = sentences(rows, SETTINGS)
    assert take.startswith(
        "No defence can be named, for the strongest attack gets only 3 of 8 victims under none; take qsgd for its cost"
    )
    assert "no dpsgd is beside it" in take


def test_nothing_can_be_told_without_none(line):
    failed = dict.fromkeys(ADVISE_COLUMNS, "") | {"scheme": "none", "state": "could not run", "why": "MemoryError: no"}
    take, leaves, following = sentences([line("qsgd"), failed], SETTINGS)
    assert take == "Nothing can be told: none, with which all is compared, did not run: MemoryError: no."
    assert leaves == following == ""


@pytest.mark.parametrize(
    "others",
    [
        {"accuracy": 0.91},  # more than five points below none
        {"given": 3},  # its interval and none's have shares in common
        {"front": 0},
        {"told": 0, "doubts": "too short"},
    ],
)
def test_what_is_not_taken_for_its_leakage(line, others):
    row = line("sga", **{"given": 0, "accuracy": 0.96} | others)
    assert not advised([line("none"), row], 0.05)[1]
    assert advised([line("none"), line("sga", 0, 0.96)], 0.05)[1]


def test_dpsgd_that_does_not_come_to_the_accuracy_says_how_far_it_comes(line, private):
    rows = [line("none"), line("sga", 0, 0.97), private(2.0, 1.1, 0.9), private(1.0, 5.5, 0.94)]
    take, _, _ = sentences(rows, SETTINGS)
    assert "dpsgd does not come to it here, but to 94.0 % at ε = 5.5 at δ = 1e-05 under add/remove" in take


def test_the_report_has_every_scheme_with_what_became_of_it_and_praises_none(tmp_path, line, private):
    dropped = line("topk:ratio=0.1", 8, 0.6, state="dropped", why="rung 1")
    refused = {"scheme": "autoencoder", "state": "could not run", "why": "needs steps"}
    refused = dict.fromkeys(ADVISE_COLUMNS, "") | refused
    rows = [line("none", front=0), line("sga", 0, summed=4), private(1.0, 5.5, 0.94), dropped, refused]
    folder = RunFolder.create(tmp_path / "run", "advise", ADVISE_COLUMNS)
    folder.append(rows)
    folder.configure("advise", SETTINGS)
    page = write(folder.path).read_text()
    for text in ("Take sga", "could not run: needs steps", "dropped: rung 1", "0 of 8 ? (0–37 %)", "ε 5.5"):
        assert text in page
    assert "protects" not in page
    brief = REPORTERS["advise"][1](Run(folder.path, "advise", [*map(_text, rows)], {"settings": SETTINGS}, {}, []))
    first = to_markdown(brief).splitlines()[2]
    assert first.startswith("| sga | front |")
    assert max(len(row[0]) + sum(map(len, row[1:])) + 2 * len(row) for row in brief.rows) < 80


def _text(row):
    return {name: str(value) for name, value in row.items()}


def test_the_page_has_no_more_sections_than_it_has_to_say(line):
    run = Run("", "advise", [_text(line("none"))], {"settings": SETTINGS}, {}, [])
    assert [section.name for section in advise_page(run).sections] == ["front", "told"]
