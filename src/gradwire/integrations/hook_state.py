"""What DDP's hook keeps from step to step: the scheme's state for each bucket, and what it all has cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from gradwire import seeds
from gradwire.errors import GradwireError
from gradwire.integrations.memory import Loose, gather, split
from gradwire.integrations.recording import Recording
from gradwire.schemes import Layout, Round, Scheme, State
from gradwire.schemes.buckets import labelled
from gradwire.wire import Collective, Transcript
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


class HookState:
    """What the hook keeps from step to step: the scheme's state for each bucket, bytes, the recorded step.

    DDP rebuilds its buckets after the first step; what error feedback holds back follows the parameters.

    Attributes:
        step: the number of the next step.
        epoch: passes over the data so far; set it once an epoch for schemes that warm up (dgc).
        record: whether to keep each step's messages, and the parameters it started from, for `recording`.
        bytes_up: sent by this process so far; `bytes_down`, received.
        skipped: steps that were given up for a gradient, of whichever worker, was not finite.
        scaler: what scales the loss, where something does.
    """

    def __init__(self, scheme: Scheme, model: nn.Module, seed: int = 0, scaler: GradScaler | None = None):
        self.scheme = scheme
        self.scaler = scaler
        self.module = model.module if isinstance(model, DistributedDataParallel) else model
        self.group: dist.ProcessGroup | None = getattr(model, "process_group", None)
        self.seed = seed
        self.step = 0
        self.epoch = 0
        self.record = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.skipped = 0
        self._names = {id(p): name for name, p in self.module.named_parameters()}
        self._transport: Collective | None = None
        self._buckets: dict[Names, Bucket] = {}
        self._loose: dict[str, Loose] = {"public": {}, "private": {}}
        self._recording: Recording | None = None
        self._before: dict[Names, tuple[State, State]] = {}
        self._given_up = False

    @property
    def scale(self) -> float:
        """What the gradients of this step are multiplied by."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    def recording(self) -> Recording:
        """The last step that was recorded, as this process saw it.

        Raises:
            GradwireError: there is none.
        """
        if self._recording is None or not self._recording.messages:
            raise GradwireError("no step was recorded; set state.record = True before one")
        return self._recording

    def save_transcript(self, path: str | Path) -> None:
        """Write the last recorded step, for `gradwire audit --transcript`."""
        self.recording().save(Path(path))

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker."""
        loose = {kind: dict(parts) for kind, parts in self._loose.items()}
        for bucket in self._buckets.values():
            _loosen(bucket, loose)
        memory = {kind: {"|".join(key): tensor for key, tensor in parts.items()} for kind, parts in loose.items()}
        return {"scheme": self.scheme.spec, **{name: getattr(self, name) for name in COUNTERS}, **memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; buckets may be others.

        Raises:
            GradwireError: the state is of another scheme.
        """
        if state["scheme"] != self.scheme.spec:
            raise GradwireError(f"state is of scheme {state['scheme']!r}; this hook's is {self.scheme.spec!r}")
        for name in COUNTERS:
            setattr(self, name, state[name])
        self._buckets.clear()
        for kind, loose in self._loose.items():
            loose.clear()
            for key, tensor in state[kind].items():
                parameter, _, entry = key.rpartition("|")
                loose[parameter, entry] = tensor

    def reduce(self, names: Names, gradients: list[Tensor], finite: bool, index: int) -> list[Tensor] | None:
        """The mean of all workers' gradients of a bucket, as the scheme lets it through.

        Args:
            names: of the bucket's parameters; `gradients`, of these, in the same order.
            finite: whether this worker's gradients are. If any worker's are not, the step is given up: nothing is
                sent of this bucket and those after it, and None comes back.
            index: the bucket's number.
        """
        transport = self._join()
        self._given_up = self._given_up or transport.any(not finite)
        if self._given_up:
            return None
        bucket = self._bucket(names, gradients)
        update = dict(zip(names, gradients, strict=True))
        round = Round(self.step, transport.parties, self.seed, bucket.layout, self.epoch)
        transport.transcript = Transcript(keep=1 if self.record else 0)
        outcomes, _ = transport.exchange(
            {transport.party: labelled(self.scheme.client(update, bucket.private, bucket.public, round), index)},
            labelled(self.scheme.server(bucket.public, round), index),
            self.step,
        )
        outcome = outcomes[transport.party]
        self.bytes_up += transport.transcript.bytes_up(transport.party)
        self.bytes_down += transport.transcript.bytes_down(transport.party)
        if self.record:
            self._note(transport, bucket, names, index)
        self._before[names] = bucket.public, bucket.private
        bucket.public, bucket.private = outcome.public, outcome.private
        return [outcome.aggregate[name] for name in names]

    def end_step(self) -> None:
        """Go on to the next step. One that was given up leaves every bucket's state as it was before."""
        if self._given_up:
            self.skipped += 1
            for names, before in self._before.items():
                self._buckets[names].public, self._buckets[names].private = before
        self._before.clear()
        self._given_up = False
        self.step += 1

    def names(self, bucket: dist.GradBucket) -> Names:
        """The names of a bucket's parameters."""
        return tuple(self._names[id(p)] for p in bucket.parameters())

    def _join(self) -> Collective:
        """The transport; on first use, after making sure that all workers compress alike."""
        if self._transport is None:
            self._transport = Collective(Transcript(keep=0), self.group)
            layout = {name: list(p.shape) for name, p in self.module.named_parameters()}
            agree(self._transport, {"scheme": self.scheme.spec, "seed": self.seed, "parameters": layout})
        return self._transport

    def _bucket(self, names: Names, gradients: list[Tensor]) -> Bucket:
        """The bucket with these parameters; a new one takes over what is known of them."""
        if names in self._buckets:
            return self._buckets[names]
        for other in [each for each in self._buckets if set(each) & set(names)]:
            _loosen(self._buckets.pop(other), self._loose)
        layout = Layout({name: tuple(g.shape) for name, g in zip(names, gradients, strict=True)})
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

    def _note(self, transport: Collective, bucket: Bucket, names: Names, index: int) -> None:
        """Take down a bucket's messages; the first of a step begins a new recording."""
        if self._recording is None or self._recording.round != self.step:
            kept = {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}
            self._recording = Recording(
                self.scheme.spec, self.seed, self.step, transport.parties, transport.party, kept
            )
        self._recording.add(index, names, bucket.public, tuple(transport.transcript.messages()))


def _loosen(bucket: Bucket, loose: dict[str, Loose]) -> None:
    loose["public"] |= split(bucket.public, bucket.layout)
    loose["private"] |= split(bucket.private, bucket.layout)
