from dataclasses import replace

import pytest

from gradwire.errors import GradwireError
from gradwire.studies import AuditSettings, audit
from gradwire.studies.audit_cells import chunk_size, load_victims, network
from gradwire.studies.audit_intent import _about, intent

QUICK = {"data": "digits", "model": "mlp", "schemes": ("none", "topk:ratio=0.1"), "attacks": ("iga:iterations=2",)}


def intended(**settings) -> str:
    told, victims = load_victims(AuditSettings(**settings))
    model = network(told, victims)
    return intent(replace(told, chunk=chunk_size(told, model, victims.task)), victims, model)


def test_it_says_whom_it_attacks_by_what_and_how_long() -> None:
    said = intended(**QUICK, samples=2, batch=3)
    expected = (
        "Attacking 2 victims (digits, mlp, batches of 3) under 2 schemes, naive and adaptive, by iga:iterations=2"
    )
    assert said == f"{expected}: about 10 seconds."


def test_more_iterations_take_longer() -> None:
    quick = QUICK | {"attacks": ("iga:iterations=2000000,restarts=3",)}
    assert intended(**quick, samples=2).endswith(" hours.")


def test_no_time_is_promised_where_a_training_comes_first() -> None:
    said = intended(**QUICK, samples=1, trained_rounds=2, knowledge="naive")
    assert said == "Attacking 1 victim (digits, mlp, batches of 1) under 2 schemes, naive, by iga:iterations=2."


@pytest.mark.parametrize(("wrong", "words"), [({"samples": 900}, "this audit needs 900"), ({"model": "mlpp"}, "mlpp")])
def test_what_cannot_be_audited_is_refused_before_anything_is_announced(tmp_path, wrong, words) -> None:
    said: list[str] = []
    with pytest.raises(GradwireError, match=words):
        audit(AuditSettings(**QUICK | wrong), tmp_path / "run", announce=said.append)
    assert said == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "10 seconds"),
        (31, "40 seconds"),
        (59, "1 minute"),
        (100, "2 minutes"),
        (3500, "1 hour"),
        (8000, "3 hours"),
    ],
)
def test_times_are_round(seconds: float, words: str) -> None:
    assert _about(seconds) == f"about {words}"
