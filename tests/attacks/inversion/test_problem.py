"""Problems that are one, whatever is known of the scheme."""

import pytest

import gradwire
from gradwire import models
from gradwire.attacks.inversion import pose


def posed(digits, scheme, **options):
    model = models.build("mlp", digits.shape, digits.outputs, seed=0)
    view = gradwire.capture(model, *digits.batch([0]), scheme, **options)
    return [pose(view, knowledge) for knowledge in ("naive", "adaptive")]


def test_who_knows_that_nothing_was_done_knows_no_more(digits):
    naive, adaptive = posed(digits, "none")
    assert naive.is_also(adaptive)
    assert not naive.is_also(posed(digits, "none")[1])  # another view, though its numbers are the same


@pytest.mark.parametrize("scheme", ["noise:std=0.1", "powersgd:rank=1", "topk:ratio=0.1", "signsgd", "qsgd", "dpsgd"])
def test_who_knows_the_scheme_has_a_problem_of_its_own(digits, scheme):
    naive, adaptive = posed(digits, scheme)
    assert not naive.is_also(adaptive)


def test_whoever_knows_that_it_is_a_mean_seeks_all_images(digits):
    naive, adaptive = posed(digits, "sga", fellows=[digits.batch([1])])
    assert not naive.is_also(adaptive)
