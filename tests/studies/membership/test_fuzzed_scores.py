"""Score files that nobody meant: each is read as it stands, or refused in one line."""

import io
from random import Random

import numpy as np
import pytest

from gradwire.errors import GradwireError
from gradwire.studies.membership.given import KINDS, read_scores
from tests.fuzzed import bytes_changed, said, text_changed, trials

CELLS = ("", "nan", "inf", "-1", "1e400", "0.5", "2", "1", "yes", "\x00", "é", '"', "None", "9" * 40, "-0.0")
ROWS = "model,example,member,score,label\n" + "".join(
    f"{model},{example},{(example + model) % 2},{0.1 * example + 0.05},{example % 3}\n"
    for model in range(2)
    for example in range(6)
)


def changed(random: Random) -> str:
    """The table with some cells, or some characters, changed."""
    if random.random() < 0.5:
        return text_changed(ROWS, random)
    rows = [line.split(",") for line in ROWS.splitlines()]
    for _ in range(random.randint(1, 3)):
        row = random.choice(rows)
        row[random.randrange(len(row))] = random.choice(CELLS)
    return "\n".join(",".join(row) for row in rows)


def checked(given):
    """What was read can be judged: finite where it must be, both sides in every model."""
    asked = given.asked
    assert asked.any(1).all()
    assert not given.scores[asked].isnan().any()
    for own, truth in zip(asked, given.members, strict=True):
        assert truth[own].any()
        assert (~truth[own]).any()
    signals = given.signals()
    assert signals.label.shape == (*given.members.shape, 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "probabilities"])
def test_any_table_is_read_or_refused_in_one_line(kind, tmp_path):
    random, path, read = Random(0), tmp_path / "scores.csv", 0
    for _ in range(trials(150)):
        path.write_text(changed(random))
        try:
            checked(read_scores(path, kind))
        except GradwireError as error:
            said(error)
            continue
        read += 1
    assert read or kind == "class"


def test_any_archive_of_arrays_is_read_or_refused_in_one_line(tmp_path):
    random, path, file = Random(1), tmp_path / "scores.npz", io.BytesIO()
    rng = np.random.default_rng(0)
    np.savez(file, scores=rng.dirichlet(np.ones(3), 6), members=np.arange(6) % 2, labels=np.arange(6) % 3)
    odd = (np.zeros(0), np.array("a"), np.array(["a"] * 6), np.ones((6, 3)) / 3, np.arange(6) - 1, np.full(6, 7), None)
    for _ in range(trials(150)):
        if random.random() < 0.5:
            path.write_bytes(bytes_changed(file.getvalue(), random))
        else:
            arrays = {"scores": np.ones((6, 3)) / 3, "members": np.arange(6) % 2, "labels": np.arange(6) % 3}
            value = random.choice(odd)
            arrays[random.choice(("scores", "members", "labels", "models", "examples"))] = value
            np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        try:
            checked(read_scores(path, "probabilities"))
        except GradwireError as error:
            said(error)
