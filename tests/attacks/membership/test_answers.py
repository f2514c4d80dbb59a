import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import norm

from gradwire.attacks import membership
from gradwire.attacks.membership import Lira, LiraOffline, MembershipAttack, QueryAccess, Signals, attack
from gradwire.errors import GradwireError
from gradwire.metrics import roc
from gradwire.registry import MEMBERSHIP
from tests.attacks.membership.worlds import of, world

SPECS = (
    *(name for name, kind in MEMBERSHIP.items() if issubclass(kind, MembershipAttack)),
    *("lira:variance=global", "lira:variance=shrunk", "lira-offline:sides=two", "lira-offline:variance=shrunk"),
)


def area(spec: str, answers: membership.Answers, target: int = 0) -> float:
    access, truth = answers.against(target)
    return roc(attack(spec).scores(access), truth).auc


@pytest.mark.parametrize("spec", SPECS)
def test_every_attack_tells_members_where_models_remember(spec) -> None:
    scores = attack(spec).scores(world(lift=4).against(0)[0])
    assert scores.shape == (400,)
    assert scores.dtype == torch.float64
    assert area(spec, world(lift=4)) > 0.6


@pytest.mark.parametrize("spec", SPECS)
def test_no_attack_tells_members_where_models_do_not_remember(spec) -> None:
    areas = [area(spec, world(lift=0), target) for target in range(16)]
    # 16 areas of 200 members and 200 others, each with a standard deviation of 0.029.
    assert sum(areas) / len(areas) == pytest.approx(0.5, abs=4 * 0.029 / 4)


@pytest.mark.parametrize("spec", SPECS)
def test_scores_do_not_depend_on_who_is_a_member_of_the_target(spec) -> None:
    answers = world()
    members = answers.members.clone()
    members[0] = ~members[0]
    other = replace(answers, members=members)
    assert torch.equal(attack(spec).scores(answers.against(0)[0]), attack(spec).scores(other.against(0)[0]))


@pytest.mark.parametrize("spec", SPECS)
def test_candidates_are_scored_each_for_itself(spec) -> None:
    """In any order; of other candidates, only what shadows say of how answers vary may matter."""
    answers = world(augmentations=2)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    signals = of(answers.signals.label[:, order])
    shuffled = replace(answers, signals=signals, members=answers.members[:, order], labels=answers.labels[order])
    one, other = (attack(spec).scores(each.against(0)[0]) for each in (answers, shuffled))
    torch.testing.assert_close(one[order], other)


@pytest.mark.parametrize("spec", ["loss", "lira", "lira:variance=shrunk", "lira-offline", "rmia", "rmia-offline"])
def test_attacks_on_losses_alone_neither_need_classes_nor_see_who_is_a_member(spec) -> None:
    answers = world(lift=4)
    targets = torch.randn(400, 3)
    alone = replace(
        answers, signals=Signals(answers.signals.label), population=Signals(answers.population.label), labels=targets
    )
    members = alone.members.clone()
    members[0] = ~members[0]
    scores = attack(spec).scores(alone.against(0)[0])
    assert torch.equal(scores, attack(spec).scores(answers.against(0)[0]))
    assert torch.equal(scores, attack(spec).scores(replace(alone, members=members).against(0)[0]))


@pytest.mark.parametrize(("spec", "lacks"), [("prediction", "top"), ("mentr", "certainty")])
def test_attacks_on_probabilities_say_so_where_there_are_losses_alone(spec, lacks) -> None:
    answers = world()
    access, _ = replace(answers, signals=Signals(answers.signals.label)).against(0)
    with pytest.raises(GradwireError, match=f"attack '{spec}' needs '{lacks}'.*take loss, lira or rmia"):
        attack(spec).scores(access)


def test_knowing_how_hard_a_candidate_is_tells_more_than_its_loss() -> None:
    """The best that can be done is a shift by `lift`: an area of Φ(lift / √2)."""
    answers = world(models=64, candidates=2000, lift=1.5)
    best = norm.cdf(1.5 / math.sqrt(2))
    assert area("lira:variance=global", answers) == pytest.approx(best, abs=0.03)
    assert area("loss", answers) + 0.05 < area("rmia", answers) < best


def test_lira_is_the_ratio_of_two_normal_densities() -> None:
    access, _ = world(augmentations=3).against(0)
    found = Lira().scores(access)
    for candidate in (0, 17):
        phi, shadows = access.target.label[candidate].numpy(), access.shadows.label[:, candidate]
        chosen = access.members[:, candidate]
        fits = [(part.mean(0).numpy(), part.std(0).numpy()) for part in (shadows[chosen], shadows[~chosen])]
        inside, outside = (norm.logpdf(phi, mean, std) for mean, std in fits)
        assert float(found[candidate]) == pytest.approx((inside - outside).mean())


def test_offline_lira_one_sided_and_two_sided() -> None:
    access, _ = world().against(0)
    one, two = LiraOffline().scores(access), LiraOffline(sides="two").scores(access)
    for candidate in (0, 17):
        shadows = access.shadows.label[~access.members[:, candidate], candidate, 0]
        normal = norm(float(shadows.mean()), float(shadows.std()))
        phi = float(access.target.label[candidate, 0])
        assert float(one[candidate]) == pytest.approx(normal.logcdf(phi) - normal.logsf(phi))
        assert float(two[candidate]) == pytest.approx(-normal.logpdf(phi))


