"""One round of a scheme, whoever's updates they are and whatever carries them."""

from gradwire.rounds.client import ClientRound
from gradwire.rounds.halves import client_half, server_half
from gradwire.rounds.run import RoundResult, run_round

__all__ = ["ClientRound", "RoundResult", "client_half", "run_round", "server_half"]
