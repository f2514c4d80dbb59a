"""Study files that nobody meant: each is a study whose cells can be told, or is refused in one line."""

import json
from random import Random

from gradwire.errors import GradwireError
from gradwire.studies.grid import keys_of
from gradwire.studies.plan import find
from tests.fuzzed import said, text_changed, trials, value_changed

CONTENT = {
    "title": "Two schemes",
    "source": "lmc",
    "cells": [
        {
            "command": "train",
            "label": "{data}: {scheme}",
            "settings": {"model": "mlp", "rounds": 4, "lr": 0.1, "data": "digits"},
            "grid": {"seed": [0, 1], "scheme": ["none", {"scheme": "signsgd", "lr": 0.001}]},
            "smoke": {"rounds": 2, "seeds": 1},
        },
        {
            "command": "audit",
            "settings": {"model": "mlp", "samples": 2, "attacks": ["iga:iterations=5"]},
            "grid": {"scheme": ["none", "topk:ratio=0.5"]},
            "smoke": False,
        },
    ],
    "claims": [
        {
            "says": "signs cost accuracy",
            "value": "test_accuracy",
            "where": {"command": "train"},
            "of": {"scheme": "signsgd"},
            "than": {"scheme": "none"},
            "is": "below",
            "margin": 0.0,
        }
    ],
    "show": [{"title": "Table I", "row": ["scheme"], "values": ["test_accuracy"]}],
}


def written(value):
    """A value as TOML, which has neither null nor numbers that are none."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def file(content):
    if not isinstance(content, dict):
        return written(content)
    return "\n".join(f"{json.dumps(key)} = {written(value)}" for key, value in content.items()) + "\n"


def told(path, scale):
    """What a dry run tells: the cells of a study, with every setting checked."""
    study = find(str(path), scale)
    return keys_of(study), [cell.filed({}) for cell in study.cells]


def test_any_study_file_is_a_study_or_refused_in_one_line(tmp_path):
    random, path, read = Random(0), tmp_path / "grid.toml", 0
    path.write_text(file(CONTENT))
    assert len(told(path, "desk")[0]) == 6
    for _ in range(trials(400)):
        text = file(value_changed(CONTENT, random)) if random.random() < 0.7 else text_changed(file(CONTENT), random)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            told(path, random.choice(("smoke", "desk", "paper")))
        except GradwireError as error:
            said(error)
            continue
        read += 1
    assert read
