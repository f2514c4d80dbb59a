"""The server's part in a sum under double masks: it passes on, names who lies, and takes off the masks.

The phases are those of `double_mask`. A client that lies is left out as soon as it is found out: before the masks, by
its peers (its keys or its shares are not what it signed or committed itself to), and afterwards by the digests of
shares. The round goes on without it as long as enough are left.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from gradwire.errors import TooFewError, WireError
from gradwire.secure import directory, keys, shares
from gradwire.secure.byte_tensors import by_place, part, places, read_by_place, rows, table
from gradwire.secure.channels import TAG_BYTES
from gradwire.secure.commitments import (
    DIGEST_BYTES,
    Commitments,
    Rules,
    own_mask,
    pair_mask,
    pair_secret,
    seed_digest,
    share_digest,
)
from gradwire.secure.kdf import KEY_BYTES
from gradwire.secure.masks import blend
from gradwire.secure.protocol import ServerPart, SumServer, Total, Uploads
from gradwire.secure.ring import Ring
from gradwire.secure.shares import SECRET_BYTES
from gradwire.wire import Deal, Send, Tensors

T = TypeVar("T")
Read = Callable[[int, Tensors, str], T]
"""(place, what it sent, where) → what it means; raises WireError."""
SEALED_BYTES = 2 * SECRET_BYTES + TAG_BYTES


class Dealt(NamedTuple):
    """A client's sealed shares, and the digests of its shares, by holder."""

    sealed: dict[int, bytes]
    digests: dict[int, bytes]


