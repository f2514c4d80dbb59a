import pytest
from click.testing import CliRunner

from gradwire.bench.secure import calculated, later, masking, played
from gradwire.bench.stopwatch import Stopwatch
from gradwire.cli.bench_secure import secure
from gradwire.errors import GradwireError
from tests.schemes.rounds import Cluster, random_update


def test_rounds_are_played_and_their_bytes_are_those_of_the_messages():
    dense, sparse = played("sga", 3, 20_000), played("ssga", 3, 20_000)
    assert dense["how"] == "measured"
    assert dense["bytes_up"] == pytest.approx(80_000, rel=0.05)
    assert sparse["bytes_up"] < 0.05 * dense["bytes_up"]
    assert dense["seconds_client"] > 0
    assert dense["seconds_server"] > 0


def test_sparse_masks_cost_in_proportion():
    dense, sparse = masking(10, 1_000_000)
    assert sparse["seconds_client"] < 0.1 * dense["seconds_client"]


def test_what_cannot_be_played_is_calculated_and_says_so():
    assert calculated(1000, 1000)["how"] == "calculated"


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


def test_a_later_round_needs_no_keys_and_costs_what_the_played_one_does():
    """The one client stands for all: its messages are those of the second round that is played."""
    updates = [random_update(i, {"w": (20_000,)}) for i in range(3)]
    for spec in ("sga", "ssga"):
        cluster = Cluster.of(spec, updates)
        cluster.play(updates)
        cluster.play(updates)
        alone = later(spec, 3, 20_000)
        assert alone["bytes_up"] == pytest.approx(cluster.bytes_up, rel=0.01)
        assert alone["seconds_client"] > 0


@pytest.mark.slow
def test_the_command_writes_a_report_with_curves(tmp_path):
    out = tmp_path / "run"
    options = ["--clients", "3,4", "--entries", "1e3,2e3", "--whole", "4", "--out", str(out)]
    result = CliRunner().invoke(secure, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert (out / "results.csv").read_text().startswith("what,by,clients")
    assert "What secure sums cost" in (out / "report.html").read_text()
    assert (out / "costs.svg").stat().st_size > 10_000
