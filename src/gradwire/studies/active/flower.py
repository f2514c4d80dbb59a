"""The same lies, and those that SecAgg+ alone believes, told to Flower's own client half.

The server's part of a lie is written here; every client is Flower's `secaggplus_mod` around one step of SGD. What a lie
recovers is compared with the truth only afterwards.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from flwr.common import bytes_to_ndarray
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    public_key_to_bytes,
)
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower.secaggplus import Arrays, Nodes, SecAggPlus, honest_round
from gradwire.schemes import Layout
from gradwire.studies.active.lies import HUGE, Gain
from gradwire.studies.active.scene import Scene

VICTIM = 1


@dataclass(frozen=True)
class FlowerScene:
    """Nodes with the data of a scene, whose first is the victim and whose last `colluders` side with the server."""

    terms: SecAggPlus
    scene: Scene

    @property
    def clients(self) -> int:
        """All of them."""
        return len(self.scene.batches)

    @cached_property
    def start(self) -> Arrays:
        """The parameters that an honest server hands out."""
        return _arrays(self.scene.model)

    @cached_property
    def truth(self) -> Tensor:
        """What the victim's step takes from them, flat."""
        return Layout.of_model(self.scene.model).flatten(self.scene.gradient("client:0", self.scene.model))

    def nodes(self) -> Nodes:
        """Nodes that have not been asked anything."""
        return Nodes(self.clients, self._train)

    def _train(self, node: int, arrays: Arrays) -> tuple[Arrays, int]:
        """One step of SGD at a rate of 1."""
        party, model = f"client:{node - 1}", deepcopy(self.scene.model)
        with torch.no_grad():
            for parameter, array in zip(model.parameters(), arrays, strict=True):
                parameter.copy_(torch.from_numpy(array.copy()))
        change = self.scene.gradient(party, model)
        trained = [a - change[n].numpy() for a, (n, _) in zip(arrays, model.named_parameters(), strict=True)]
        return trained, len(self.scene.batches[node - 1][0])

    def told(self) -> dict[str, float]:
        """What the victim is told so that its values are fine: a weight that is all of its own."""
        return {Key.MAX_WEIGHT: float(len(self.scene.batches[0][0]))}

    def change(self, codes: Arrays, clients: int = 1, start: Arrays | None = None) -> Tensor:
        """What the victim's step has taken from its parameters, behind a sum of codes of so many clients.

        Args:
            start: of the sum of the parameters with which they began.
        """
        step, total = 2 * self.terms.clipping_range / self.terms.quantization_range, []
        for code, begin in zip(codes[1:], self.start if start is None else start, strict=True):
            signed = (code % self.terms.modulus_range).astype(np.float64)
            total.append(begin - (signed * step - clients * self.terms.clipping_range))
        return torch.from_numpy(np.concatenate([part.reshape(-1) for part in total]))


FlowerLie = Callable[[FlowerScene], Gain]


def honest(scene: FlowerScene) -> Gain:
    """Keep to the protocol: what the mean of all has of the victim's update."""
    mean = honest_round(scene.terms, scene.nodes(), scene.start).mean
    change = [a - b.reshape(a.shape) for a, b in zip(scene.start, mean, strict=True)]
    return Gain(torch.from_numpy(np.concatenate([part.reshape(-1) for part in change])), scene.truth)


def split_clipping(scene: FlowerScene) -> Gain:
    """Tell everybody but the victim a huge clipping range: the others contribute constants."""
    nodes = scene.nodes()
    others = {i: {Key.CLIPPING_RANGE: HUGE} for i in nodes.names if i != VICTIM}
    codes = _summed(scene, nodes, nodes.masked(scene.terms, scene.start, {VICTIM: scene.told(), **others}))
    constant = (scene.clients - 1) * scene.terms.quantization_range // 2
    return Gain(scene.change([code - constant for code in codes]), scene.truth)


def other_models(scene: FlowerScene) -> Gain:
    """Give everybody but the victim a model whose gradients vanish before its last layer."""
    suppressed, nodes = deepcopy(scene.scene.model), scene.nodes()
    matrices = [name for name, p in suppressed.named_parameters() if p.dim() > 1]
    with torch.no_grad():
        suppressed.get_parameter(matrices[-1]).zero_()
    given = {i: scene.start if i == VICTIM else _arrays(suppressed) for i in nodes.names}
    sent = nodes.masked(scene.terms, given, dict.fromkeys(nodes.names, scene.told()))
    begun = [np.sum(each, axis=0) for each in zip(*given.values(), strict=True)]
    before = Layout.of_model(suppressed).offsets[matrices[-1]]
    change = scene.change(_summed(scene, nodes, sent), scene.clients, begun)
    return Gain(change[:before], scene.truth[:before])