@dataclass(frozen=True)
class DoubleMaskServer(SumServer):
    """The server's part in one round's sum.

    Attributes:
        published: what clients that go on have published, by place.
        chosen: the places to which each deals shares, beside itself.
        digests: of those shares, dealer → holder → digests of both.
    """

    rules: Rules
    published: dict[int, Commitments] = field(default_factory=dict)
    chosen: dict[int, tuple[int, ...]] = field(default_factory=dict)
    digests: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def open(self, uploads: Uploads) -> ServerPart[tuple[Self, Uploads]]:
        """Phases keys, (choose), shares and ready."""
        gathering, rules = self.gathering, self.rules
        width = 2 * keys.PUBLIC_BYTES[gathering.curve] + KEY_BYTES
        signed, bad = self._sound(uploads, "keys", lambda i, sent, where: directory.collect(sent, width, where))
        chosen, phase = {i: rules.others(i) for i in signed}, "keys"
        if not rules.complete:
            self._present(signed, "keys", bad)
            uploads = yield Send(gathering.phase("keys"), {}, left_out=bad)
            chosen, bad = self._sound(uploads, "choose", self._choice)
            phase = "choose"
        present = self._present(chosen, phase, bad)
        self.chosen.update(chosen)
        signed = {i: signed[i] for i in present if i in signed}
        replies = {p: directory.pass_on(signed, self._peers(i), width) for i, p in present.items()}
        uploads = yield Deal(gathering.phase(phase), replies, bad)

        dealt, bad = self._sound(uploads, "shares", self._dealt)
        present = self._present(dealt, "shares", bad)
        replies = {party: self._hand(i, dealt) for i, party in present.items()}
        uploads = yield Deal(gathering.phase("shares"), replies, bad)

        accepted, bad = self._sound(uploads, "ready", _accepted)
        bad |= self._not_believed(accepted, dealt)
        present = self._present({i: None for i in accepted if gathering.parties[i] not in bad}, "ready", bad)
        self.published.update({i: Commitments.parse(gathering, signed[i][0]) for i in present})
        self.digests.update({i: dealt[i].digests for i in present})
        going = {"places": torch.tensor(list(present), dtype=torch.int32)}
        uploads = yield Send(gathering.phase("ready"), going, left_out=bad)
        return self.heard("ready", going), uploads

    def total(self, uploads: Uploads, ring: Ring, count: int, phase: str) -> ServerPart[Total]:
        """The sum of the codes that arrived in this phase, once enough of their senders have revealed their shares.

        WireError ends the round without a sum if too few clients are left or a secret cannot be restored.
        """
        gathering = self.gathering
        codes, bad = self.added(uploads, ring, count, phase)
        places_of = {party: i for i, party in enumerate(gathering.parties)}
        stayed = self._present({places_of[party]: None for party in uploads if party not in bad}, phase, bad)
        reply = {"places": torch.tensor(list(stayed), dtype=torch.int32)}
        uploads = yield Send(gathering.phase(phase), reply, left_out=bad)
        if gathering.digest is not None:
            signatures, bad = self._sound(uploads, "survivors", _signature)
            present = self._present(signatures, "survivors", bad)
            near = {i: {j: s for j, s in signatures.items() if j in self._peers(i)} for i in present}
            replies = {p: by_place("signatures", near[i], keys.SIGNATURE_BYTES) for i, p in present.items()}
            uploads = yield Deal(gathering.phase("survivors"), replies, bad)
        found, liars = self._revealed(uploads, set(stayed))
        masks: list[tuple[bytes, int]] = []
        secrets = self._restored(found)
        for place, published in sorted(self.published.items()):
            secret = secrets[place]
            if place in stayed:
                self._check(place, seed_digest(gathering, secret, place) == published.digest)
                masks.append((own_mask(gathering, secret, place), -1))
                continue
            secret = keys.secret_key(gathering.curve, secret)
            self._check(place, keys.public_key(gathering.curve, secret) == published.mask_key)
            for i in filter(stayed.__contains__, self._peers(place)):
                shared = pair_secret(gathering, secret, self.published[i].mask_key, i)
                masks.append((pair_mask(gathering, shared, place, i), 1 if place < i else -1))
        blend(codes, masks)
        return Total(codes, len(stayed), liars)

    def _sound(self, uploads: Uploads, phase: str, read: Read[T]) -> tuple[dict[int, T], dict[str, str]]:
        """What can be read of a phase's uploads, by place, and of whom nothing can: party → why."""
        found, bad = dict[int, T](), dict[str, str]()
        for i, party in enumerate(self.gathering.parties):
            if party in uploads:
                try:
                    found[i] = read(i, uploads[party], self.gathering.where(phase, party))
                except WireError as error:
                    bad[party] = str(error)
        return found, bad

    def _present(self, there: Iterable[int], phase: str, bad: Mapping[str, str]) -> dict[int, str]:
        """Those that are still there, by place; TooFewError if they are not enough."""
        parties, least = self.gathering.parties, self.rules.survivors
        present = {place: parties[place] for place in sorted(there)}
        if len(present) < least:
            left = f"{len(present)} of {len(parties)} clients are left, threshold is {least}"
            why = "".join(f"; {each}" for each in bad.values())
            raise TooFewError(f"{self.gathering.where(phase, 'server')}: {left}; the round ends without a sum{why}")
        return present

    def _peers(self, place: int) -> list[int]:
        """Those to whom a client deals shares, and those that deal to it."""
        if self.rules.complete:
            return [i for i in self.chosen if i != place]
        return [i for i in self.chosen if i != place and (i in self.chosen[place] or place in self.chosen[i])]

    def _choice(self, place: int, sent: Tensors, where: str) -> tuple[int, ...]:
        """Whom a client has drawn to deal shares to."""
        drawn = places(sent, where)
        if len(drawn) != self.rules.chosen or not set(drawn) <= set(self.rules.others(place)):
            raise WireError(f"{where}: draws {len(drawn)} places; {self.rules.chosen} others' were due")
        return tuple(sorted(drawn))

    def _dealt(self, place: int, sent: Tensors, where: str) -> Dealt:
        """The sealed shares that a client deals, and the digests of the shares."""
        sealed = read_by_place(sent, "sealed", SEALED_BYTES, where)
        if not sealed.keys() <= set(self.chosen[place]):
            raise WireError(f"{where}: deals shares to places {list(sealed)}; it chose others")
        digests = rows(part(sent, "digests", where), len(sealed) + 1, 2 * DIGEST_BYTES, f"{where}: digests")
        return Dealt(sealed, dict(zip((*sealed, place), digests, strict=True)))

    def _hand(self, place: int, dealt: Mapping[int, Dealt]) -> dict[str, Tensor]:
        """What was dealt to one client."""
        own = {i: each for i, each in dealt.items() if place in each.sealed}
        digests = table([each.digests[place] for each in own.values()], 2 * DIGEST_BYTES)
        return {**by_place("sealed", {i: e.sealed[place] for i, e in own.items()}, SEALED_BYTES), "digests": digests}

    def _not_believed(self, accepted: Mapping[int, set[int]], dealt: Mapping[int, Dealt]) -> dict[str, str]:
        """Clients whose keys or shares are not what they should be, as more of their peers say than may lie."""
        bad = {}
        for i in accepted:
            asked = [j for j in (i, *self.chosen[i]) if j in accepted]
            believe = sum(i in accepted[j] for j in asked)
            if believe < max(self.rules.needed, len(asked) - self.rules.tolerated):
                where = self.gathering.where("ready", i)
                wrong = f"{len(asked) - believe} of {len(asked)} holders find its keys or its shares wrong"
                bad[self.gathering.parties[i]] = f"{where}: {wrong}"
        return bad

    def _revealed(self, uploads: Uploads, stayed: set[int]) -> tuple[dict[int, dict[int, bytes]], dict[str, str]]:
        """Dealer → number of a holder → its share; and who has revealed another share than it was dealt."""
        read = lambda i, sent, where: read_by_place(sent, "shares", SECRET_BYTES, where)  # noqa: E731
        revealed, liars = self._sound(uploads, "unmask", read)
        self._present(revealed, "unmask", liars)
        numbers = {i: {j: x for x, j in enumerate(sorted((i, *self.chosen[i])))} for i in self.published}
        found: dict[int, dict[int, bytes]] = {i: {} for i in self.published}
        for j, several in revealed.items():
            for i, share in several.items():
                if j not in self.digests.get(i, ()):
                    continue
                own = i in stayed
                due = self.digests[i][j][:DIGEST_BYTES] if own else self.digests[i][j][DIGEST_BYTES:]
                if share_digest(self.gathering, "seed" if own else "key", share, i, j) == due:
                    found[i][numbers[i][j]] = share
                else:
                    wrong = f"the share of {self.gathering.parties[i]} that it reveals is not the one it was dealt"
                    liars[self.gathering.parties[j]] = f"{self.gathering.where('unmask', j)}: {wrong}"
        return found, liars

    def _restored(self, found: Mapping[int, Mapping[int, bytes]]) -> dict[int, bytes]:
        """The one secret of each client that was revealed, by place."""
        for place, parts in found.items():
            if len(parts) < self.rules.needed:
                wrong = f"{len(parts)} of its {self.rules.needed} shares needed are left; the round ends without a sum"
                raise TooFewError(f"{self.gathering.where('unmask', place)}: {wrong}")
        restored = shares.combine_all(list(found.values()), self.rules.needed, self.rules.holders)
        return dict(zip(found, restored, strict=True))

    def _check(self, place: int, restored: bool) -> None:
        if not restored:
            wrong = "the shares that it dealt do not give its secret; the round ends without a sum"
            raise TooFewError(f"{self.gathering.where('unmask', place)}: {wrong}")


def _accepted(place: int, sent: Tensors, where: str) -> set[int]:
    found = set(places(sent, where))
    if place not in found:
        raise WireError(f"{where}: does not believe its own shares")
    return found


def _signature(place: int, sent: Tensors, where: str) -> bytes:
    return rows(part(sent, "signature", where)[None], 1, keys.SIGNATURE_BYTES, where)[0]
