"""Tasks: what is learned from what. The domain of the inputs, and the loss with the targets that suit it."""

from gradwire.tasks.columns import Category, Columns, Number
from gradwire.tasks.domain import Cell, Domain
from gradwire.tasks.given_losses import OwnLoss, Reported, parse_loss
from gradwire.tasks.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, NextToken, TaskLoss
from gradwire.tasks.numbers import Numbers
from gradwire.tasks.pixels import Pixels
from gradwire.tasks.scores import Score, score
from gradwire.tasks.task import Task, task_of
from gradwire.tasks.tokens import Tokens

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "MeanSquaredError", "NextToken", "TaskLoss"]
__all__ += ["OwnLoss", "Reported", "parse_loss"]
__all__ += ["Category", "Cell", "Columns", "Domain", "Number", "Numbers", "Pixels", "Tokens"]
__all__ += ["Score", "Task", "score", "task_of"]
