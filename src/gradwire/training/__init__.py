"""Training: the round loop, its state and checkpoints, and the capture of one round as an adversary sees it."""

from gradwire.training.capture import capture
from gradwire.training.gradient import gradient
from gradwire.training.loop import begin, evaluate, train
from gradwire.training.settings import TrainSettings
from gradwire.training.state import TrainingState

__all__ = ["TrainSettings", "TrainingState", "begin", "capture", "evaluate", "gradient", "train"]
