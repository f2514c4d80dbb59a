"""The hyper-parameters of learned model compression, and what is done where the paper leaves it open.

- Layers: they encode each tensor, weight or bias, by itself, divided by its size (`codec.layers`).
- Steps: with `steps=through` (line 9 of algorithm 2) they step from their own parameters along the slope with respect
  to these, through the autoencoder. The loss falls among the models that the autoencoder can express, and its errors do
  not add up. With `steps=replaced` (equation 11) they step from what the autoencoder made of their parameters, along
  the slope there; errors add up to more than a round's progress. With `steps=straight` they step from their own
  parameters along that slope.
- Length: a slope through the autoencoder is shorter or longer than a plain one. They give it the length at which the
  loss falls as in a plain step, to first order, so that a learning rate means what it means elsewhere.
- Rounds: after the warming-up they begin with parameters of which the autoencoder makes the mean, as nearly as it can
  (`codec.network.preimage`), so that its errors do not add up over rounds.
- Start: an untrained autoencoder is an orthogonal projection that keeps a quarter of the directions
  (`start=projection`, `codec.initial`) or has PyTorch's random weights (`start=uniform`). All clients begin with the
  same one, and λ falls during the warming-up, as a mean of models loses what their autoencoders do not have in common.
- Warming-up: T_w counts the rounds of the run. A client that misses the last of them sends its decoder with its next
  message, and trains its autoencoder in that round first if it never has. One that takes fewer than m_w steps makes up
  for the others on the parameters after its last step. `warmup_rounds=0,warmup_iterations=100` with one local step is
  the paper's attack on untrained models.
- Turns: T_w is "35 for each client" (section IV-A) and the rounds t = 1 … T_w (section III-C2). With `counted=run` they
  are the run's rounds, with `counted=client` those that the client was in.
- Coded: "the fine-tuning process … entails using updates" (section IV-A) while all equations are about parameters. With
  `coded=updates` steps are plain, the autoencoder is trained on how far they have gone from the round's start, and it
  codes that once, at the end. Sizes of layers are sent along. What it leaves out is added to the next round's
  (`error_feedback`), which is not the paper's.
- Training: the optimiser is Adam, as plain gradient descent (`optimizer=sgd`) learns nothing in 30 steps. A pass takes
  one step for each segment of a layer, in random order; one step for each layer costs as much and learns far less.
  Noise is added to the parameters (`jitter`), as an autoencoder that learns them by heart follows no step from them.

Controls are `codec=untrained`, in which all is alike but that the autoencoder is never trained, and `codec=projection`,
the fixed projection that it begins as, without a network. With `response=affine` a round's steps go through the
autoencoder to first order (`codec.affine`), and what is sent through itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from gradwire.errors import GradwireError, check_counts, not_negative, positive, unknown
from gradwire.schemes.codec import network
from gradwire.schemes.codec.initial import projection, uniform
from gradwire.schemes.codec.training import OPTIMIZERS

STARTS = {"projection": projection, "uniform": uniform}
CHOICES = {
    "optimizer": OPTIMIZERS,
    "steps": ("through", "straight", "replaced"),
    "start": tuple(STARTS),
    "codec": ("trained", "untrained", "projection"),
    "coded": ("parameters", "updates"),
    "counted": ("run", "client"),
    "response": ("exact", "affine"),
}


@dataclass(frozen=True)
class AutoencoderChoices:
    """What decides how parameters are coded.

    Attributes:
        warmup_rounds: T_w, in which clients train their autoencoders and send the perturbed parameters at full length,
            with their decoders in the last. From then on they send codes.
        warmup_iterations: m_w, the first steps of a warming-up round, which are not perturbed: the autoencoder is
            trained on the parameters after them.
        lr: λ, the autoencoder's learning rate in the first round; it falls linearly until the warming-up ends.
        passes: how often each of those parameters is used ("using updates twice").
        segment: numbers of a layer in a step of the autoencoder's training; shorter layers are taken whole.
        jitter: standard deviation of the noise, in units of a layer's root mean square.
        optimizer: of the autoencoder, "adam" or "sgd".
        steps: of a client: "through", "straight" or "replaced"; see above.
        start: the untrained autoencoder: "projection" or "uniform".
        codec: "trained", or a control: "untrained", or the bare "projection".
        coded: "parameters" or "updates".
        counted: the warming-up's rounds, of the "run" or those in which a "client" was.
        error_feedback: with coded updates, add what the codec left out to the next one.
        response: of the autoencoder to a step that is not sent: "exact", or "affine".
    """

    name: ClassVar[str]

    warmup_rounds: int = 35
    warmup_iterations: int = 30
    lr: float = 1e-4
    passes: int = 2
    segment: int = 1024
    jitter: float = 0.03
    optimizer: Literal["adam", "sgd"] = "adam"
    steps: Literal["through", "straight", "replaced"] = "through"
    start: Literal["projection", "uniform"] = "projection"
    codec: Literal["trained", "untrained", "projection"] = "trained"
    coded: Literal["parameters", "updates"] = "parameters"
    counted: Literal["run", "client"] = "run"
    error_feedback: bool = True
    response: Literal["exact", "affine"] = "exact"

    def __post_init__(self) -> None:
        not_negative(self.name, self, "warmup_rounds", "jitter")
        check_counts(self.name, self, "warmup_iterations", "passes")
        positive(self.name, self, "lr")
        if self.segment < 1 or self.segment % (2 * network.SHRINK):
            least = 2 * network.SHRINK
            raise GradwireError(f"autoencoder: segment is {self.segment}; it must be a multiple of {least}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"autoencoder: {name}", getattr(self, name), choices)
        for name, value, told in self._idle():
            if getattr(self, name) != getattr(type(self), name):
                raise GradwireError(f"autoencoder: {name} is {getattr(self, name)!r}; {value} {told}")

    def _idle(self) -> Iterator[tuple[str, str, str]]:
        """Hyper-parameters that would do nothing, the choice that makes it so, and why."""
        if self.coded == "updates":
            yield "steps", "coded=updates", "leaves steps as they are"
            yield "response", "coded=updates", "puts no step through the autoencoder"
        else:
            yield "error_feedback", "coded=parameters", "feeds nothing back"
        if self.codec != "trained":
            for name in ("lr", "passes", "segment", "jitter", "optimizer"):
                yield name, f"codec={self.codec}", "is never trained"
        if self.codec == "projection":
            yield "start", "codec=projection", "has no other weights"
            yield "response", "codec=projection", "is linear"