def split_survivors(scene: FlowerScene) -> Gain:
    """Tell half of the honest clients that the victim is gone, half that it stayed; colluders complete the shares."""
    nodes = scene.nodes()
    sent = nodes.masked(scene.terms, scene.start, {VICTIM: scene.told()})
    bad = nodes.names[len(nodes.names) - scene.scene.colluders :]
    honest_others = [i for i in nodes.names[1:] if i not in bad]
    misled = set(honest_others[len(honest_others) // 2 :])
    seeds, secrets = [], []
    for i in nodes.names:
        if i in bad:
            memory = nodes.memory(i)
            seeds.append(_held(memory, "rd_seed_share_dict"))
            secrets.append(_held(memory, "sk1_share_dict"))
        else:
            gone = [VICTIM] if i in misled else []
            shares = _revealed(nodes, i, [j for j in nodes.names if j not in gone], gone)
            (secrets if gone else seeds).append(shares[-1 if gone else 0])
    return _victim(scene, nodes, sent[VICTIM], seeds, secrets)


def both_lists(scene: FlowerScene) -> Gain:
    """Ask for the victim's secrets as of one who has stayed and of one who has not, in the same message."""
    nodes = scene.nodes()
    sent = nodes.masked(scene.terms, scene.start, {VICTIM: scene.told()})
    answers = [_revealed(nodes, i, list(nodes.names), [VICTIM]) for i in nodes.names[1:]]
    return _victim(scene, nodes, sent[VICTIM], [each[0] for each in answers], [each[-1] for each in answers])


def small_threshold(scene: FlowerScene) -> Gain:
    """Tell all that one share restores a secret: each of two clients then gives one of the victim's away."""
    nodes = scene.nodes()
    told = {i: {Key.THRESHOLD: 1, **(scene.told() if i == VICTIM else {})} for i in nodes.names}
    sent = nodes.masked(scene.terms, scene.start, told)
    return _victim(
        *(scene, nodes, sent[VICTIM]), [_revealed(nodes, 2, [VICTIM], [])[0]], [_revealed(nodes, 3, [2], [VICTIM])[-1]]
    )


def shrunk_neighbourhood(scene: FlowerScene) -> Gain:
    """Tell the victim that it is alone, and that one share is enough: its own mask is all, and it gives it away."""
    nodes = scene.nodes()
    sent = nodes.ask(
        VICTIM, Stage.SETUP, scene.terms.setup(1, **{Key.THRESHOLD: 1, Key.SHARE_NUMBER: 1, **scene.told()})
    )
    nodes.ask(VICTIM, Stage.SHARE_KEYS, {str(VICTIM): [sent[Key.PUBLIC_KEY_1], sent[Key.PUBLIC_KEY_2]]})
    masked = nodes.collect(VICTIM, {}, scene.start)
    seed = combine_shares([_revealed(nodes, VICTIM, [VICTIM], [])[0]])
    return Gain(scene.change(_minus(scene, masked, [(seed, 1)])), scene.truth)


def false_keys(scene: FlowerScene) -> Gain:
    """Give the victim keys of the server's own in place of its peers': what it shares, it shares with the server."""
    nodes, pairs = scene.nodes(), {i: (generate_key_pairs(), generate_key_pairs()) for i in range(2, scene.clients + 1)}
    sent = nodes.ask(VICTIM, Stage.SETUP, scene.terms.setup(scene.clients, **scene.told()))
    own = sent[Key.PUBLIC_KEY_1], sent[Key.PUBLIC_KEY_2]
    faked = {str(i): [public_key_to_bytes(public) for _, public in both] for i, both in pairs.items()}
    dealt = nodes.ask(VICTIM, Stage.SHARE_KEYS, {str(VICTIM): list(own), **faked})
    seeds = []
    for i, data in zip(dealt[Key.DESTINATION_LIST], dealt[Key.CIPHERTEXT_LIST], strict=True):
        key = generate_shared_key(pairs[i][1][0], bytes_to_public_key(own[1]))
        seeds.append(share_keys_plaintext_separate(decrypt(key, data))[2])
    answers = {i: _dealt_back(pairs[i][1][0], own[1], i) for i in pairs}
    masked = nodes.collect(VICTIM, answers, scene.start)
    mine = bytes_to_public_key(own[0])
    shared = [(generate_shared_key(both[0][0], mine), _sign(i)) for i, both in pairs.items()]
    return Gain(scene.change(_minus(scene, masked, [(combine_shares(seeds), 1), *shared])), scene.truth)


def replay(scene: FlowerScene) -> Gain:
    """Ask for shares a second time, with the victim on the other list."""
    nodes = scene.nodes()
    sent = nodes.masked(scene.terms, scene.start, {VICTIM: scene.told()})
    first = [_revealed(nodes, i, list(nodes.names), [])[0] for i in nodes.names[1:]]
    again = [_revealed(nodes, i, list(nodes.names[1:]), [VICTIM])[-1] for i in nodes.names[1:]]
    return _victim(scene, nodes, sent[VICTIM], first, again)


def _guarded(lie: FlowerLie, scene: FlowerScene) -> Gain:
    """A lie, where a client's refusal leaves the server nothing."""
    try:
        return lie(scene)
    except (GradwireError, ValueError) as refusal:  # Flower's own: shares that give no secret
        return Gain(None, scene.truth, (str(refusal),))


FLOWER_LIES: Mapping[str, tuple[FlowerLie, str]] = {
    name: (partial(_guarded, lie), what)
    for name, lie, what in (
        ("none", honest, "keeps to the protocol"),
        ("split R_max", split_clipping, "tells the others a huge clipping range"),
        ("split survivors", split_survivors, "tells some that the victim is gone; colluders complete the shares"),
        ("both lists", both_lists, "says of the victim that it stayed and that it is gone"),
        ("other models", other_models, "gives the others a model whose gradients vanish"),
        ("false keys", false_keys, "passes on keys of its own as the peers'"),
        ("small threshold", small_threshold, "says that one share restores a secret"),
        ("shrunk neighbourhood", shrunk_neighbourhood, "tells the victim that it is alone"),
        ("replay", replay, "asks for shares a second time"),
    )
}


def _arrays(model: nn.Module) -> Arrays:
    return [parameter.detach().numpy().copy() for parameter in model.parameters()]


def _vector(sent: Mapping[str, Any]) -> Arrays:
    return [bytes_to_ndarray(data) for data in sent[Key.MASKED_PARAMETERS]]


def _minus(scene: FlowerScene, sent: Mapping[str, Any], masks: Iterable[tuple[bytes, int]]) -> Arrays:
    """A masked vector without masks of these seeds and signs."""
    vector = _vector(sent)
    for seed, sign in masks:
        noise = pseudo_rand_gen(seed, scene.terms.modulus_range, [code.shape for code in vector])
        vector = [code - sign * each for code, each in zip(vector, noise, strict=True)]
    return vector


def _summed(scene: FlowerScene, nodes: Nodes, sent: Mapping[int, Mapping[str, Any]]) -> Arrays:
    """The sum of all, as an honest server opens it, modulo R."""
    answers = [_revealed(nodes, i, list(nodes.names), []) for i in nodes.names]
    opened = [
        _minus(scene, sent[i], [(combine_shares([each[place] for each in answers]), 1)])
        for place, i in enumerate(nodes.names)
    ]
    return [np.sum(each, axis=0) % scene.terms.modulus_range for each in zip(*opened, strict=True)]


def _revealed(nodes: Nodes, node: int, active: list[int], dead: list[int]) -> list[bytes]:
    """The shares that a node reveals, those of the active first."""
    said = {Key.ACTIVE_NODE_ID_LIST: active, Key.DEAD_NODE_ID_LIST: dead}
    return list(nodes.ask(node, Stage.UNMASK, said)[Key.SHARE_LIST])


def _sign(other: int) -> int:
    """With which the victim has added the mask that it shares with another node."""
    return 1 if other < VICTIM else -1


def _held(memory: Mapping[str, Any], name: str) -> bytes:
    """The victim's share that a colluder remembers."""
    return memory[f"{name}:V"][list(memory[f"{name}:K"]).index(VICTIM)]


def _victim(
    scene: FlowerScene, nodes: Nodes, sent: Mapping[str, Any], seeds: list[bytes], secrets: list[bytes]
) -> Gain:
    """The victim's own values, from shares of both of its secrets."""
    secret = bytes_to_private_key(combine_shares(secrets))
    masks = [(combine_shares(seeds), 1)]
    keys = nodes.memory(VICTIM)  # of public keys, which the server has passed on
    pairs = list(zip(keys["public_keys_dict:K"], keys["public_keys_dict:V"][::2], strict=True))
    for i, public in pairs:
        if i != VICTIM:
            masks.append((generate_shared_key(secret, bytes_to_public_key(public)), _sign(i)))
    return Gain(scene.change(_minus(scene, sent, masks)), scene.truth)


def _dealt_back(secret: Any, public: bytes, dealer: int) -> bytes:
    """A share of nothing, as if a peer had dealt it to the victim."""
    key = generate_shared_key(secret, bytes_to_public_key(public))
    return encrypt(key, share_keys_plaintext_concat(dealer, VICTIM, bytes(20), bytes(20)))
