"""Means that withstand some malicious clients, where the server sees single updates.

The coordinate-wise median: D. Yin et al., "Byzantine-robust distributed learning", ICML 2018, definition 1. Krum: P.
Blanchard et al., "Machine learning with adversaries", NeurIPS 2017, section 4. Clipping to the median length: the norm
bound of Z. Sun et al., "Can you really backdoor federated learning?", 2019, with a bound that nobody has to choose.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Observation, Round, Scheme, State, Update
from gradwire.wire import BUFFERS, SERVER, WEIGHTS, Message, Need

RULES = ("mean", "median", "krum", "clip")


def check_rule(rule: str, clients: int, average: str, scheme: Scheme) -> None:
    """Refuse a rule that there is none of, or that this run cannot follow, by name.

    Raises:
        GradwireError: naming what is wrong: a rule of no known form, too few clients, weights, a scheme whose server
            does not see single updates.
    """
    name, _, bad = rule.partition(":")
    if name not in RULES or (name == "krum") != bad.isdigit() or (name != "krum" and ":" in rule):
        raise GradwireError(f"rule is {rule!r}; it must be mean, median, clip, or krum:F against F malicious clients")
    if name == "mean":
        return
    if name == "krum" and clients < 2 * int(bad) + 3:
        raise GradwireError(f"rule is {rule} with {clients} clients a round; Krum needs 2·{bad} + 3 or more")
    if average != "plain":
        raise GradwireError(f"rule is {rule}; it counts all clients alike, so average must be plain")
    if scheme.sums_only or Need.SERVER in scheme.needs:
        raise GradwireError(f"rule is {rule}; it compares single updates, which {scheme.spec} does not show the server")


def singles(
    scheme: Scheme, messages: Sequence[Message], round: Round, public: State, rule: str = "a robust mean"
) -> dict[str, Update]:
    """Each client's update as the server decodes it, party → update.

    Raises:
        GradwireError: a scheme whose later messages depend on the mean of the first ones, which no rule made robust;
            or running statistics, whose mean no rule makes.
    """
    found = {}
    replies = {m.phase: m.tensors for m in messages if m.sender == SERVER}
    for party in round.clients:
        uploads = {m.phase: m.tensors for m in messages if m.sender == party}
        if BUFFERS in uploads:
            raise GradwireError(f"rule is {rule}; the network's running statistics would still be a plain mean")
        phases = [phase for phase in uploads if phase != WEIGHTS]
        if len(phases) > 1:
            why = f"{scheme.spec} sends {len(phases)} messages, of which the later follow from a plain mean"
            raise GradwireError(f"rule is {rule}; {why}")
        if phases:
            found[party] = scheme.decode(Observation(uploads, replies, public, round, party))
    return found


def robust_mean(rule: str, updates: Mapping[str, Update], layout: Layout) -> Update:
    """What a rule makes of single updates."""
    rows = torch.stack([layout.flatten(update) for update in updates.values()])
    name, _, bad = rule.partition(":")
    if name == "median":
        return layout.unflatten(median(rows))
    if name == "krum":
        return layout.unflatten(rows[krum(rows, int(bad))])
    return layout.unflatten(clipped(rows).mean(0))


def median(rows: Tensor) -> Tensor:
    """The median of each entry over clients (C, D); of an even number, the mean of the two in the middle."""
    ordered = rows.sort(0).values
    return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2


def krum(rows: Tensor, malicious: int) -> int:
    """The client whose update is nearest to its C − F − 2 nearest others, by the sum of squared distances."""
    distances = torch.cdist(rows.double(), rows.double()).square()
    near = distances.sort(1).values[:, 1 : len(rows) - malicious - 1]
    return int(near.sum(1).argmin())


def clipped(rows: Tensor) -> Tensor:
    """Updates (C, D) that are no longer than the median of their lengths."""
    lengths = rows.norm(dim=1)
    bound = median(lengths[:, None])[0]
    return rows * (bound / lengths.clamp_min(torch.finfo(rows.dtype).tiny)).clamp_max(1)[:, None]