def test_only_the_two_sided_form_suspects_who_is_less_sure() -> None:
    shadows = of(torch.tensor([[[-1.0]], [[0.0]], [[1.0]]]))
    members = torch.zeros(3, 1, dtype=torch.bool)

    def score(phi: float, sides: str) -> float:
        access = QueryAccess(of(torch.tensor([[phi]])), torch.tensor([0]), shadows, members)
        return float(attack(f"lira-offline:sides={sides}").scores(access))

    assert score(-5, "two") == pytest.approx(score(5, "two"))
    assert score(-5, "two") > score(0, "two")
    assert score(-5, "one") < score(0, "one") < score(5, "one")


def test_one_sided_scores_do_not_saturate() -> None:
    answers = world(spread=0.01)
    access, _ = answers.against(0)
    raised = replace(access, target=of(torch.linspace(1e3, 2e3, 400)[:, None]))
    scores = LiraOffline().scores(raised)
    assert scores.isfinite().all()


def test_rmia_counts_whom_a_candidate_beats() -> None:
    access, _ = world(models=6, candidates=12, augmentations=2).against(0)
    probability = torch.sigmoid
    target, shadows = probability(access.target.label), probability(access.shadows.label)
    z, z_shadows = probability(access.population.target.label), probability(access.population.shadows.label)
    for spec, offline in (("rmia:gamma=1.5", False), ("rmia-offline:gamma=1.5,a=0.6", True)):
        found = attack(spec).scores(access)
        for x in range(12):
            beaten = 0.0
            for aug in range(2):
                inside = shadows[access.members[:, x], x, aug].mean()
                outside = shadows[~access.members[:, x], x, aug].mean()
                prior = 0.5 * (1.6 * outside + 0.4) if offline else 0.5 * (inside + outside)
                others = z_shadows[..., aug].mean(0)
                others = 0.5 * (1.6 * others + 0.4) if offline else others
                ratio = (target[x, aug] / prior) / (z[:, aug] / others)
                beaten += float((ratio >= 1.5).sum()) / 2
            assert float(found[x]) == pytest.approx(math.log((beaten + 0.5) / (1000 - beaten + 0.5)))


def test_the_loss_attack_at_the_mean_training_loss() -> None:
    answers = world()
    access, truth = answers.against(3)
    assert access.train_loss == pytest.approx(float(answers.signals.loss[3, truth].mean()))
    limit = attack("loss").at_loss(access.train_loss)
    called = attack("loss").scores(access) >= limit
    assert torch.equal(called, access.target.loss[:, 0] <= access.train_loss)
    assert attack("mentr").at_loss(1.0) is None
    assert attack("loss").at_loss(0.0) == math.inf


def test_cross_entropy_and_loss_differ_by_the_threshold_alone() -> None:
    access, _ = world().against(0)
    assert torch.equal(attack("loss").scores(access), attack("cross-entropy").scores(access))
    assert (attack("loss").by_class, attack("cross-entropy").by_class) == (False, True)


def test_a_rehearsal_has_a_shadow_for_its_target_and_leaves_it_out() -> None:
    answers = world(models=5)
    access, _ = answers.against(0)
    rehearsed, members = access.rehearsal(1)
    assert torch.equal(rehearsed.target.label, answers.signals.label[2])
    assert torch.equal(members, answers.members[2])
    assert torch.equal(rehearsed.shadows.label, answers.signals.label[[1, 3, 4]])
    assert torch.equal(rehearsed.population.shadows.label, answers.population.label[[1, 3, 4]])


@pytest.mark.parametrize("spec", ["lira", "lira:variance=global", "lira-offline", "rmia", "rmia-offline"])
def test_with_fewer_shadows_than_it_needs_an_attack_says_so(spec) -> None:
    least = attack(spec).shadows
    access, _ = world(models=least).against(0)
    with pytest.raises(GradwireError, match=rf"has {least - 1} shadow models; it needs at least {least}"):
        attack(spec).scores(access)


def test_a_candidate_with_too_few_shadows_on_one_side_is_named() -> None:
    answers = world(models=8)
    members = answers.members.clone()
    members[1:, 7] = True
    access, _ = replace(answers, members=members).against(0)
    with pytest.raises(GradwireError, match=r"candidate 7 has 0 shadow models trained without it; .* needs at least 2"):
        Lira().scores(access)
    with pytest.raises(GradwireError, match="candidate 7 has no shadow model trained without it"):
        attack("rmia").scores(access)


def test_rmia_without_a_population_says_so() -> None:
    access, _ = replace(world(), population=None).against(0)
    with pytest.raises(GradwireError, match="'rmia' compares with a population that no model was trained on"):
        attack("rmia").scores(access)


def test_query_access_that_does_not_fit_together() -> None:
    access, _ = world(models=4, candidates=10).against(0)
    with pytest.raises(GradwireError, match=r"10 candidates and labels of shape \(9,\)"):
        replace(access, labels=access.labels[:9])
    with pytest.raises(GradwireError, match="which candidates they were trained on"):
        replace(access, members=None)
    with pytest.raises(GradwireError, match=r"shadows answered in shape \(3, 10, 1\), were trained on \(2, 10\)"):
        replace(access, members=access.members[:2])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lyra", "unknown attack 'lyra'; known: prediction, loss"),
        ("lira:variance=none", "per-example, global, shrunk"),
        ("rmia:gamma=0", "gamma is 0"),
        ("rmia-offline:a=2", "a is 2"),
        ("loss:shadows=3", "takes no parameters"),
    ],
)
def test_specs_that_name_no_attack(spec, message) -> None:
    with pytest.raises(GradwireError, match=message):
        attack(spec)


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_read_back(spec) -> None:
    assert attack(attack(spec).spec) == attack(spec)
    assert attack(spec).spec == spec
