"""Learned model compression: every client's own autoencoder compresses, and thereby perturbs, its parameters.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": algorithms 1 to 3. `codec` holds the autoencoder; `codec.choices` says what is done where the paper
says nothing or contradicts itself.

Clients send parameters, not changes. The server decodes those of each client with the decoder that this client sent
once, averages them (equation 12), and replies with the mean, uncompressed. Decoders are public state: whoever listened
from the first round has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.codec import bare, messages
from gradwire.schemes.codec.affine import AFFINE, response, tangent
from gradwire.schemes.codec.choices import STARTS, AutoencoderChoices
from gradwire.schemes.codec.layers import (
    BARE,
    NETWORK,
    BareTangent,
    Codec,
    Layers,
    Tangent,
    beginning,
    code_sizes,
    pulled,
    sizes,
)
from gradwire.schemes.codec.network import preimage
from gradwire.schemes.codec.training import Training, fallen, fit
from gradwire.schemes.halves import mean
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.local_step import LocalStep, LocalStepHook
from gradwire.schemes.measurement import Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Accounting, Scheme, exactly
from gradwire.seeds import generator
from gradwire.wire import ClientHalf, Need, Send, ServerHalf, Tensors

LENGTHENED = 16
"""The largest factor by which a slope is made longer: one of which next to nothing is left says nothing."""


@dataclass(frozen=True)
class Autoencoder(AutoencoderChoices, Scheme, LocalStepHook, Accounting):
    """Send the latent code of the parameters."""

    name: ClassVar[str] = "autoencoder"
    needs = frozenset({Need.SERVER, Need.LOCAL_STEPS, Need.LOCAL_UPDATE, Need.EQUAL_WEIGHTS})

    @property
    def least_rounds(self) -> int:  # type: ignore[override]
        """Those of the warming-up, in which nothing is compressed."""
        return self.warmup_rounds

    @property
    def feeds_back(self) -> bool:
        """Where updates are coded, with error feedback."""
        return self.coded == "updates" and self.error_feedback

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The client's untrained autoencoder, with Adam's moments. Those of all clients are alike.

        `fits` counts its training steps, and is the decoder's version. `told` says whether the server has the decoder;
        `fallbacks`, how often the autoencoder diverged; `joined`, in how many rounds the client was; `error`, the
        relative norm of its last error; `residual`, what is fed back. Between two perturbed steps there are also the
        client's `own` parameters, what the autoencoder `left` of them, and its affine response.
        """
        weights = (bare.start if self.codec == "projection" else STARTS[self.start])(generator("autoencoder"))
        return {
            "weights": weights,
            "first": torch.zeros_like(weights),
            "second": torch.zeros_like(weights),
            **{name: torch.zeros((), dtype=torch.int64) for name in ("fits", "told", "fallbacks", "joined")},
            "error": torch.zeros(()),
            **({"residual": torch.zeros(layout.size, dtype=layout.dtype)} if self.feeds_back else {}),
        }

    def kept_back(self, private: State, layout: Layout) -> Update:
        """What the codec left out of the last update and those before."""
        return layout.unflatten(private["residual"]) if self.feeds_back else {}

    @property
    def _kind(self) -> Codec:
        return BARE if self.codec == "projection" else NETWORK

    def _turn(self, private: State, round: Round) -> int:
        """The round, as the warming-up counts."""
        return int(private["joined"]) if self.counted == "client" else round.index

    def _layers(self, round: Round, sizes: Tensor | None = None) -> Layers:
        """The model's layers; where updates are coded, those of these sizes."""
        return Layers.of(round, self._kind) if sizes is None else Layers.of_update(round, self._kind, sizes)

    # The client: algorithms 1 and 2.

    def before_step(self, gradient: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """The slope with respect to the client's own parameters, through the autoencoder."""
        if self.steps != "through" or "left" not in private:
            return gradient, private
        slope = step.round.layout.flatten(gradient)
        (back,) = torch.autograd.grad(private["left"], private["own"], slope)
        length = (slope.square().sum() / back.square().sum()).clamp(max=LENGTHENED).nan_to_num(1)
        return step.round.layout.unflatten(length * back), private

    def after_step(self, parameters: Update, private: State, step: LocalStep) -> tuple[Update, State]:
        """Train the autoencoder on the parameters after a step, or put them through it."""
        state, round, warm = dict(private), step.round, self._turn(private, step.round) < self.warmup_rounds
        due = warm or (self.codec == "trained" and not state["fits"])
        if step.index == 0 and not state["told"] and due:
            state["good"] = state["weights"]
        training = "good" in state and step.index < self.warmup_iterations
        now = round.layout.flatten(parameters).detach()
        if self.coded == "updates":
            if step.last and self.feeds_back:
                now = now - state["residual"].to(now)
            layers = self._layers(round, sizes(round.layout, now - beginning(round).to(now)))
        else:
            layers = self._layers(round)
        if "left" in state:
            now = now + (state.pop("own") - state.pop("left")).detach()
        elif step.index == 0 and not training and self.coded == "parameters" and self.steps != "replaced":
            start = beginning(round).to(now)
            if self.response == "affine" and not step.last:
                state |= tangent(state["weights"], start, layers)
                before = preimage(lambda vector: response(state, vector, layers), start)
            else:
                before = layers.preimage(state["weights"], start)
            now = now + before - start
        if training and self.codec == "trained":
            for _ in range(self.warmup_iterations - step.index if step.last else 1):
                state = fit(state, layers.vectors(now), self._training(self._turn(private, round)))
        if not step.last and (training or self.coded == "updates"):
            return parameters, state
        with torch.set_grad_enabled(self.steps == "through" and not step.last):
            now.requires_grad_(torch.is_grad_enabled())
            state, code, left = _perturbed(state, now, layers, self.response == "affine" and not step.last)
        change = (now - layers.base).detach()
        state["error"] = ((left - now).norm() / change.norm()).nan_to_num(0).detach().float().cpu()
        if self.coded == "parameters" and self.steps != "replaced":
            # They hold the graph through which `before_step` pulls the next slope back.
            state |= {"own": now, "left": left}
        if step.last:
            state = {n: t for n, t in state.items() if n not in ("good", "own", "left", *AFFINE)} | {"code": code}
            if self.coded == "updates":
                state |= {"sizes": layers.sizes}
            if self.feeds_back:
                state |= {"residual": (left - now).cpu()}
        return round.layout.unflatten(left.detach()), state

    def _training(self, turn: int) -> Training:
        """λ falls linearly to zero at the end of the warming-up; for a client that trains later it is whole."""
        left = 1 - turn / max(1, self.warmup_rounds)
        return Training(self.passes, self.segment, self.lr * left if left > 0 else self.lr, self.optimizer, self.jitter)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send what the autoencoder left of the parameters, or their code; the decoder once."""
        if "code" not in private:
            raise GradwireError("autoencoder has no code to send: no local step was taken under its hook")
        start, after, turn = beginning(round), dict(private), self._turn(private, round)
        coded = {name: after.pop(name).cpu() for name in ("code", "sizes") if name in after}
        version = after["fits"]
        message: dict[str, Tensor] = {}
        if turn < self.warmup_rounds:
            message["parameters"] = start - round.layout.flatten(update)
        else:
            message |= coded | {"version": version}
        if not after["told"] and turn >= self.warmup_rounds - 1:
            decoder = self._kind.halves(after["weights"])[1].cpu().to(start.dtype)
            message |= {"decoder": decoder, "version": version}
            after["told"] = torch.ones_like(after["told"])
        after["joined"] = after["joined"] + 1
        reply = yield Send("model", message, settled=after)
        return Outcome(round.layout.unflatten(start - reply["parameters"]), public, after)

    # The server: algorithm 3.

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Decode, average, reply. A client whose message cannot be read is left out and named in the outcome."""
        uploads = yield None
        known, opened, refused = dict(public), dict[str, Tensors](), dict[str, str]()
        for party, tensors in uploads.items():
            try:
                opened[party] = {"parameters": self._read(tensors, party, public, round)}
            except GradwireError as error:
                refused[party] = str(error)
            else:
                known |= messages.announced(tensors, party)
        if not opened:
            raise GradwireError(f"round {round.index}: no client's message can be read; {next(iter(refused.values()))}")
        average = mean(opened)
        yield Send("model", average)
        aggregate = round.layout.unflatten(beginning(round) - average["parameters"])
        return Outcome(aggregate, known, {}, refused)

    def _read(self, upload: Tensors, party: str, public: State, round: Round) -> Tensor:
        return messages.read(upload, party, public, self._layers(round, upload.get("sizes")))

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """Parameters, or a code with its version; and a decoder with its version once the warming-up ends."""
        layout, due = round.layout, dict[str, tuple[int, ...]]()
        late = round.index >= self.warmup_rounds if self.counted == "run" else "parameters" not in tensors
        if not late:
            due["parameters"] = (layout.size,)
        else:
            due |= {"code": (sum(code_sizes(layout).values()),), "version": ()}
            due |= {"sizes": (len(code_sizes(layout)),)} if self.coded == "updates" else {}
        if "decoder" in tensors and (late or self.counted == "client" or round.index == self.warmup_rounds - 1):
            due |= {"decoder": (self._kind.size,), "version": ()}
        exactly(tensors, due, {**dict.fromkeys(due, layout.dtype), "version": torch.int64})

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean parameters of the others."""
        return super().others(reply, {"parameters": self._read(own, party, public, round)}, party, public, round)

    # What an adversary makes of it.

    def decode(self, observation: Observation) -> Update:
        """Old − new parameters, as the server works them out."""
        upload, round = observation.uploads["model"], observation.round
        return round.layout.unflatten(
            beginning(round) - self._read(upload, observation.victim, observation.public, round)
        )

    def measure(self, observation: Observation) -> Measurement:
        """The projection of the change on the directions in which the decoder can move, as the code tells it.

        The server receives D(z) = θ + ε: the client's own parameters, and the autoencoder's error, which is many times
        one step's change. It does not hold the encoder. But no small change of z would reduce the error of an encoder
        that was trained to invert D: Jᵀε ≈ 0 for D's derivative J at z. So Jᵀ(θ₀ − D(z)) ≈ Jᵀ(θ₀ − θ), also where the
        client begins with other parameters of which its autoencoder makes θ₀. This measurement is linear in the change,
        holds as many numbers as the code, and is as good as the encoder is. What coded updates feed back of earlier
        rounds is part of the change here.
        """
        upload, decoded = observation.uploads["model"], self.decode(observation)
        if "code" not in upload:
            return dense(decoded)
        weights = messages.decoder(upload, observation.victim, observation.public)
        codes = self._layers(observation.round).codes(upload["code"])
        term, codec = (BareTangent if self.codec == "projection" else Tangent), self._kind
        return {
            name: [term(pulled(weights, code, decoded[name].reshape(-1), codec)[None], code[None], weights[None])]
            for name, code in codes.items()
        }

    def notes(self, private: Mapping[str, State]) -> tuple[str, ...]:
        """What a decoder weighs, how well autoencoders were trained, and how many fell back."""
        size = 4 * self._kind.size
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


def _perturbed(
    state: dict[str, Tensor], own: Tensor, layers: Layers, affine: bool
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The state, the code of parameters (none of an affine response), and what it stands for.

    It is that of the last good autoencoder if this one diverges.
    """
    weights, code = state["weights"], own.new_empty(0)
    if affine:
        state = state if "at" in state else state | tangent(weights, own, layers)
        left = response(state, own, layers)
    else:
        code = layers.encode(weights, own)
        left = layers.decode(layers.codec.halves(weights)[1], code)
    if "good" in state and not bool(torch.isfinite(code).all() and torch.isfinite(left).all()):
        return _perturbed({n: t for n, t in fallen(state).items() if n not in AFFINE}, own, layers, affine)
    return state, code, left
