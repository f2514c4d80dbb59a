"""Inputs that nobody meant: good ones with something changed, drawn from a seed.

Each gives an answer or one line that says what is wrong. `GRADWIRE_FUZZ` says how many are tried, where a few thousand
in the suite are too few (`make fuzz`).
"""

import os
from random import Random

from gradwire.errors import GradwireError

MANY = int(os.environ.get("GRADWIRE_FUZZ", "0"))
ODD = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**70,
    -(2**63),
    0.5,
    1e400,
    float("nan"),
    "",
    "a",
    "server",
    "é\n",
    "\ud800",
)
"""What a field may hold instead of what it should."""


def trials(few: int) -> int:
    """How many inputs a test tries."""
    return MANY or few


def bytes_changed(data: bytes, random: Random) -> bytes:
    """The bytes with a few of them changed, left out, doubled or appended."""
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(found) + 1)
        kind = random.randrange(5)
        if kind == 0:
            found[place : place + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            del found[place : place + random.randint(1, 16)]
        elif kind == 2:
            found[place:place] = random.randbytes(random.randint(1, 16))
        elif kind == 3:
            found[place:place] = found[place : place + random.randint(1, 64)]
        else:
            del found[place:]
    return bytes(found)


def value_changed(value: object, random: Random) -> object:
    """A JSON value with one part of it, at any depth, replaced, left out, doubled or nested."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(sorted(value))
        rest = dict(value)
        kind = random.randrange(6)
        if kind == 0:
            del rest[key]
        elif kind == 1:
            rest[random.choice(("", "a", "from", "shape", "\n"))] = rest.pop(key)
        else:
            rest[key] = value_changed(rest[key], random)
        return rest
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        kind = random.randrange(6)
        if kind == 0:
            return value[:place] + value[place + 1 :]
        if kind == 1:
            return [*value, value[place]]
        return [*value[:place], value_changed(value[place], random), *value[place + 1 :]]
    if isinstance(value, int | float) and random.random() < 0.4:
        return random.choice((value + 1, value - 1, -value, 2 * value, 0))
    if isinstance(value, str) and random.random() < 0.3:
        return text_changed(value, random)
    return random.choice((*ODD, [], {}, [value], {"a": value}))


def text_changed(text: str, random: Random, alphabet: str = ":,=.+-_[]{}()'\"#*/\\ \n\t0159aezé∞\x00") -> str:
    """The text with a few characters changed, left out, doubled or put in."""
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(text) + 1)
        end = place + random.choice((0, 0, 1, 1, 4))
        text = text[:place] + random.choice(("", random.choice(alphabet), text[place : place + 6] * 2)) + text[end:]
    return text


def said(error: GradwireError) -> str:
    """What an error says, which must be one line that can be printed."""
    line = str(error)
    assert line, "an error that says nothing"
    assert len(line.splitlines()) == 1, line
    line.encode()
    return line
