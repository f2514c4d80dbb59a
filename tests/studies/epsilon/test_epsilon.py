"""ε from the wire: bounds of plain, clipped and private runs, and claims that are wrong."""

from dataclasses import dataclass, replace

import pytest
import torch

from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.metrics.epsilon import distance_bound
from gradwire.report.epsilon import headline
from gradwire.runs import read_table
from gradwire.schemes.dpsgd import DPSGD
from gradwire.studies.epsilon import EpsilonSettings, run_epsilon
from gradwire.studies.epsilon.canaries import Listener

pytest.importorskip("dp_accounting")
HERE = "tests.studies.epsilon.test_epsilon"


@dataclass(frozen=True)
class Quiet(DPSGD):
    """Draws a third of the noise that it counts."""

    name = "quiet"

    def before_step(self, gradient, private, step):
        return DPSGD(self.clip, self.noise / 3).before_step(gradient, private, step)


@dataclass(frozen=True)
class OneClip(DPSGD):
    """Says of replaced examples what holds of those that are left out."""

    name = "oneclip"

    def guarantees(self, private):
        replaced, zeroed = super().guarantees(private)
        return (replace(replaced, epsilon=zeroed.epsilon), zeroed)


@dataclass(frozen=True)
class Unclipped(DPSGD):
    """Forgets to clip."""

    name = "unclipped"

    def before_step(self, gradient, private, step):
        return DPSGD(1e9, self.noise * self.clip / 1e9).before_step(gradient, private, step)


def audited(folder, *schemes, **options):
    settings = EpsilonSettings(
        **{
            "data": "digits:train=160",
            "model": "mlp:hidden=8",
            "schemes": schemes,
            "epsilons": (),
            "canary": ("dirac:500",),
            "clients": 8,
            **options,
        }
    )
    return read_table(run_epsilon(settings, folder / "run") / "results.csv")


def test_one_command_for_plain_clipped_and_private_runs(tmp_path):
    quick = ["--data", "digits:train=160", "--model", "mlp:hidden=8", "--canary", "dirac:500", "--canary", "input:8"]
    main(["epsilon", *quick, "--epsilon", "8", "--out", str(tmp_path / "run")])
    rows = {(r["scheme"].partition(",")[0], r["canary"]): r for r in read_table(tmp_path / "run" / "results.csv")}
    assert len(rows) == 6
    for scheme in ("none", "dpsgd:noise=0"):
        for canary, count in (("dirac:500", 4000), ("input:8", 64)):
            row = rows[scheme, canary]
            assert row["right"] == row["canaries"] == str(count)
            assert row["epsilon_claimed"] == ""
            assert float(row["epsilon"]) > float(row["epsilon_any"]) > 1
    private = next(row for (scheme, canary), row in rows.items() if "=1." in scheme and canary == "dirac:500")
    assert 4 < float(private["epsilon"]) < float(private["epsilon_claimed"]) <= 8
    assert 0 < float(private["epsilon_any"]) < float(private["epsilon"])
    report = (tmp_path / "run" / "summary.md").read_text()
    assert "No claim is refuted; nearest comes ε ≥" in report
    assert "replace" in report


def test_zero_out_is_audited_where_it_is_claimed(tmp_path):
    (row,) = audited(tmp_path, epsilons=(4.0,), adjacency="zero-out")
    assert row["adjacency"] == "zero-out"
    assert float(row["epsilon_claimed"]) == pytest.approx(4, rel=2e-3)
    assert 2 < float(row["epsilon"]) <= float(row["epsilon_claimed"])


@pytest.mark.parametrize("fault", ["Quiet:noise=6", "OneClip:noise=2", "Unclipped:noise=3"])
def test_a_claim_that_is_wrong_is_refuted(tmp_path, fault):
    (row,) = audited(tmp_path, f"{HERE}:{fault}")
    assert float(row["epsilon"]) > float(row["epsilon_claimed"]) > 0
    assert "its noise or its accounting is wrong" in headline([row])


