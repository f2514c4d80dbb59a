"""What a view says of the victim's uploads, to each kind of adversary."""

from gradwire.errors import GradwireError
from gradwire.schemes.buckets import Bucketed
from gradwire.schemes.halves import under
from gradwire.schemes.layout import Layout, parameters
from gradwire.schemes.round import Observation, Round
from gradwire.schemes.scheme import Scheme
from gradwire.schemes.spec import parse
from gradwire.wire import BUFFERS, EVERYONE, SERVER, WEIGHTS, Tensors, View


def observation(view: View) -> tuple[Scheme, Observation]:
    """The scheme of a view, and the victim's part in the round as this adversary works it out.

    The server and an eavesdropper read the victim's uploads. A fellow client sees only the replies and its own
    uploads, which it takes out of the replies. This leaves the mean over the other clients (`pooled` says which), and
    with two clients the victim alone.

    Raises:
        GradwireError: the view holds no message of the victim, or too few to tell.
    """
    scheme = parse(view.scheme)
    if view.buckets:
        scheme = Bucketed(scheme, view.buckets)
    messages = [m for m in view.messages if m.phase not in (BUFFERS, WEIGHTS)]
    layout = Layout.of_model(view.model)
    round = Round(view.round, view.clients, view.seed, layout, start=parameters(view.model), weights=view.weights)
    reached = (EVERYONE, view.victim if view.adversary in (SERVER, "eavesdropper") else view.adversary)
    replies = {m.phase: m.tensors for m in messages if m.sender == SERVER and m.receiver in reached}
    if view.adversary in (SERVER, "eavesdropper"):
        uploads = {m.phase: m.tensors for m in messages if m.sender == view.victim}
    else:
        sent = {m.phase: m.tensors for m in messages if m.sender == view.adversary}
        uploads = {
            phase: _others(scheme, phase, replies[phase], own, view, round)
            for phase, own in sent.items()
            if phase in replies
        }
    if not uploads:
        raise GradwireError(f"the view of {view.adversary} holds no message that tells anything of {view.victim}")
    return scheme, Observation(uploads, replies, view.public, round, view.victim, view.own)


def pooled(view: View, scheme: Scheme) -> tuple[str, ...]:
    """The clients whose mean update the adversary observes; the victim is the first of them."""
    if view.adversary in (SERVER, "eavesdropper"):
        return (view.victim, *others(view)) if scheme.sums_only else (view.victim,)
    return (view.victim, *(party for party in others(view) if party != view.adversary))


def others(view: View) -> tuple[str, ...]:
    """The round's clients but for the victim, whose labels `view.fellow_targets` holds in this order."""
    return tuple(party for party in view.clients if party != view.victim)


def _others(scheme: Scheme, phase: str, reply: Tensors, own: Tensors, view: View, round: Round) -> Tensors:
    """`Scheme.others`, of one bucket where there are any."""
    if isinstance(scheme, Bucketed):
        label = int(phase.partition("/")[0])
        inner, public = scheme.scheme, under(view.public, label)
        return inner.others(reply, own, view.adversary, public, scheme.within(label, round))
    return scheme.others(reply, own, view.adversary, view.public, round)
