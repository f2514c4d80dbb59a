"""What DDP's hook keeps from step to step: the scheme's state for each bucket, and what it all has cost."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future as Running
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.autograd import Variable
from torch.futures import Future

from gradwire import seeds
from gradwire.errors import GradwireError
from gradwire.integrations.memory import Loose, gather, split
from gradwire.integrations.whole import mean_in_place, told
from gradwire.integrations.wrapped import Seen, parallel_of, plain_name, unwrapped
from gradwire.rounds import run_round
from gradwire.rounds.recording import RecordedRound, Recorder, save
from gradwire.schemes import Contribution, Layout, Round, Scheme, State, parse
from gradwire.schemes.layout import write
from gradwire.wire import Collective, Transcript, wide
from gradwire.wire.rendezvous import agree
from gradwire.wire.roll_call import RollCall

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
    """What the hook keeps from step to step: the scheme's state for each bucket, bytes, the recorded steps.

    DDP rebuilds its buckets after the first step; what error feedback holds back follows the parameters. Of a parameter
    that no worker used in a step, nothing is sent, and what is held back of it waits.

    Attributes:
        step: the number of the next step.
        epoch: passes over the data so far; set it once an epoch for schemes that warm up (dgc).
        record: whether to keep the messages of steps, and the model before their forward passes; set it before one.
        recordable: whether steps can be recorded; `in_step`, whether one has begun whose end is not a bucket's.
        recorder: what keeps them; `recorder.keep` is how many of the latest steps, None: all from the first on that was
            recorded. Under error feedback an audit of one step uses those before it.
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
        parallel = parallel_of(model)
        self.group: dist.ProcessGroup | None = group if parallel is None else parallel.process_group
        self.seed = seed
        self.dense_steps = dense_steps
        self.step = 0
        self.epoch = 0
        self.record, self.recordable, self.in_step = False, True, False
        self.recorder = Recorder()
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
        self._worker: ThreadPoolExecutor | None = None
        self._own: dist.ProcessGroup | None = None
        self._running: list[Running[Tensor]] = []
        self._broken: Exception | None = None
        self._seen: Seen | None = None
        self.module.register_forward_pre_hook(self._look, with_kwargs=True)

    @property
    def acting(self) -> Scheme:
        """The scheme of this step."""
        return parse("none") if self.step < self.dense_steps else self.scheme

    @property
    def scale(self) -> float:
        """What the gradients of this step are multiplied by."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    def recording(self) -> RecordedRound:
        """The last step that was recorded, as this process saw it.

        Raises:
            GradwireError: there is none.
        """
        if not self.recorder.rounds:
            raise GradwireError("no step was recorded; set state.record = True before its forward pass")
        return self.recorder.rounds[max(self.recorder.rounds)]

    def save_transcript(self, path: str | Path, redact: bool = False) -> str:
        """Write the recorded steps, for `gradwire audit --transcript`; returns the line that says what is in the file.

        Args:
            redact: keep sizes only.

        Raises:
            GradwireError: there are none, or the file cannot be written, as on a full disk; the training may go on.
        """
        self.recording()
        try:
            return save(self.recorder.rounds, path, redact)
        except GradwireError as error:
            raise GradwireError(f"rank {self._place()['rank']}: {error}") from None

    def state_dict(self) -> dict[str, Any]:
        """This process's state, to be saved beside its model's: residuals differ from worker to worker."""
        loose = {kind: dict(parts) for kind, parts in self._loose.items()}
        for bucket in self._buckets.values():
            _loosen(bucket, loose)
        memory = {kind: {"|".join(key): tensor for key, tensor in parts.items()} for kind, parts in loose.items()}
        counters = {name: getattr(self, name) for name in COUNTERS}
        return {
            "scheme": self.scheme.spec,
            **self._place(),
            "parameters": sorted(self._names.values()),
            **counters,
            **memory,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in this rank; buckets may be others.

        Raises:
            GradwireError: the state is of another scheme, rank, number of workers or model.
        """
        for name, here in {"scheme": self.scheme.spec, **self._place()}.items():
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
        self,
        transport: Collective,
        buffer: Tensor,
        payload: torch.dtype,
        gradients: Mapping[str, Tensor],
        index: int,
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
            self._note(transport, tuple(gradients), index, {}, {})
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
        future: Future[Tensor] = Future()
        self._join()
        try:
            Variable._execution_engine.queue_callback(self._finish)
        except RuntimeError:  # no backward pass is under way: DDP's own start of a step
            future.set_result(work())
            return future
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="gradwire")
        running = self._worker.submit(self._unless_broken, work)
        self._running.append(running)
        running.add_done_callback(lambda done: future.set_result(torch.empty(0) if done.exception() else done.result()))
        return future

    def _unless_broken(self, work: Callable[[], Tensor]) -> Tensor:
        """A bucket's work; once one's has failed, the others are not tried, each of which would wait for its end."""
        if self._broken is None:
            try:
                return work()
            except Exception as error:
                self._broken = error
        raise self._broken

    def _finish(self) -> None:
        """Wait for the buckets' work."""
        running, self._running = self._running, []
        wait(running)
        if self._broken is not None:
            raise self._broken

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

    def _place(self) -> dict[str, int]:
        """This worker's place among the others; before there are any, that of one alone."""
        if not dist.is_initialized():
            return {"rank": 0, "world_size": 1}
        return {"rank": dist.get_rank(), "world_size": dist.get_world_size()}

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
            self._note(transport, names, index, public, held if self.scheme.feeds_back else {})
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
                self._own = _beside(self.group)
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

    def _look(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note a step's forward passes, if it is to be recorded, and the model as it is before the first of them."""
        if not self.record or not torch.is_grad_enabled():
            return
        if not self.recordable:
            raise GradwireError("state.record is set; steps of a sharded model are not recorded, for no worker has it")
        if self._seen is None or self._seen.step != self.step:
            self._seen = Seen.of(self.step, module)
        given = [each for each in (*arguments, *named.values()) if isinstance(each, Tensor) and each.ndim]
        self._seen.passes += 1
        self._seen.batch += len(given[0]) if given else 0

    def _note(self, transport: Collective, names: Names, index: int, public: State, held: State) -> None:
        """Record a bucket's messages; the first of a step begins a new round of the recording.

        Raises:
            GradwireError: recording was switched on after the step's forward pass, which may have changed the model.
        """
        seen = self._seen
        if seen is None or seen.step != self.step:
            raise GradwireError(f"step {self.step} cannot be recorded; set state.record = True before its forward pass")
        if self.step not in self.recorder.rounds:
            carried = self.acting.feeds_back and self.step > self.skipped + self.dense_steps
            facts = RecordedRound(
                self.acting.spec,
                self.seed,
                self.step,
                transport.parties,
                transport.party,
                self.epoch,
                carried=carried,
                batch=seen.batch,
                passes=seen.passes,
                evaluated=seen.evaluated,
            )
            self.recorder.begin(facts, seen.model)
        messages = tuple(transport.transcript.messages())
        self.recorder.add_bucket(self.step, index, names, messages, public, held)


def _beside(group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """A group of the same processes: collectives of two threads in one group would cross those of another process."""
    whole = group or dist.group.WORLD
    assert whole is not None
    backend = whole._get_backend(torch.device("cuda" if dist.get_backend(whole) == "nccl" else "cpu"))
    limit = getattr(getattr(backend, "options", None), "_timeout", None)
    ranks, made = dist.get_process_group_ranks(whole), list[Any]()
    meet = partial(dist.new_group, ranks, timeout=limit, use_local_synchronization=True)
    RollCall(whole).attempt("the first step, in which all workers' hooks meet", lambda: made.append(meet()))
    return cast(dist.ProcessGroup, made[0])


def _plain(gradient: Tensor, scale: float) -> Tensor:
    """Schemes work on the CPU, in float32 where autocast has left half precision, and without the loss's scale."""
    plain = gradient.detach().to("cpu", wide(gradient.dtype))
    return plain if scale == 1 else plain / scale


def _loosen(bucket: Bucket, loose: dict[str, Loose]) -> None:
    loose["public"] |= split(bucket.public, bucket.layout)
    loose["private"] |= split(bucket.private, bucket.layout)
