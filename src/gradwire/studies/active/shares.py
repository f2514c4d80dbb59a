"""What a server makes of shares of both secrets of one client: its codes without any mask."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure import keys, shares
from gradwire.secure.byte_tensors import read_by_place, to_bytes
from gradwire.secure.commitments import Commitments, own_mask, pair_mask, pair_secret
from gradwire.secure.double_mask import DoubleMask
from gradwire.secure.masks import blend
from gradwire.secure.shares import SECRET_BYTES
from gradwire.studies.active.scene import VICTIM, Played, Scene


def unmasked(
    scene: Scene, played: Played, spied: Mapping[str, Mapping[int, bytes]], misled: set[str], count: int
) -> Tensor | None:
    """The victim's `count` values, if there are enough shares of both secrets; None if not.

    Args:
        spied: what colluders hold, of every client.
        misled: those that were told that the victim is gone.
    """
    round = scene.round(0, scene.model)
    gathering, protocol, ring = scene.scheme.gathering(round), scene.scheme.protocol, scene.scheme.ring(round)
    if not isinstance(protocol, DoubleMask) or "unmask" not in played.uploads:
        return None
    rules, parts = protocol.rules(gathering), {0: dict[int, bytes](), 1: dict[int, bytes]()}
    for i, party in enumerate(scene.parties):
        if party in spied:
            both = spied[party][0]
            parts[0][i], parts[1][i] = both[:SECRET_BYTES], both[SECRET_BYTES:]
        elif party in played.uploads["unmask"]:
            revealed = read_by_place(played.uploads["unmask"][party], "shares", SECRET_BYTES, party)
            parts[int(party in misled)][i] = revealed[0]
    try:
        seed, key_seed = (shares.combine(parts[kind], rules.needed, rules.holders) for kind in (0, 1))
    except WireError:
        return None
    published = {
        i: Commitments.parse(gathering, to_bytes(played.uploads["keys"][party]["keys"]))
        for i, party in enumerate(scene.parties)
    }
    secret = keys.secret_key(gathering.curve, key_seed)
    masks = [(own_mask(gathering, seed, 0), -1)]
    for i in range(1, len(scene.parties)):
        shared = pair_secret(gathering, secret, published[i].mask_key, i)
        masks.append((pair_mask(gathering, shared, 0, i), -1))
    codes = played.uploads["masked"][VICTIM]["masked"].numpy().copy()
    if len(codes) != count:
        return None
    blend(codes, masks)
    maximum = scene.scheme.maximum(played.replies.get("offer", {}), gathering)
    return torch.from_numpy((codes.astype(np.float64) * 2 / ring.ceiling - 1) * maximum)
