"""What masks are bound to: known answers, worked out here from SHA-256 alone, and the bytes that they were at first."""

import hashlib
from dataclasses import replace

import pytest
import torch

from gradwire.schemes import Layout, Round, parse
from gradwire.secure.commitments import own_mask, pair_mask
from gradwire.secure.identity import Gathering, digest, fingerprint
from gradwire.secure.kdf import derive

SAID = {"places": torch.tensor([0, 2], dtype=torch.int32), "maxima": torch.tensor([1.5, 0.25], dtype=torch.float64)}
PARTIES = ("client:0", "client:1", "client:2")


def framed(*parts):
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def sha(data):
    return hashlib.sha256(data).digest()


def test_the_fingerprint_of_tensors_is_that_of_their_names_types_shapes_and_bytes():
    text = b"gradwire tensors"
    text += framed(b"maxima", b"torch.float64", b"(2,)") + bytes.fromhex("000000000000f83f000000000000d03f")
    text += framed(b"places", b"torch.int32", b"(2,)") + bytes.fromhex("0000000002000000")
    assert fingerprint(SAID) == sha(text)
    assert fingerprint(SAID).hex() == "6db8cf0f8e6ba53e0f0c3ac458f57617850b57de6eca97d3a534232f92a8795d"
    assert fingerprint({}) == sha(b"gradwire tensors")


def test_what_the_server_says_is_chained():
    first = digest(b"facts")
    assert first == sha(framed(b"gradwire said", b"facts"))
    heard = Gathering(PARTIES, 3, 7, prefix="P ", digest=first).heard("offer", SAID)
    assert heard.digest == sha(framed(b"gradwire said", first, b"P offer", fingerprint(SAID)))
    assert heard.digest.hex() == "9ab21fff4fa965d0263ed48978871150a4daac7e709d1cbf9bf96ebed35ed7f5"
    assert Gathering(PARTIES, 3, 7).heard("offer", SAID).digest is None


def test_masks_are_derived_from_it():
    gathering = Gathering(PARTIES, 3, 7, digest=sha(b"said"))
    context = (b"7", b"3", b"", b"x25519")
    assert own_mask(gathering, bytes(16), 1) == derive(bytes(16), "own mask", *context, b"client:1", sha(b"said"))
    pair = derive(bytes(32), "pair mask", *context, b"client:1", b"client:2", sha(b"said"))
    assert pair_mask(gathering, bytes(32), 2, 1) == pair
    assert pair.hex() == "c86d1012dc2dc61fcb7d8414d474de64b7fe2324f07260aaa4d0103a41484f08"
    assert own_mask(replace(gathering, digest=None), bytes(16), 1) == derive(
        bytes(16), "own mask", *context, b"client:1"
    )


def round_of(**changed):
    facts = {"index": 0, "clients": PARTIES, "seed": 0, "layout": Layout({"w": (2,)}), "start": {"w": torch.zeros(2)}}
    return Round(**facts | changed)


@pytest.mark.parametrize(
    "other",
    [
        {"index": 1},
        {"clients": PARTIES[::-1]},
        {"clients": PARTIES[:2]},
        {"seed": 1},
        {"epoch": 1},
        {"weights": "told"},
        {"layout": Layout({"w": (1, 2)})},
        {"start": {"w": torch.tensor([0.0, 1e-30])}},
        {"start": {"v": torch.zeros(2)}},
        {"start": {"w": torch.zeros(2, dtype=torch.float64)}},
        {"start": None},
    ],
)
def test_a_round_that_differs_in_anything_has_other_masks(other):
    scheme = parse("sga")
    assert scheme.gathering(round_of(**other)).digest != scheme.gathering(round_of()).digest
    assert scheme.gathering(round_of()).digest == scheme.gathering(round_of()).digest
    assert parse("sga:bits=16").gathering(round_of()).digest != scheme.gathering(round_of()).digest
    assert parse("sga:binding=false").gathering(round_of()).digest is None
