"""Learned model compression: every client's own autoencoder compresses, and thereby perturbs, its parameters.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": algorithms 1 to 3. The autoencoder itself is `codec`.

Where the paper is silent or contradicts itself, this holds:

- Each parameter tensor is encoded by itself, weights and biases alike; "each layer" in the paper. It is divided by its
  root mean square at the start of the round, which all parties know: an autoencoder that has to learn how large
  weights are before it learns what they are takes many times as long.
- Line 9 of algorithm 2 takes each step from the client's own parameters, along the slope with respect to these, which
  leads through the autoencoder: `steps=through`. So they go where the loss falls among the models that the autoencoder
  can express, and what it gets wrong does not add up. Nor from round to round: a client that is done with warming up
  begins with the mean and its residual, what the autoencoder last left out of its parameters. Equation 11 takes the
  step from what the autoencoder made of them, along the slope there (`steps=replaced`): its errors do add up, to more
  than a round's progress. Between the two, `steps=straight` steps from the client's own along that slope, as if the
  autoencoder's derivative were one.
- The clients' autoencoders begin alike, as where all set the one random seed that the paper names, and λ falls as the
  warming-up goes on: what autoencoders can express that have little in common is lost from the mean of the models, and
  what they were when their training stopped should not hang on their last step.
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
from gradwire.schemes import codec
from gradwire.schemes.aggregate import mean
from gradwire.schemes.codec_training import OPTIMIZERS, Training, fallen, fit
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.practice import Practice, Step
from gradwire.schemes.round import Outcome, Round, Sight, State
from gradwire.schemes.scheme import Scheme, check_positive
from gradwire.schemes.tangent import Tangent, pulled
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors

STEPS = ("through", "straight", "replaced")


@dataclass(frozen=True)
class Autoencoder(Scheme, Practice):
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
    """

    name: ClassVar[str] = "autoencoder"
    hosted: ClassVar[bool] = True

    warmup_rounds: int = 35
    warmup_iterations: int = 30
    lr: float = 1e-3
    passes: int = 2
    segment: int = 1024
    jitter: float = 0.03
    optimizer: Literal["adam", "sgd"] = "adam"
    steps: Literal["through", "straight", "replaced"] = "through"

    def __post_init__(self) -> None:
        if self.warmup_rounds < 0:
            raise GradwireError(f"autoencoder: warmup_rounds is {self.warmup_rounds}; it must not be negative")
        check_positive(self.name, "warmup_iterations", self.warmup_iterations)
        check_positive(self.name, "passes", self.passes)
        if self.segment < 1 or self.segment % (2 * codec.SHRINK):
            raise GradwireError(f"autoencoder: segment is {self.segment}; it must be a multiple of {2 * codec.SHRINK}")
        if not 0 < self.lr < inf:
            raise GradwireError(f"autoencoder: lr is {self.lr}; it must be positive and finite")
        if not 0 <= self.jitter < inf:
            raise GradwireError(f"autoencoder: jitter is {self.jitter}; it must be finite and not negative")
        if self.optimizer not in OPTIMIZERS:
            raise unknown("autoencoder: optimizer", self.optimizer, OPTIMIZERS)
        if self.steps not in STEPS:
            raise unknown("autoencoder: steps", self.steps, STEPS)

    def check_local(self, local: bool, weighted: bool = False) -> None:
        """Refuse gradients: they are not parameters. And weights: a code does not scale, and equation 12 has none."""
        if not local:
            raise GradwireError(
                "autoencoder sends what local steps make of the parameters; this run sends gradients: give local steps"
            )
        if weighted:
            raise GradwireError("autoencoder averages decoded parameters plainly; set average to plain")

    def check_rounds(self, rounds: int) -> None:
        """Refuse a run that ends before the warming-up does: nothing in it would be compressed."""
        if self.warmup_rounds >= rounds:
            raise GradwireError(
                f"autoencoder: warmup_rounds is {self.warmup_rounds} and the run has {rounds} rounds: no code would "
                "be sent; it must have more"
            )

    @property
    def practice(self) -> Practice:
        """Train the autoencoder, or put the parameters through it, after each step."""
        return self

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The client's autoencoder, untrained, with Adam's moments. All clients' are alike.

        `fits` counts its training steps and is what its decoder's version goes by; `told`, whether the server has the
        decoder; `fallbacks`, how often it diverged; `error`, how far it last put parameters off: the norm of the
        difference, by theirs. Trained, it has a `residual` too, the difference between the parameters that it steps
        from and what the autoencoder makes of them.
        """
        random = generator("autoencoder")
        weights = torch.cat([codec.initial(half, random) for half in codec.HALVES])
        return {
            "weights": weights,
            "first": torch.zeros_like(weights),
            "second": torch.zeros_like(weights),
            **{name: torch.zeros((), dtype=torch.int64) for name in ("fits", "told", "fallbacks")},
            "error": torch.zeros(()),
        }

    # The client: algorithms 1 and 2.

    def direct(self, gradient: Update, private: State, step: Step) -> tuple[Update, State]:
        """The slope with respect to the client's own parameters, of which the model's are what the autoencoder made."""
        if self.steps != "through" or "own" not in private:
            return gradient, private
        layout, scale = step.round.layout, _scale(step.round)
        own, slope = (layout.unflatten(flat) for flat in (private["own"] / scale, layout.flatten(gradient) * scale))
        weights = private["weights"].to(scale)
        back = {name: codec.pulled_back(weights, own[name].reshape(-1), s.reshape(-1)) for name, s in slope.items()}
        return layout.unflatten(layout.flatten(back) / scale), private

    def settle(self, parameters: Update, private: State, step: Step) -> tuple[Update, State]:
        """Train the autoencoder on what a step left, or leave what the autoencoder makes of it."""
        state, layout = dict(private), step.round.layout
        if step.index == 0 and not state["told"] and (step.round.index < self.warmup_rounds or not state["fits"]):
            state["good"] = state["weights"]
        state.pop("own", None)
        residual, scale = state.pop("residual", 0), _scale(step.round)
        training = "good" in state and step.index < self.warmup_iterations
        own = layout.flatten(parameters).detach() + (0 if training else residual)
        scaled = layout.unflatten(own / scale)
        if training:
            for _ in range(self.warmup_iterations - step.index if step.last else 1):
                state = fit(state, scaled, self._training(step.round))
        if training and not step.last:
            return parameters, state
        state, code, decoded = _perturbed(state, scaled)
        left = layout.flatten(decoded) * scale
        state["error"] = ((left - own).norm() / own.norm()).float().cpu()
        if step.last:
            state.pop("good", None)
            state["code"] = code
        if self.steps != "replaced":
            state |= {"residual": own - left} | ({} if step.last else {"own": own})
        return layout.unflatten(left), state

    def _training(self, round: Round) -> Training:
        """λ falls linearly, to nothing at the end of the warming-up; for who comes later it is whole."""
        left = 1 - round.index / max(1, self.warmup_rounds)
        return Training(self.passes, self.segment, self.lr * left if left > 0 else self.lr, self.optimizer, self.jitter)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send what the autoencoder left of the parameters, or the code of them; the decoder once."""
        if "code" not in private:
            raise GradwireError("autoencoder has no code to send: no local step was taken under its practice")
        start, after = _start(round), dict(private)
        code, version = after.pop("code").cpu(), after["fits"]
        message: dict[str, Tensor] = {}
        if round.index < self.warmup_rounds:
            message["parameters"] = start - round.layout.flatten(update)
        else:
            message |= {"code": code, "version": version}
        if not after["told"] and round.index >= self.warmup_rounds - 1:
            message |= {"decoder": codec.halves(after["weights"])[1].cpu(), "version": version}
            after["told"] = torch.ones_like(after["told"])
        reply = yield Send("model", message)
        return Outcome(round.layout.unflatten(start - reply["parameters"]), public, after)

    # The server: algorithm 3.

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Decode, average, reply. A client whose message cannot be read is left out, and named in the outcome."""
        uploads = yield None
        known, opened, refused = dict(public), {}, {}
        for party, tensors in uploads.items():
            try:
                opened[party] = self.opened(tensors, party, public, round)
            except GradwireError as error:
                refused[party] = str(error)
            else:
                known |= _introduced(tensors, party)
        if not opened:
            raise GradwireError(f"round {round.index}: no client's message can be read; {next(iter(refused.values()))}")
        average = mean(opened)
        yield Send("model", average)
        aggregate = round.layout.unflatten(_start(round) - average["parameters"])
        return Outcome(aggregate, known, {}, refused)

    def opened(self, upload: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The parameters that a client's message stands for, flat.

        Raises:
            GradwireError: a decoder or code of the wrong length, a code of another decoder than the one at hand, or
                parameters that are not finite.
        """
        layout, who = round.layout, f"autoencoder: {party}'s"
        if "parameters" in upload:
            found = upload["parameters"]
            if found.shape != (layout.size,):
                raise GradwireError(f"{who} parameters are {found.numel()} numbers; the model has {layout.size}")
        else:
            known, code = dict(public) | _introduced(upload, party), upload.get("code")
            weights = self._decoder(known, party)
            sizes = [codec.code_size(length) for length in layout.sizes.values()]
            if code is None or code.shape != (sum(sizes),):
                held = 0 if code is None else code.numel()
                raise GradwireError(f"{who} code has {held} numbers; those of this model have {sum(sizes)}")
            version, has = _version(upload, "version"), _version(known, f"version/{party}")
            if version is None or version != has:
                raise GradwireError(f"{who} code is of version {version}; the decoder at hand is of version {has}")
            parts = zip(code.split(sizes), layout.sizes.values(), strict=True)
            found = torch.cat([codec.decode(weights, part, length) for part, length in parts]) * _scale(round)
        if not bool(torch.isfinite(found).all()):
            raise GradwireError(f"{who} parameters are not finite")
        return {"parameters": found}

    def _decoder(self, public: State, party: str) -> Tensor:
        weights, size = public.get(f"decoder/{party}"), codec.HALVES["decode"].size
        if weights is None:
            raise GradwireError(f"autoencoder: {party} sent a code and never a decoder")
        if weights.shape != (size,):
            raise GradwireError(f"autoencoder: {party}'s decoder has {weights.numel()} numbers; it must have {size}")
        return weights

    # What an adversary makes of it.

    def decode(self, sight: Sight) -> Update:
        """Old − new parameters, as the server works them out."""
        found = self.opened(sight.uploads["model"], sight.victim, sight.public, sight.round)["parameters"]
        return sight.round.layout.unflatten(_start(sight.round) - found)

    def measure(self, sight: Sight) -> Measurement:
        """What the code can tell of the change: its projection on the directions in which the decoder can move.

        What the server receives is D(z) = θ + ε: new parameters and the autoencoder's error, which is many times what
        one step changes. The encoder it does not hold. But an encoder trained to invert D leaves an error that no
        small change of z would mend: Jᵀε ≈ 0 for D's derivative J at z. So Jᵀ(θ₀ − D(z)) ≈ Jᵀ(θ₀ − θ), which is linear
        in the change, holds as many numbers as the code, and is what this matches. It is as good as the encoder is.
        """
        upload, decoded = sight.uploads["model"], self.decode(sight)
        if "code" not in upload:
            return dense(decoded)
        weights = self._decoder(dict(sight.public) | _introduced(upload, sight.victim), sight.victim)
        sizes = {name: codec.code_size(length) for name, length in sight.round.layout.sizes.items()}
        codes = dict(zip(sizes, upload["code"].split(list(sizes.values())), strict=True))
        return {
            name: [Tangent(pulled(weights, codes[name], change.reshape(-1))[None], codes[name][None], weights[None])]
            for name, change in decoded.items()
        }

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What a decoder weighs, how well autoencoders were trained, and how many fell back."""
        size = 4 * codec.HALVES["decode"].size
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


def _perturbed(state: dict[str, Tensor], parameters: Update) -> tuple[dict[str, Tensor], Tensor, Update]:
    """Codes, one after another, and what they stand for: equations 5 to 8."""
    encoder, decoder = codec.halves(state["weights"].to(next(iter(parameters.values()))))
    codes = {name: codec.encode(encoder, tensor.detach().reshape(-1)) for name, tensor in parameters.items()}
    decoded = {n: codec.decode(decoder, codes[n], p.numel()).view(p.shape) for n, p in parameters.items()}
    joined = torch.cat(list(codes.values()))
    if "good" in state and not all(bool(torch.isfinite(tensor).all()) for tensor in (joined, *decoded.values())):
        return _perturbed(fallen(state), parameters)
    return state, joined, decoded


def _introduced(upload: Tensors, party: str) -> dict[str, Tensor]:
    """What the server remembers of a message: the client's decoder and its version, if it came with them."""
    return {
        f"{name}/{party}": upload[name] for name in ("decoder", "version") if "decoder" in upload and name in upload
    }


def _version(tensors: Mapping[str, Tensor], name: str) -> int | None:
    """The number that a decoder goes by; None where there is no such number."""
    tensor = tensors.get(name)
    return int(tensor) if tensor is not None and tensor.numel() == 1 and not tensor.is_floating_point() else None


def _scale(round: Round) -> Tensor:
    """What each parameter is divided by, flat: the root mean square of its layer as the round began, or 1 for 0."""
    layers = round.layout.unflatten(_start(round))
    means = {name: layer.square().mean().sqrt().expand_as(layer) for name, layer in layers.items()}
    flat = round.layout.flatten(means)
    return flat.where(flat > 0, 1)


def _start(round: Round) -> Tensor:
    """The parameters that the round began with, flat."""
    if round.start is None:
        raise GradwireError("autoencoder sends parameters; it has to be told those that the round begins with")
    return round.layout.flatten(round.start)
