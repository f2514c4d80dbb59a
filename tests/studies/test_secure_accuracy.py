from gradwire.schemes import parse
from gradwire.studies.own import find
from gradwire.studies.secure_accuracy import SecureAccuracy


def rows(study, reached):
    """A row a cell; `reached` gives label → accuracies of the seeds, all others end at a half."""
    return [
        {
            "label": cell.label,
            "round": str(study.rounds),
            "test_accuracy": str(reached.get(cell.label, (0.5, 0.51, 0.49) * 4)[cell.settings["seed"]]),
        }
        for cell in study.cells()
    ]


def verdicts(study, reached=None):
    return {claim.says: claim for claim in study.claims(rows(study, reached or {}))}


def test_every_cell_is_a_scheme_with_a_rate():
    cells = SecureAccuracy(seeds=1).cells()
    assert len({cell.label for cell in cells}) == len(cells) == 21
    for cell in cells:
        parse(cell.settings["scheme"])
    rates = {cell.label: cell.settings["lr"] for cell in cells}
    assert rates["SGD"] == rates["SGA"] > rates["SSGA-200"] > rates["SSGA-DGC-200"]


def test_equal_accuracies_bear_out_what_should_be_equal_and_nothing_else():
    found = verdicts(SecureAccuracy())
    assert found["SGA does not differ significantly from SGD"].holds
    assert found["SSGA-400-8-bit does not differ significantly from SSGA-400"].holds
    assert found["SSGA-DGC-400 is not below SSGA-400"].holds
    assert found["SSGA-200-no-residual is below SSGA-200 by more than 3 points"].holds is False
    assert found["SSGA-200-random fails to learn"].holds is False
    assert found["SSGA-400-max-large is below SSGA-400 by more than 3 points"].holds is False


def test_the_p_value_is_welchs():
    """Student (Biometrika 1908): sleep data; Welch's test gives p = 0.07939 (R's `t.test`)."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    other = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    study = SecureAccuracy(seeds=10)
    claim = verdicts(study, {"SGA": [v / 100 for v in one], "SGD": [v / 100 for v in other]})
    assert "p = 0.079" in claim["SGA does not differ significantly from SGD"].measured


def test_a_clear_difference_and_a_run_at_chance_are_told():
    found = verdicts(
        SecureAccuracy(),
        {"SSGA-200-no-residual": (0.3, 0.31, 0.29), "SSGA-200-random": (0.1, 0.1, 0.1), "SGA": (0.4, 0.41, 0.39)},
    )
    assert found["SSGA-200-no-residual is below SSGA-200 by more than 3 points"].holds
    assert found["SSGA-200-random fails to learn"].holds
    assert found["SGA does not differ significantly from SGD"].holds is False


def test_one_run_a_label_tells_nothing_of_differences():
    assert verdicts(SecureAccuracy(seeds=1))["SGA does not differ significantly from SGD"].holds is None


def test_the_study_is_found_by_name_and_its_scale_is_a_parameter():
    assert find("secure-accuracy:rounds=9,seeds=1").rounds == 9
