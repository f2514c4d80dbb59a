"""A learned inverter: a network that is trained, on examples of the adversary's own, to undo what the wire does."""

from gradwire.attacks.inversion.learned.attack import Learned, TrainedLearned
from gradwire.attacks.inversion.learned.start import FromLearned, learned_starts, start_from_learned

__all__ = ["FromLearned", "Learned", "TrainedLearned", "learned_starts", "start_from_learned"]
