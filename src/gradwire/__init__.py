"""gradwire trains models together over a wire and tells you what that wire gives away.

>>> view = gradwire.capture(model, inputs, labels, scheme="powersgd:rank=4")   # what the server sees of one round
>>> guess = gradwire.invert(view, attack="iga", knowledge="adaptive")          # reconstructions
>>> score = gradwire.score(guess.images, inputs)                               # only now the truth
"""

from gradwire.attacks.inversion import Guess, invert
from gradwire.errors import GradwireError, WireError
from gradwire.integrations import ddp_hook
from gradwire.metrics import Score, score
from gradwire.training import capture
from gradwire.wire import View

__all__ = ["GradwireError", "Guess", "Score", "View", "WireError", "capture", "ddp_hook", "invert", "score"]
