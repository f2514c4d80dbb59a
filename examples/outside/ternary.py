"""A study: what ternary gradients cost in accuracy, and what they give away."""

from dataclasses import dataclass

from gradwire.studies.grid import Claim, Study, StudyCell

SCHEMES = ("none", "terngrad")


@dataclass(frozen=True)
class Ternary(Study):
    """Two trainings, and the attack TAG on the first update of each."""

    name = "ternary"
    title = "Ternary gradients"
    rounds: int = 40
    iterations: int = 300

    def cells(self):
        learnt = {"model": "mlp", "rounds": self.rounds, "eval_every": self.rounds}
        attack = {"model": "mlp", "samples": 2, "attacks": (f"tag:iterations={self.iterations}",)}
        trained = [StudyCell(scheme, "train", learnt | {"scheme": scheme}) for scheme in SCHEMES]
        return trained + [StudyCell(scheme, "audit", attack | {"schemes": (scheme,)}) for scheme in SCHEMES]

    def claims(self, rows):
        sent = {row["label"]: float(row["ratio"]) for row in rows if row["command"] == "train"}
        says = "TernGrad sends at least three times less than plain SGD"
        return [Claim(says, "an int8 an entry", "", f"{sent['terngrad']:.1f} times", sent["terngrad"] > 3)]
