"""The options of a command: one for each setting, with its default and its help, read from the settings' source."""

from dataclasses import fields

import pytest
from click.testing import CliRunner

from gradwire import papers, registry
from gradwire.cli import advise, audit, epsilon, membership, train
from gradwire.cli.catalogue import catalogue
from gradwire.cli.show import SHARED, with_target
from gradwire.cli.source import describe
from gradwire.errors import GradwireError
from gradwire.studies import AuditSettings
from gradwire.studies.advise import AdviseSettings
from gradwire.studies.epsilon import EpsilonSettings
from gradwire.studies.membership import MembershipSettings
from gradwire.training import TrainSettings


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (advise, AdviseSettings),
        (audit, AuditSettings),
        (membership, MembershipSettings),
        (epsilon, EpsilonSettings),
        (train, TrainSettings),
    ],
)
def test_every_setting_has_an_option_of_its_default_and_type(command, kind):
    given, options = command.make_context("gradwire", []).params, {option.name: option for option in command.params}
    for name, hint in {field.name: str(field.type) for field in fields(kind)}.items():
        if name not in ("schemes", "clients"):
            # Of several values, none on the command line are those that are usual.
            assert (given[name] or None) == (getattr(kind(), name) or None)
            assert options[name].multiple == ("tuple" in hint)
    singular = [flag for option in options.values() for flag in option.opts if option.multiple]
    assert not [flag for flag in singular if flag.endswith("s")]


def test_a_number_without_a_default_is_read_as_a_number():
    types = {option.name: option.type.name for option in train.params}
    assert types["server_lr"] == "float"
    assert types["sample"] == types["local_steps"] == types["local_epochs"] == "integer"


def test_help_is_what_the_docstring_says():
    told = {option.name: option.help for option in audit.params}
    assert told["batch"] == "Examples a victim."
    assert told["public"].endswith("strongest also trains a network on them).")
    silent = {name for name, words in told.items() if not words}
    assert silent <= {"model"}
    assert set(SHARED) <= set(told)


def test_a_target_is_part_of_the_data():
    assert with_target("digits", ()) == "digits"
    assert with_target("people.csv", ("income",)) == "people.csv:target=income"
    assert with_target("people.csv:drop=id", ("ill", "old")) == "people.csv:drop=id,target=ill|old"
    assert with_target("mydata:load", ("income",)) == "mydata:load:target=income"
    with pytest.raises(GradwireError, match=r"--target a: --data t\.csv:drop=id,target=b names a target already"):
        with_target("t.csv:drop=id,target=b", ("a",))
    with pytest.raises(GradwireError, match="--target 'a,b' has a comma or bar in its name"):
        with_target("t.csv", ("a,b",))


def test_the_help_keeps_the_case_of_values():
    told = {option.name: option.help for option in audit.params}
    assert told["loss"].startswith("cross_entropy, mse")
    assert told["samples"].startswith("Victims;")


def test_the_list_says_what_everything_is_and_of_which_paper():
    result = CliRunner().invoke(catalogue, env={"COLUMNS": "120"})
    for title in papers.PAPERS.values():
        assert title in " ".join(result.output.split())
    for known in (registry.MODELS, registry.DATA, registry.SCHEMES):
        assert [name for name, place in known.builtin.items() if not describe(place).doc] == []
