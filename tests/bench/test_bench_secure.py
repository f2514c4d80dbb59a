import re

import pytest
from click.testing import CliRunner

from gradwire.bench.secure import calculated, later, masking, row, schemes, server_of, whole_round
from gradwire.bench.timing import Stopwatch
from gradwire.cli.bench import secure
from gradwire.errors import GradwireError
from gradwire.report.benches.costs import cost_table
from tests.schemes.rounds import Cluster, random_update


def test_rounds_are_run_and_their_bytes_are_those_of_the_messages():
    dense, sparse = whole_round("sga", 3, 20_000), whole_round("ssga", 3, 20_000)
    assert dense["how"] == "measured"
    assert dense["bytes_up"] == pytest.approx(80_000, rel=0.05)
    assert sparse["bytes_up"] < 0.05 * dense["bytes_up"]
    assert dense["seconds_client"] > 0
    assert dense["seconds_server"] > 0


def test_sparse_masks_cost_in_proportion():
    dense, sparse = masking(10, 1_000_000)
    assert sparse["seconds_client"] < 0.1 * dense["seconds_client"]


def test_what_cannot_be_run_is_calculated_and_says_from_which_parts():
    found = calculated(1000, 1000)
    assert re.match(r"calculated: a client, \d+ × .* the server, 1,000 × .* shares together and", found["how"])


def test_a_client_more_lengthens_calculated_messages_as_it_does_measured_ones():
    def sent(clients):
        return whole_round(f"sga:threshold={clients * 2 // 3 + 1},neighbours=few", clients, 10)["bytes_up"]

    assert calculated(12, 10)["bytes_up"] - calculated(6, 10)["bytes_up"] == pytest.approx(sent(12) - sent(6), rel=0.05)


def test_a_server_is_measured_while_a_tenth_vanish():
    found = server_of(20, 1000)
    assert found["seconds_server"] > 0
    assert found["seconds_client"] is None
    assert found["bytes_up"] > 4000


def test_the_table_sets_sparse_against_dense():
    spent = {"later round, sga": (2.0, 10.0), "later round, ssga": (0.1, 1.0), "floor, ssga": (0.05, None)}
    rows = [row(what, 10, 1000, *pair, 0) for what, pair in spent.items()]
    table = cost_table(rows)
    found = {line[0]: line[-3:-1] for line in table.rows}
    assert found == {"later round, sga": ("", ""), "later round, ssga": ("20×", "15×"), "floor, ssga": ("40×", "–")}


def test_a_stopwatch_does_not_change_what_it_times():
    def half():
        got = yield 1
        return got

    timed = Stopwatch().around("a", half())
    assert next(timed) == 1
    with pytest.raises(StopIteration) as stop:
        timed.send(5)
    assert stop.value.value == 5


def test_bad_numbers_are_refused():
    with pytest.raises(GradwireError, match="--entries is 'many'; it must be numbers with commas between"):
        CliRunner().invoke(secure, ["--entries", "many"], catch_exceptions=False)


def test_a_later_round_needs_no_keys_and_costs_what_the_whole_one_does():
    """The one client stands for all: its messages are those of the second round that is run."""
    updates = [random_update(i, {"w": (20_000,)}) for i in range(3)]
    for spec in ("sga", "ssga"):
        cluster = Cluster.of(spec, updates)
        cluster.run(updates)
        cluster.run(updates)
        alone = later(spec, 3, 20_000)
        assert alone["bytes_up"] == pytest.approx(cluster.bytes_up, rel=0.01)
        assert alone["seconds_client"] > 0
        assert alone["seconds_server"] > 0


@pytest.mark.slow
def test_the_command_writes_a_report_with_curves(tmp_path):
    out = tmp_path / "run"
    options = [
        "--clients",
        "3,4",
        "--entries",
        "1e3,2e3",
        "--whole",
        "4",
        "--served",
        "12",
        "--sparse",
        "3",
        "--sizes",
        "1e5",
    ]
    result = CliRunner().invoke(secure, [*options, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert (out / "results.csv").read_text().startswith("what,by,clients")
    assert "What secure sums cost" in (out / "report.html").read_text()
    assert (out / "costs.svg").stat().st_size > 10_000


def test_sparse_rounds_are_run_only_where_each_client_can_choose_an_entry():
    assert "ssga" in schemes(50, 10_000)
    assert "ssga" not in schemes(51, 10_000)


def test_a_part_alone_has_a_report_and_another_is_refused(tmp_path):
    result = CliRunner().invoke(secure, ["--part", "masks", "--out", str(tmp_path / "run")], catch_exceptions=False)
    assert result.exit_code == 0
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 4
    with pytest.raises(GradwireError, match="unknown part 'mask'"):
        CliRunner().invoke(secure, ["--part", "mask"], catch_exceptions=False)
