"""What a scheme may need of whatever carries it, and the one place where that is compared with what there is."""

from collections.abc import Iterable
from enum import Enum

from gradwire.errors import GradwireError


class Need(Enum):
    """Something that not every carrier offers, in words that complete "needs …"."""

    SERVER = "a server apart from the clients"
    REPLY_EACH = "a reply of its own for each client"
    LOCAL_STEPS = "a hand in each step of a client's training"
    LOCAL_UPDATE = "what local steps make of the parameters, not a gradient"
    SINGLE_GRADIENT = "single gradients: it corrects their momentum, and local steps have their own"
    OWN_NETWORK = "a network of its own, which it makes of the one that is given"
    WHOLE = "whole updates, of clients that all stay to a round's end"
    EQUAL_WEIGHTS = "updates that count alike: average plain"


def check_carrier(what: str, needs: Iterable[Need], carrier: str, offers: Iterable[Need]) -> None:
    """Refuse a scheme that would be carried in another way than its paper says.

    Args:
        what: the scheme; `carrier`, what it would run on: for the message.

    Raises:
        GradwireError: naming the first need that is not met.
    """
    lacking = set(needs) - set(offers)
    for need in Need:
        if need in lacking:
            raise GradwireError(f"scheme {what!r} needs {need.value}; {carrier} does not offer that")
