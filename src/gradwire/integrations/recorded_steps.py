"""The steps that a hook records: what their forward passes showed, the model before them, their buckets' messages."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gradwire.errors import GradwireError
from gradwire.integrations.wrapped import check_hooked, place, plain_name
from gradwire.rounds.recording import RecordedRound, Recorder, save
from gradwire.schemes import State
from gradwire.wire import Transcript


@dataclass
class Seen:
    """A step to be recorded, as its forward passes showed it.

    Attributes:
        model: before the first of them, and the names of modules that were in evaluation mode.
        passes: so far, with `batch` examples in all.
    """

    step: int
    model: dict[str, Tensor]
    evaluated: tuple[str, ...]
    passes: int = 0
    batch: int = 0

    @classmethod
    def of(cls, step: int, network: nn.Module) -> "Seen":
        """A network before a step."""
        model = {plain_name(name): tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        return cls(step, model, tuple(plain_name(name) for name, m in network.named_modules() if not m.training))


class RecordedSteps:
    """A network's steps as its forward passes show them, and the recordings of those that are to be kept.

    Attributes:
        step: the number of the next step.
        record: whether to keep the messages of steps, and the model before their forward passes; set it before one.
        recordable: whether steps can be recorded.
        recorder: what keeps them; `recorder.keep` is how many of the latest steps, None: all from the first on that was
            recorded. Under error feedback an audit of one step uses those before it.
    """

    def __init__(self, network: nn.Module):
        self.step = 0
        self.record, self.recordable = False, True
        self.recorder = Recorder()
        self._seen: Seen | None = None
        self._within = 0
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        network.register_forward_hook(self._end, always_call=True)

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
            raise GradwireError(f"rank {place()['rank']}: {error}") from None

    def note(
        self, facts: RecordedRound, names: tuple[str, ...], index: int, sent: Transcript, public: State, held: State
    ) -> None:
        """Record a bucket's messages; the first of a step begins a new round of the recording.

        Args:
            facts: what of the round is not seen in a forward pass.
            public, held: the scheme's state for this bucket before the step.

        Raises:
            GradwireError: recording was switched on after the step's forward pass, which may have changed the model.
        """
        seen = self._seen
        if seen is None or seen.step != self.step:
            raise GradwireError(f"step {self.step} cannot be recorded; set state.record = True before its forward pass")
        if self.step not in self.recorder.rounds:
            told = replace(facts, batch=seen.batch, passes=seen.passes, evaluated=seen.evaluated)
            self.recorder.begin(told, seen.model)
        self.recorder.add_bucket(self.step, index, names, tuple(sent.messages()), public, held)

    def _begin(self, network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note a forward pass of a step to be recorded, and the model as it is before the first of them."""
        check_hooked()
        if not self.record or not torch.is_grad_enabled():
            return
        self._within += 1
        if self._within > 1:  # a network that calls itself is still in the same pass
            return
        if not self.recordable:
            raise GradwireError("state.record is set; steps of a sharded model are not recorded, for no worker has it")
        if self._seen is None or self._seen.step != self.step:
            self._seen = Seen.of(self.step, network)
        # A batch may be a tuple or a mapping of tensors, as loaders and trainers hand it on.
        given = [each for each in tree_leaves((arguments, named)) if isinstance(each, Tensor) and each.ndim]
        self._seen.passes += 1
        self._seen.batch += len(given[0]) if given else 0

    def _end(self, *_: object) -> None:
        if self._within:
            self._within -= 1
