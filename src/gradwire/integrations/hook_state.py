"""What DDP's hook keeps from step to step: the scheme's state for each bucket, and what it all has cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.futures import Future

from gradwire import seeds
from gradwire.errors import GradwireError
from gradwire.integrations.beside import BesideBackward, group_beside
from gradwire.integrations.memory import Loose, gather, split
from gradwire.integrations.recorded_steps import RecordedSteps
from gradwire.integrations.whole import mean_in_place, told
from gradwire.integrations.wrapped import parallel_of, place, plain_name, unwrapped
from gradwire.rounds import run_round
from gradwire.rounds.recording import RecordedRound
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, parse
from gradwire.schemes.layout import write
from gradwire.wire import Collective, Transcript, wide
from gradwire.wire.rendezvous import agree

Names = tuple[str, ...]
COUNTERS = ("step", "epoch", "seed", "bytes_up", "bytes_down", "skipped")
"""What of the state is a number."""


@dataclass
class Bucket:
    """One bucket's layout, and the scheme's state for it."""

    layout: Layout
    public: State
    private: State


class HookState(RecordedSteps):
    """What the hook keeps from step to step: the scheme's state for each bucket, bytes, the recorded steps.

    DDP rebuilds its buckets after the first step; what error feedback holds back follows the parameters. Of a parameter
    that no worker used in a step, nothing is sent, and what is held back of it waits.

    Attributes:
        epoch: passes over the data so far; set it once an epoch for schemes that warm up (dgc).
        in_step: whether a step has begun whose end is not a bucket's.
        bytes_up: sent by this process so far; `bytes_down`, received.
        skipped: steps that were given up because a gradient, of whichever worker, was not finite.
        scaler: what scales the loss, where something does.
        dense_steps: the first so many steps send whole gradients.
    """

    def __init__(
        self,
        scheme: Scheme,
        model: nn.Module,
        seed: int = 0,
        scaler: GradScaler | None = None,
        dense_steps: int = 0,
        group: dist.ProcessGroup | None = None,
    ):
        self.scheme = scheme
        self.scaler = scaler
        self.module = unwrapped(model)
        super().__init__(self.module)
        parallel = parallel_of(model)
        self.group: dist.ProcessGroup | None = group if parallel is None else parallel.process_group
        self.seed = seed
        self.dense_steps = dense_steps
        self.epoch = 0
        self.in_step = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.skipped = 0
        # Without either, DDP itself refuses a step in which a parameter is not used.
        self._looks_for_unused = parallel is not None and (parallel.find_unused_parameters or parallel.static_graph)
        self._names = {id(p): plain_name(name) for name, p in self.module.named_parameters()}
        self._places = {name: place for place, name in enumerate(self._names.values())}
        self._transport: Collective | None = None
        self._buckets: dict[Names, Bucket] = {}
        self._loose: dict[str, Loose] = {"public": {}, "private": {}}
        self._before: dict[Names, tuple[State, State]] = {}
        self._given_up = False
        self._beside = BesideBackward()
        self._own: dist.ProcessGroup | None = None

    @property
    def acting(self) -> Scheme:
        """The scheme of this step."""
        return parse("none") if self.step < self.dense_steps else self.scheme

    @property
    def scale(self) -> float:
        """What the gradients of this step are multiplied by."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker."""
        loose = {kind: dict(parts) for kind, parts in self._loose.items()}
        for bucket in self._buckets.values():
            _loosen(bucket, loose)
        memory = {kind: {"|".join(key): tensor for key, tensor in parts.items()} for kind, parts in loose.items()}
        counters = {name: getattr(self, name) for name in COUNTERS}
        return {"scheme": self.scheme.spec, **place(), "parameters": sorted(self._names.values()), **counters, **memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in this rank; buckets may be others.

        Raises:
            GradwireError: the state is of another scheme, rank, number of workers or model.
        """
        for name, here in {"scheme": self.scheme.spec, **place()}.items():
            if state.get(name) != here:
                raise GradwireError(f"state has {name}={state.get(name)!r}; this hook has {name}={here!r}")
        own, theirs = set(self._names.values()), set(map(plain_name, state.get("parameters", ())))
        if own != theirs:
            first = min(own ^ theirs)
            whose = "the state" if first in theirs else "this model"
            raise GradwireError(f"state is of another model: only {whose} has a parameter {first!r}")
        for name in COUNTERS:
            setattr(self, name, state[name])
        self._buckets.clear()
        self._transport = None  # all workers have to agree anew, on the step too
        for kind, loose in self._loose.items():
            loose.clear()
            for key, tensor in state[kind].items():
                parameter, _, entry = key.rpartition("|")
                loose[plain_name(parameter), entry] = tensor

    def reduce(self, buffer: Tensor, gradients: Mapping[str, Tensor], index: int) -> bool:
        """Replace a bucket's gradients by their mean over all workers, as the scheme lets it through.

        If any worker's are not finite, which is told beside the bucket's first message, the step is given up: nothing
        is sent of the buckets after it.

        Args:
            buffer: the bucket's memory, shape (entries,); `gradients`, of its parameters, views of it.
            index: the bucket's number.

        Returns:
            whether the step goes on.
        """
        transport = self._join()
        if not self._given_up:
            payload = self.acting.payload(buffer.dtype)
            # Which parameters were used is told by messages of a round.
            if payload is not None and not self._looks_for_unused and not buffer.is_cuda:
                self._given_up = not self._average(transport, buffer, payload, gradients, index)
            else:
                self._given_up = not self._compress(transport, buffer, gradients, index)
        return not self._given_up

    def _average(
        self, transport: Collective, buffer: Tensor, payload: torch.dtype, gradients: Mapping[str, Tensor], index: int
    ) -> bool:
        """`reduce` where the bucket lies; a copy is made only of what is recorded."""

        def flat() -> Tensor:
            return torch.cat([_plain(g, self.scale).reshape(-1) for g in gradients.values()]).to(payload)

        upload = flat() if self.record else torch.empty_like(buffer, dtype=payload)  # whose length is counted
        finite = mean_in_place(transport, buffer, payload, self.step, index)
        kept = self.record and finite
        told(transport, upload, flat() if kept else upload, self.step, index, kept)
        self._count(transport)
        if kept:
            self.note(self._facts(transport), tuple(gradients), index, transport.transcript, {}, {})
        return finite

    def _compress(self, transport: Collective, buffer: Tensor, gradients: Mapping[str, Tensor], index: int) -> bool:
        """`reduce` by a round of the scheme."""
        # A sum is finite only if every term is, and costs a fraction of looking at each. One that overflows by itself
        # counts as not finite, too: such a gradient is of no use.
        finite, scale = bool(torch.isfinite(buffer.sum(dtype=torch.float32))), self.scale
        # In the model's order, whichever order DDP has: what a scheme draws at random for a bucket stays the same.
        names = sorted(gradients, key=self._places.__getitem__)
        # Nothing of a gradient that is not finite goes through the scheme: the step is given up in any case.
        plain = {name: _plain(gradients[name], scale) for name in names}
        update = plain if finite else {name: torch.zeros_like(g) for name, g in plain.items()}
        if self._looks_for_unused:
            used = transport.any([bool(g.any()) for g in update.values()], self.step)
            update = {name: g for (name, g), sent in zip(update.items(), used, strict=True) if sent}
        transport.flag = not finite
        means = self._exchange(transport, update, index) if update else {}
        if update and transport.raised:
            return False
        for name, gradient in gradients.items():
            if name in means:
                write(means, name, gradient)
            else:
                gradient.zero_()
        if scale != 1:
            buffer.mul_(scale)
        return True

    def run(self, work: Callable[[], Tensor]) -> Future[Tensor]:
        """Do a bucket's work beside the backward pass, bucket after bucket; at its end, raise what went wrong.

        DDP sends things of its own meanwhile (which parameters are unused, SyncBatchNorm): the hook has its own group.
        """
        self._join()
        return self._beside.run(work)

    def end_step(self) -> None:
        """Go on to the next step. One that was given up leaves every bucket's state as it was before."""
        if self._given_up:
            self.skipped += 1
            for names, before in self._before.items():
                self._buckets[names].public, self._buckets[names].private = before
        self._before.clear()
        self._given_up = self.in_step = False
        self.step += 1

    def names(self, bucket: dist.GradBucket) -> Names:
        """The names of a bucket's parameters."""
        return tuple(self._names[id(p)] for p in bucket.parameters())

    def _exchange(self, transport: Collective, update: dict[str, Tensor], index: int) -> Mapping[str, Tensor]:
        """One bucket's round."""
        names = tuple(update)
        bucket = self._bucket(names, list(update.values()))
        round = Round(self.step, transport.parties, self.seed, bucket.layout, self.epoch)
        transport.transcript = Transcript(keep=1 if self.record else 0)
        scheme, dense = self.acting, self.step < self.dense_steps
        brought = {transport.party: Contribution(update, {} if dense else bucket.private)}
        result = run_round(scheme, brought, {} if dense else bucket.public, round, transport, bucket=index)
        self._count(transport)
        if self.record:
            public, held = ({}, {}) if dense else (bucket.public, bucket.private)
            held = held if self.scheme.feeds_back else {}
            self.note(self._facts(transport), names, index, transport.transcript, public, held)
        self._before[names] = bucket.public, bucket.private
        if not dense:
            bucket.public, bucket.private = result.public, result.private[transport.party]
        return result.aggregate

    def _count(self, transport: Collective) -> None:
        self.bytes_up += transport.transcript.bytes_up(transport.party)
        self.bytes_down += transport.transcript.bytes_down(transport.party)

    def _join(self) -> Collective:
        """The transport; on first use, after making sure that all workers compress alike and are at one step."""
        if self._transport is None:
            if self._own is None:
                meeting = "the first step, in which all workers' hooks meet"
                self._own = group_beside(self.group, meeting, use_local_synchronization=True)
            self._transport = Collective(Transcript(keep=0), self._own)
            layout = {name: list(p.shape) for name, p in self.module.named_parameters()}
            settings = {"scheme": self.scheme.spec, "seed": self.seed, "dense_steps": self.dense_steps}
            agree(self._transport, {**settings, "step": self.step, "parameters": layout})
        return self._transport

    def _bucket(self, names: Names, gradients: list[Tensor]) -> Bucket:
        """The bucket with these parameters; a new one takes over what is known of them."""
        if names in self._buckets:
            return self._buckets[names]
        for other in [each for each in self._buckets if set(each) & set(names)]:
            _loosen(self._buckets.pop(other), self._loose)
        layout = Layout.of(dict(zip(names, gradients, strict=True)))
        party = self._join().party
        private = self.scheme.private_state(layout, seeds.number("private", self.seed, party, *names))
        public = self.scheme.public_state(layout)
        bucket = Bucket(
            layout, gather(self._loose["public"], public, layout), gather(self._loose["private"], private, layout)
        )
        for loose in self._loose.values():
            for key in [key for key in loose if key[0] in layout.shapes]:
                del loose[key]
        self._buckets[names] = bucket
        return bucket

    def _facts(self, transport: Collective) -> RecordedRound:
        """What a recording says of this step, beside what its forward passes showed."""
        carried = self.acting.feeds_back and self.step > self.skipped + self.dense_steps
        party, parties = transport.party, transport.parties
        return RecordedRound(self.acting.spec, self.seed, self.step, parties, party, self.epoch, carried=carried)


def _plain(gradient: Tensor, scale: float) -> Tensor:
    """Schemes work on the CPU, in float32 where autocast has left half precision, and without the loss's scale."""
    plain = gradient.detach().to("cpu", wide(gradient.dtype))
    return plain if scale == 1 else plain / scale


def _loosen(bucket: Bucket, loose: dict[str, Loose]) -> None:
    loose["public"] |= split(bucket.public, bucket.layout)
    loose["private"] |= split(bucket.private, bucket.layout)
