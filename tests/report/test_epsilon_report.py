from gradwire.report.epsilon import epsilon_table, headline

ROW = {"scheme": "dpsgd", "canary": "dirac:500", "adjacency": "replace", "confidence": "0.95", "canaries": "100"}
ROW |= {"right": "70", "delta": "1e-5", "epsilon_any": "0.4"}


def row(bound, claim="", **changed):
    return {**ROW, "epsilon": str(bound), "epsilon_claimed": str(claim), **changed}


def test_a_bound_above_its_claim_refutes_it() -> None:
    said = headline([row(0.2, 1.0), row(1.2, 1.0, scheme="quiet"), row(3.0, 10.0)])
    assert said == (
        "At 95 % confidence for the whole table, the wire proves ε ≥ 1.20 of quiet (dirac:500), which claims 1.00: "
        "its noise or its accounting is wrong"
    )


def test_a_bound_below_its_claim_refutes_nothing() -> None:
    said = headline([row(0.2, 1.0), row(0.99, 1.0, scheme="quiet")])
    assert said == "No claim is refuted; nearest comes ε ≥ 0.99 of quiet (dirac:500), which claims 1.00"
    assert headline([row(5.0)]) is None


def test_the_share_of_right_guesses_is_of_all() -> None:
    table = epsilon_table([row(0.2, 1.0, canaries="80", right="60"), row(1.0)])
    assert [line[[column.title for column in table.columns].index("right %")] for line in table.rows] == [
        "75.0",
        "70.0",
    ]
