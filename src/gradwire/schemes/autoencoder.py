"""Learned model compression: every client's own autoencoder compresses, and thereby perturbs, its parameters.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": algorithms 1 to 3. The autoencoder itself is `codec`.

Where the paper is silent or contradicts itself, this holds:

- Each parameter tensor is encoded by itself, weights and biases alike, and divided by its size (`codec.layers`); "each
  layer" in the paper.
- Line 9 of algorithm 2 takes each step from the client's own parameters, along the slope with respect to these, which
  leads through the autoencoder: `steps=through`. So they go where the loss falls among the models that the autoencoder
  can express, and what it gets wrong does not add up. Equation 11 takes the step from what the autoencoder made of
  them, along the slope there (`steps=replaced`): its errors do add up, to more than a round's progress. Between the
  two, `steps=straight` steps from the client's own along that slope, as if the autoencoder's derivative were one.
- On that way a slope loses most of its square, for a code has a quarter of the numbers, or gains by it where the
  derivative is large. It is given the length at which the loss falls, to first order, as it would in a plain step: a
  learning rate then means nearly what it means elsewhere.
- Nor do errors add up from round to round: where a round begins without warming up, a client's own parameters are not
  the mean, but some near it, of which its autoencoder makes the mean, as nearly as it can (`codec.network.preimage`).
- An autoencoder is, before it is trained, an orthogonal projection that keeps a quarter of the directions
  (`start=projection`, see `codec.initial`), or random as PyTorch's layers are (`start=uniform`). All clients' begin
  alike, and λ falls as the warming-up goes on: what autoencoders can express that have little in common is lost from
  the mean of the models, and what they were when their training stopped should not hang on their last step.
- T_w counts the rounds of the run. A client that was not there at the end of the warming-up sends its decoder with the
  first message after it; one whose autoencoder has never been trained trains it in that round first.
- A client that takes fewer than m_w steps makes up for the others on the parameters that the last one left. With
  `warmup_rounds=0,warmup_iterations=100` and one local step, that is the paper's attack on untrained models.
- Equation 9 does not say which optimiser: Adam. Plain gradient descent (`optimizer=sgd`) learns nothing in 30 steps.
- A pass over the parameters takes a step for every segment of a layer, in random order. One step for each whole layer,
  or for all layers together, costs as much and learns far less.
- Autoencoders are trained on parameters with some noise, which they have to keep too (`jitter`). Otherwise they learn
  the ones at hand by heart, and follow no step that leads away from them.

What is sent are parameters, not changes: the server decodes every client's with the decoder that this client once sent
it, averages (equation 12), and replies with the mean, uncompressed. The decoders are its state, public in so far as
whoever listened from the start has them as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.errors import GradwireError, unknown
from gradwire.schemes.codec import messages, network
from gradwire.schemes.codec.initial import projection, uniform
from gradwire.schemes.codec.layers import Layers, beginning
from gradwire.schemes.codec.tangent import Tangent, pulled
from gradwire.schemes.codec.training import OPTIMIZERS, Training, fallen, fit
from gradwire.schemes.halves import mean
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Accounting, Scheme, check_positive
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Need, Send, ServerHalf, Tensors

STEPS = ("through", "straight", "replaced")
STARTS = {"projection": projection, "uniform": uniform}
LENGTHENED = 16
"""No slope is made longer than so many times its length: one of which next to nothing is left says nothing."""


@dataclass(frozen=True)
class Autoencoder(Scheme, LocalStepHook, Accounting):
    """Send the latent code of the parameters.

    Attributes:
        warmup_rounds: T_w, in which clients train their autoencoders and send what these leave of the parameters, at
            full length; at the end of the last they send their decoders. From then on they send codes.
        warmup_iterations: m_w, the first steps of a warming-up round, which are not perturbed: the autoencoder is
            trained on what they leave.
        lr: λ, the autoencoder's learning rate in the first round; it falls linearly until the warming-up ends.
        passes: how often each of those parameters is used ("using updates twice").
        segment: numbers of a layer that a step of the autoencoder's training takes; shorter layers are taken whole.
        jitter: standard deviation of that noise, in units of a layer's root mean square.
        optimizer: of the autoencoder, "adam" or "sgd".
        steps: which way perturbed steps go, "through", "straight" or "replaced"; see above.
        start: what the autoencoder is before it is trained, "projection" or "uniform".
    """

    name: ClassVar[str] = "autoencoder"

    warmup_rounds: int = 35
    warmup_iterations: int = 30
    lr: float = 1e-4
    passes: int = 2
    segment: int = 1024
    jitter: float = 0.03
    optimizer: Literal["adam", "sgd"] = "adam"
    steps: Literal["through", "straight", "replaced"] = "through"
    start: Literal["projection", "uniform"] = "projection"

    def __post_init__(self) -> None:
        if self.warmup_rounds < 0:
            raise GradwireError(f"autoencoder: warmup_rounds is {self.warmup_rounds}; it must not be negative")
        check_positive(self.name, "warmup_iterations", self.warmup_iterations)
        check_positive(self.name, "passes", self.passes)
        if self.segment < 1 or self.segment % (2 * network.SHRINK):
            raise GradwireError(
                f"autoencoder: segment is {self.segment}; it must be a multiple of {2 * network.SHRINK}"
            )
        if not 0 < self.lr < inf:
            raise GradwireError(f"autoencoder: lr is {self.lr}; it must be positive and finite")
        if not 0 <= self.jitter < inf:
            raise GradwireError(f"autoencoder: jitter is {self.jitter}; it must be finite and not negative")
        if self.optimizer not in OPTIMIZERS:
            raise unknown("autoencoder: optimizer", self.optimizer, OPTIMIZERS)
        if self.steps not in STEPS:
            raise unknown("autoencoder: steps", self.steps, STEPS)
        if self.start not in STARTS:
            raise unknown("autoencoder: start", self.start, tuple(STARTS))

    @property
    def needs(self) -> frozenset[Need]:
        """A server that keeps decoders; local steps and a hand in them; equal weights: equation 12 has none."""
        return frozenset({Need.SERVER, Need.LOCAL_STEPS, Need.LOCAL_UPDATE, Need.EQUAL_WEIGHTS})

    @property
    def least_rounds(self) -> int:  # type: ignore[override]
        """Those of the warming-up: in them nothing is compressed."""
        return self.warmup_rounds

    @property
    def accounting(self) -> Accounting:
        """How well the autoencoders were trained."""
        return self

    @property
    def step_hook(self) -> LocalStepHook:
        """Train the autoencoder, or put the parameters through it, after each step."""
        return self

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The client's autoencoder, untrained, with Adam's moments. All clients' are alike.

        `fits` counts its training steps and is what its decoder's version goes by; `told`, whether the server has the
        decoder; `fallbacks`, how often it diverged; `error`, how far it last put parameters off: the norm of the
        difference, by theirs. Between two perturbed steps of a round there are the client's `own` parameters too, and
        what the autoencoder `left` of them.
        """
        weights = STARTS[self.start](generator("autoencoder"))
        return {
            "weights": weights,
            "first": torch.zeros_like(weights),
            "second": torch.zeros_like(weights),
            **{name: torch.zeros((), dtype=torch.int64) for name in ("fits", "told", "fallbacks")},
            "error": torch.zeros(()),
        }

    # The client: algorithms 1 and 2.

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """The slope with respect to the client's own parameters, of which the model's are what the autoencoder made."""
        if self.steps != "through" or "left" not in private:
            return gradient, private
        slope = step.round.layout.flatten(gradient)
        (back,) = torch.autograd.grad(private["left"], private["own"], slope)
        length = (slope.square().sum() / back.square().sum()).clamp(max=LENGTHENED).nan_to_num(1)
        return step.round.layout.unflatten(length * back), private

    def after_step(self, parameters: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """Train the autoencoder on what a step left, or leave what the autoencoder makes of it."""
        state, layers = dict(private), Layers.of(step.round)
        if step.index == 0 and not state["told"] and (step.round.index < self.warmup_rounds or not state["fits"]):
            state["good"] = state["weights"]
        training = "good" in state and step.index < self.warmup_iterations
        now = layers.layout.flatten(parameters).detach()
        if "left" in state:
            now = now + (state.pop("own") - state.pop("left")).detach()
        elif step.index == 0 and not training and self.steps != "replaced":
            start = beginning(step.round).to(now)
            now = now + layers.preimage(state["weights"], start) - start
        if training:
            for _ in range(self.warmup_iterations - step.index if step.last else 1):
                state = fit(state, layers.vectors(now), self._training(step.round))
        if training and not step.last:
            return parameters, state
        with torch.set_grad_enabled(self.steps == "through" and not step.last):
            now.requires_grad_(torch.is_grad_enabled())
            state, code, left = _perturbed(state, now, layers)
        state["error"] = ((left - now).norm() / now.norm()).detach().float().cpu()
        if self.steps != "replaced":
            # They hold the graph by which `before_step` pulls the next slope back, so nothing is computed twice.
            state |= {"own": now, "left": left}
        if step.last:
            state = {n: t for n, t in state.items() if n not in ("good", "own", "left")} | {"code": code}
        return layers.layout.unflatten(left.detach()), state

    def _training(self, round: Round) -> Training:
        """λ falls linearly, to nothing at the end of the warming-up; for who comes later it is whole."""
        left = 1 - round.index / max(1, self.warmup_rounds)
        return Training(self.passes, self.segment, self.lr * left if left > 0 else self.lr, self.optimizer, self.jitter)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send what the autoencoder left of the parameters, or the code of them; the decoder once."""
        if "code" not in private:
            raise GradwireError("autoencoder has no code to send: no local step was taken under its hook")
        start, after = beginning(round), dict(private)
        code, version = after.pop("code").cpu(), after["fits"]
        message: dict[str, Tensor] = {}
        if round.index < self.warmup_rounds:
            message["parameters"] = start - round.layout.flatten(update)
        else:
            message |= {"code": code, "version": version}
        if not after["told"] and round.index >= self.warmup_rounds - 1:
            message |= {"decoder": network.halves(after["weights"])[1].cpu(), "version": version}
            after["told"] = torch.ones_like(after["told"])
        reply = yield Send("model", message, settled=after)
        return Outcome(round.layout.unflatten(start - reply["parameters"]), public, after)

    # The server: algorithm 3.

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Decode, average, reply. A client whose message cannot be read is left out, and named in the outcome."""
        uploads = yield None
        known, opened, refused = dict(public), dict[str, Tensors](), dict[str, str]()
        for party, tensors in uploads.items():
            try:
                opened[party] = {"parameters": messages.read(tensors, party, public, round)}
            except GradwireError as error:
                refused[party] = str(error)
            else:
                known |= messages.introduced(tensors, party)
        if not opened:
            raise GradwireError(f"round {round.index}: no client's message can be read; {next(iter(refused.values()))}")
        average = mean(opened)
        yield Send("model", average)
        aggregate = round.layout.unflatten(beginning(round) - average["parameters"])
        return Outcome(aggregate, known, {}, refused)

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean parameters of the others."""
        return super().others(reply, {"parameters": messages.read(own, party, public, round)}, party, public, round)

    # What an adversary makes of it.

    def decode(self, observation: Observation) -> Update:
        """Old − new parameters, as the server works them out."""
        upload, round = observation.uploads["model"], observation.round
        return round.layout.unflatten(
            beginning(round) - messages.read(upload, observation.victim, observation.public, round)
        )

    def measure(self, observation: Observation) -> Measurement:
        """What the code can tell of the change: its projection on the directions in which the decoder can move.

        What the server receives is D(z) = θ + ε: the client's own parameters and the autoencoder's error, which is many
        times what one step changes. The encoder it does not hold. But an encoder trained to invert D leaves an error
        that no small change of z would mend: Jᵀε ≈ 0 for D's derivative J at z. So Jᵀ(θ₀ − D(z)) ≈ Jᵀ(θ₀ − θ), also
        where the client begins with other parameters of which its autoencoder makes θ₀. That is linear in the change,
        holds as many numbers as the code, and is what this matches. It is as good as the encoder is.
        """
        upload, decoded = observation.uploads["model"], self.decode(observation)
        if "code" not in upload:
            return dense(decoded)
        weights = messages.decoder(upload, observation.victim, observation.public)
        codes = Layers.of(observation.round).codes(upload["code"])
        return {
            name: [Tangent(pulled(weights, codes[name], change.reshape(-1))[None], codes[name][None], weights[None])]
            for name, change in decoded.items()
        }

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What a decoder weighs, how well autoencoders were trained, and how many fell back."""
        size = 4 * network.HALVES["decode"].size
        told = sum(int(state["told"]) for state in private.values())
        fallen = {party: int(state["fallbacks"]) for party, state in private.items() if int(state["fallbacks"])}
        yet = "; the others' parameters are not compressed yet" if told < len(private) else ""
        notes = [f"autoencoder: {told} of {len(private)} clients have sent their decoders, of {size:,} bytes each{yet}"]
        trained = [state for state in private.values() if int(state["fits"])]
        if trained:
            fits, error = (fmean(float(state[name]) for state in trained) for name in ("fits", "error"))
            notes.append(f"autoencoder: after {fits:.0f} steps of training it puts parameters off by {error:.0%}")
        if fallen:
            names = ", ".join(fallen)
            notes.append(f"autoencoder: fell back {sum(fallen.values())} times to the last good weights: {names}")
        return tuple(notes)


def _perturbed(state: dict[str, Tensor], own: Tensor, layers: Layers) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The code of parameters and what it stands for; by the last good autoencoder, should this one diverge there."""
    code = layers.encode(state["weights"], own)
    left = layers.decode(network.halves(state["weights"])[1], code)
    if "good" in state and not bool(torch.isfinite(code).all() and torch.isfinite(left).all()):
        return _perturbed(fallen(state), own, layers)
    return state, code, left
