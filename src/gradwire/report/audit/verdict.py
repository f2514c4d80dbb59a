"""What an audit's figures allow anybody to say of a scheme: what it gives away, or that it cannot be told.

That attacks failed is no finding unless they could have succeeded: the same attack breaks the plain update, no victim's
search was too short, and the adversary's own images, too, come out below what counts as a success.
"""

from collections.abc import Sequence

from gradwire.report.audit.summary import Setting, Summary, labels
from gradwire.report.formats import NOTHING, plural
from gradwire.report.rows import BASELINE
from gradwire.report.tables import Table

WORDS = (*Setting._fields, "scheme", "knowledge")
NOTE = (
    "Its own: the mean that the attack reached on the adversary's own {what} under the same scheme, which is what it "
    "expects. No attack succeeded: not with any victim, while the same attack breaks the scheme none, every search "
    "went as far as its objective leads, and its own came out as no successes either. Cannot tell: one of these "
    "conditions does not hold. Who knows the scheme can run the naive attack, too."
)
BREAKS = 0.5
"""The share of victims of the plain update that an attack must give away for its failures to count."""


def said(summary: Summary, summaries: Sequence[Summary], parts: Sequence[Summary] = ()) -> str:
    """The verdict on one scheme under one kind of knowledge, among all summaries of a run and of attacks' parts.

    Who knows the scheme can run the naive attack, too: what that one gives away counts for both.
    """
    given = round(summary.success * summary.victims)
    same = [s for s in summaries if s.scheme == summary.scheme]
    naive = next((s for s in same if s.knowledge == "naive" and s.setting == summary.setting), summary)
    if naive.success > summary.success:
        return f"{said(naive, summaries)} to the naive attack"
    if given:
        proved = f", {summary.verdicts['exact']} of them proved" if summary.verdicts.get("exact") else ""
        return f"gives away {given} of {plural(summary.victims, 'victim')}{proved}"
    if reasons := doubts(summary, summaries, parts):
        return f"cannot tell: {'; '.join(reasons)}"
    return "this attack did not succeed" if any(s.success for s in same) else "no attack here succeeded"


def verdict_table(summaries: Sequence[Summary], parts: Sequence[Summary] = ()) -> Table:
    """Scheme and knowledge; the victim of whom most was given away, what own images promised, and the verdict."""
    varying = labels(summary.setting for summary in summaries)
    lines = [
        {
            **varying[summary.setting],
            "scheme": summary.scheme,
            "knowledge": summary.knowledge,
            "worst victim": summary.domain.says(summary.worst),
            "its own": NOTHING if summary.expected is None else summary.domain.says(summary.expected),
            "verdict": said(summary, summaries, parts),
        }
        for summary in summaries
    ]
    return Table.of(lines, (*WORDS, "verdict"), NOTE.format(what=summaries[0].domain.what))


def parts_table(summaries: Sequence[Summary]) -> Table:
    """Mean scores of the attacks that the strongest is made of, a column an attack."""
    attacks = list(dict.fromkeys(summary.setting.attack for summary in summaries))
    cases: dict[tuple[str, str], dict[str, Summary]] = {}
    for summary in summaries:
        cases.setdefault((summary.scheme, summary.knowledge), {})[summary.setting.attack] = summary
    titles = {attack: attack.partition(":")[0].partition("/")[2] for attack in attacks}
    lines = [
        {
            "scheme": scheme,
            "knowledge": knowledge,
            **{t: found[a].domain.says(found[a].score) if a in found else NOTHING for a, t in titles.items()},
        }
        for (scheme, knowledge), found in cases.items()
    ]
    note = "alone: from this one message; the others heard every round before it." if "alone" in titles.values() else ""
    return Table.of(lines, WORDS, note)


def doubts(summary: Summary, summaries: Sequence[Summary], parts: Sequence[Summary] = ()) -> list[str]:
    """Why it does not follow from failed attacks that nothing leaks; empty where it does, for these attacks.

    Of an attack that has parts, one that searches must break the plain update: that algebra solves it tells nothing of
    how far a search would come.
    """
    domain, alike = summary.domain, (summary.setting, summary.knowledge)
    plain = [s for s in summaries if s.scheme == BASELINE and (s.setting, s.knowledge) == alike]
    found = []
    if summary.scheme == BASELINE:
        found.append("not even the plain update was inverted")
    elif not plain:
        found.append(f"whether this attack breaks {BASELINE} was not tried")
    elif (broken := _searched(plain[0], parts)) < BREAKS:
        told = f"{round(broken * plain[0].victims)} of {plain[0].victims} under {BASELINE}"
        found.append(f"the attack breaks only {told}{' by search' if broken < plain[0].success else ''}")
    short, known = summary.verdicts.get("too short", 0), sum(summary.verdicts.values())
    if short:
        found.append(f"the search was too short for {short} of {summary.victims}")
    if known < summary.victims:
        found.append("how far the search came is not known")
    if summary.expected is None:
        found.append("nothing was rehearsed on images of the adversary's own" if domain.pictures else "")
    elif domain.gives_away(summary.expected):
        found.append(f"the adversary's own images came out at {domain.says(summary.expected)}")
    return [reason for reason in found if reason]


def _searched(plain: Summary, parts: Sequence[Summary]) -> float:
    """The share of victims of the plain update that the attack's best search gives away, where it has parts."""
    alike = [s for s in parts if s.scheme == BASELINE and (_whole(s), s.knowledge) == (plain.setting, plain.knowledge)]
    return max((s.success - s.verdicts.get("exact", 0) / s.victims for s in alike), default=plain.success)


def _whole(part: Summary) -> Setting:
    """The setting of the attack that this one is a part of: strongest/annealed:iterations=600 is of strongest."""
    name, colon, options = part.setting.attack.partition(":")
    return part.setting._replace(attack=f"{name.partition('/')[0]}{colon}{options}")
