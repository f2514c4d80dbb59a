"""Specs that nobody meant: each is read, or refused in one line."""

from random import Random

import pytest

from gradwire.errors import GradwireError
from gradwire.registry import ATTACKS, MEMBERSHIP, SCHEMES
from gradwire.schemes import parse
from gradwire.spec_syntax import parameters
from tests.fuzzed import said, text_changed, trials

SPECS = {
    "scheme": (
        "topk:ratio=0.01",
        "powersgd:rank=4,warm_start=false",
        "topk:ratio=0.01+sga:bits=16",
        "dpsgd:clip=1.0,noise=0.5",
        "sga:max=1.0,threshold=3",
        "qsgd:bits=4,bucket=512",
        "package.module:Class",
    ),
    "attack": ("iga:tv=1e-3,optimizer=lbfgs", "bayes", "strongest:", "dlg:restarts=2"),
    "membership attack": ("lira:variance=global", "rmia:gamma=1.0", "fedmia:statistic=cosine"),
}
READ = {"scheme": parse, "attack": ATTACKS.parse, "membership attack": MEMBERSHIP.parse}


@pytest.mark.parametrize("kind", SPECS)
def test_any_spec_is_read_or_refused_in_one_line(kind):
    random, read = Random(0), 0
    for _ in range(trials(400)):
        spec = text_changed(random.choice(SPECS[kind]), random)
        try:
            made = READ[kind](spec)
        except GradwireError as error:
            said(error)
            continue
        read += 1
        # What was read is written as a spec that says the same.
        assert READ[kind](made.spec).spec == made.spec
    assert read


WRITTEN = ("nan", "inf", "-inf", "-1", "0", "1e400", "9" * 5000, "0x10", "true", "none", "", "é", "1_0", " 1", "\n")
KINDS = {"scheme": SCHEMES, "attack": ATTACKS, "membership attack": MEMBERSHIP}


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_of_any_parameter_is_read_or_refused_in_one_line(kind):
    for name in KINDS[kind]:
        for key in parameters(KINDS[kind][name]):
            for written in WRITTEN:
                try:
                    made = READ[kind](f"{name}:{key}={written}")
                except GradwireError as error:
                    said(error)
                else:
                    assert not any(value != value for value in vars(made).values()), f"{name}:{key}={written}"
