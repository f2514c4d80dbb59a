"""The lies: what a server tells whom to get one client's update out of a secure sum, and what it then has.

Each lie is a function of a `Scene`. What it recovers is compared with the truth only afterwards.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from inspect import getgeneratorlocals

import torch
from torch import Tensor

from gradwire.schemes import Layout
from gradwire.schemes.ssga import SSGA
from gradwire.secure import keys
from gradwire.secure.byte_tensors import to_tensor
from gradwire.secure.kdf import KEY_BYTES, random_bytes
from gradwire.seeds import generator
from gradwire.studies.active.scene import VICTIM, Played, Scene, play
from gradwire.studies.active.shares import unmasked
from gradwire.wire import Tensors, indices

HUGE = 1e30


@dataclass(frozen=True)
class Gain:
    """What a lie has brought.

    Attributes:
        found: what the server takes for the victim's own values, shape (K,); None where it has got nothing.
        truth: what they are.
        refusals: what clients said that would not go on.
    """

    found: Tensor | None
    truth: Tensor
    refusals: tuple[str, ...] = ()

    @property
    def correlation(self) -> float:
        """Between what was found and the truth; 0 where nothing was."""
        if self.found is None or len(self.truth) < 2:
            return 0.0
        both = torch.stack([self.found.double(), self.truth.double()])
        return float(torch.corrcoef(both).nan_to_num()[0, 1])


Lie = Callable[[Scene], Gain]


def nothing(scene: Scene) -> Gain:
    """Keep to the protocol: what the sum of all has of the victim's update."""
    return _of_sum(scene, play(scene))


def split_maximum(scene: Scene) -> Gain:
    """Tell the victim the true R_max and everybody else a huge one: the others contribute constants."""

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        if party == VICTIM:
            return tensors
        if "maxima" in tensors:
            own = tensors["places"] == scene.parties.index(party)
            return {**tensors, "maxima": torch.where(own, tensors["maxima"], HUGE)}
        return {**tensors, "maximum": torch.tensor(HUGE)} if "maximum" in tensors else tensors

    return _of_sum(scene, play(scene, said))


def split_union(scene: Scene) -> Gain:
    """Tell everybody but the victim another union, of entries that nobody chose: theirs are next to nothing."""

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        if party == VICTIM or "indices" not in tensors:
            return tensors
        size, count = Layout.of_model(scene.model).size, int(tensors["count"])
        chosen = indices.decode(tensors["indices"], count, size)
        rest = torch.ones(size).index_fill_(0, chosen, 0).nonzero()[:, 0]
        order = torch.randperm(len(rest), generator=generator("other union", scene.seed))
        other = rest[order[:count]].sort().values
        return {**tensors, "indices": indices.encode(other, size)} if len(other) == count else tensors

    return _of_sum(scene, play(scene, said))


def split_survivors(scene: Scene) -> Gain:
    """Tell half of the honest clients that the victim is gone, half that it stayed; colluders complete the shares."""
    bad = scene.parties[len(scene.parties) - scene.colluders :]
    honest = scene.parties[1 : len(scene.parties) - scene.colluders]
    misled = set(honest[len(honest) // 2 :])
    spied = {}

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        if phase == "masked" and party in bad and "places" in tensors:
            spied[party] = getgeneratorlocals(played.halves[party])["member"].held  # a colluder's memory
        if phase == "masked" and party in misled and "places" in tensors:
            return {"places": tensors["places"][tensors["places"] != 0]}
        return tensors

    played = play(scene, said)
    truth = _sent(scene, played)
    return Gain(unmasked(scene, played, spied, misled, len(truth)), truth, tuple(played.refusals))


def other_models(scene: Scene) -> Gain:
    """Give everybody but the victim a model whose gradients vanish before its last layer (Pasquini et al. 2022)."""
    suppressed = deepcopy(scene.model)
    matrices = [name for name, p in suppressed.named_parameters() if p.dim() > 1]
    with torch.no_grad():
        suppressed.get_parameter(matrices[-1]).zero_()
    played = play(scene, models=dict.fromkeys(scene.parties[1:], suppressed))
    layout = Layout.of_model(scene.model)
    return _of_sum(scene, played, layout.offsets[matrices[-1]])


def shrunk_neighbourhood(scene: Scene) -> Gain:
    """Pass on to the victim no keys but the colluders', who know the masks that it shares with them."""
    bad = [i for i in range(len(scene.parties)) if i >= len(scene.parties) - scene.colluders]

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        if party != VICTIM or not {"keys", "signatures"} <= tensors.keys():
            return tensors
        kept = torch.isin(tensors["places"], torch.tensor(bad, dtype=torch.int32))
        return {name: tensor[kept] for name, tensor in tensors.items()}

    return _of_sum(scene, play(scene, said))


def false_keys(scene: Scene) -> Gain:
    """Pass on to the victim keys of the server's own in place of its peers', which nobody but they can sign."""
    secret = keys.secret_key("x25519", random_bytes(KEY_BYTES))
    own = to_tensor(keys.public_key("x25519", secret))

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        if party != VICTIM or not {"keys", "signatures"} <= tensors.keys():
            return tensors
        faked = tensors["keys"].clone()
        faked[tensors["places"] != 0, : len(own)] = own
        return {**tensors, "keys": faked}

    return _of_sum(scene, play(scene, said))


def replay(scene: Scene) -> Gain:
    """Say again in a second round what was said in the first, so that masks serve twice and their difference tells."""
    first_states = scene.states(scene.model)
    heard: dict[tuple[str, str], Tensors] = {}

    def record(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        heard[phase, party] = tensors
        return tensors

    play(scene, record, private=first_states)
    opening = ("keys", "choose", "shares", "ready")

    def said(played: Played, phase: str, party: str, tensors: Tensors) -> Tensors:
        return heard.get((phase, party), tensors) if phase in opening else tensors

    return _of_sum(scene, play(scene, said, index=1, private=first_states))


def _sent(scene: Scene, played: Played) -> Tensor:
    """What the victim has sent, shape (K,)."""
    layout = Layout.of_model(scene.model)
    truth = layout.flatten(scene.gradient(VICTIM, scene.model))
    if not isinstance(scene.scheme, SSGA):
        return truth
    heard = {name: tensor for tensors in played.replies.values() for name, tensor in tensors.items()}
    return truth[scene.scheme.entries(heard, scene.round(0, scene.model))]


def _of_sum(scene: Scene, played: Played, before: int | None = None) -> Gain:
    """The sum as the victim's own values: where it is not zero, of the entries before one."""
    truth = Layout.of_model(scene.model).flatten(scene.gradient(VICTIM, scene.model))[:before]
    if played.sum is None:
        return Gain(None, truth, tuple(played.refusals))
    found = played.sum[:before]
    there = found != 0
    return Gain(found[there], truth[there], tuple(played.refusals))
