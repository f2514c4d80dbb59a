"""What is sent in the clear beside a secure sum is said."""

from gradwire import models
from gradwire.schemes import parse
from gradwire.training import TrainSettings
from gradwire.training.loop import notes


def test_what_is_told_beside_a_sum_is_named():
    settings = TrainSettings(clients=3)
    norm, plain = (models.build(name, (3, 32, 32), 10, seed=0) for name in ("resnet20", "lenet"))
    (told,) = notes(settings, parse("sga"), norm)
    assert told == "sga: each client's loss and batch norm's running statistics are told beside the sum, in the clear"
    assert notes(settings, parse("sga"), plain) == ("sga: each client's loss is told beside the sum, in the clear",)
    assert notes(settings, parse("none"), norm) == ()