def test_headlines_follow_from_the_rows():
    row = {"scheme": "dpsgd", "canary": "dirac:9", "epsilon": "3", "epsilon_claimed": "4", "confidence": "0.9999"}
    assert headline([row]).startswith("No claim is refuted; nearest comes ε ≥ 3.00 of dpsgd (dirac:9)")
    refuted = headline([row, row | {"epsilon": "5"}])
    assert refuted.startswith("At 99.99 % confidence for the whole table, the wire proves ε ≥ 5.00 of dpsgd")
    assert headline([row | {"epsilon_claimed": ""}]) is None


def test_messages_that_say_nothing_prove_nothing(tmp_path):
    (row,) = audited(tmp_path, "dpsgd:noise=1e6")
    assert float(row["epsilon"]) == float(row["epsilon_any"]) == 0
    assert int(row["right"]) / 4000 == pytest.approx(0.5, abs=0.03)


def test_the_bound_on_a_distance():
    # All of 100 coins at 95 %: p ≥ 0.05^(1/100), and μ = 2·Φ⁻¹(p).
    low = torch.tensor(0.05 ** (1 / 100), dtype=torch.float64)
    assert distance_bound(100, 100) == pytest.approx(2 * float(torch.special.ndtri(low)))
    assert distance_bound(100, 50) == distance_bound(100, 0) == 0
    # It fails as often as its confidence allows, where guesses are as good as the distance lets them be.
    share = float(torch.special.ndtr(torch.tensor(0.5)))
    drawn = torch.distributions.Binomial(500, torch.tensor(share))
    torch.manual_seed(0)
    failed = sum(distance_bound(500, int(k), 0.9) > 1.0 for k in drawn.sample((1000,)))
    assert 50 < failed <= 110
    with pytest.raises(GradwireError, match="3 of 2 guesses are right"):
        distance_bound(2, 3)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"canary": ("dirac",)}, "canary is 'dirac'; it must be dirac:NUMBER or input:NUMBER"),
        ({"canary": ("dirac:100000",)}, "dirac:100000 needs as many entries; the network has"),
        ({"schemes": ("dpsgd+sga",)}, "shows sums of all clients"),
        ({"epsilons": (0.0,)}, "epsilon is 0.0; it must be positive"),
        ({"adjacency": "add/remove"}, "unknown adjacency 'add/remove'"),
        ({"data": "diabetes", "canary": ("input:4",)}, "needs classes, for the other label"),
        ({"model": "resnet20", "canary": ("dirac:2",)}, "batch norm, which mixes a batch"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_name(tmp_path, options, why):
    with pytest.raises(GradwireError, match=why.replace("+", r"\+")):
        audited(tmp_path, **{"schemes": ("none",), **options})


def test_inputs_prove_something_of_private_runs_too(tmp_path):
    (row,) = audited(tmp_path, epsilons=(8.0,), canary=("input:150",), model="mlp:hidden=32")
    assert 1 < float(row["epsilon"]) < float(row["epsilon_claimed"])


def test_coins_are_guessed_from_noises_of_their_own():
    """Of canaries that nearly share their gradients, no guess profits from another coin beyond its own noise."""
    torch.manual_seed(0)
    d = torch.randn(6, 40) + 3 * torch.randn(40)
    products = (d @ d.T).double()
    limit = torch.special.ndtr(d.norm(dim=1).double() / 2 / 12)
    right = torch.zeros(6)
    for _ in range(2000):
        coins = torch.rand(6) < 0.5
        heard = d @ (coins.float() @ d + 12 * torch.randn(40))
        listener = Listener(DPSGD(), None, False, products=products / 144, heard=heard.double() / 144)
        right += listener.guesses() == coins
    shares = right / 2000
    assert (shares < limit + 0.035).all()
    assert float(shares.max()) > 0.6
    certain = Listener(DPSGD(), None, False, products=products * 1e6, heard=products[:, 2] * 1e6)
    assert certain.guesses().tolist() == [False, False, True, False, False, False]
