"""An audit in one training run: which canaries were in the first model's training set?"""

from gradwire.metrics.epsilon import one_run_bound
from gradwire.runs import Row
from gradwire.studies.membership.shadow import Record
from gradwire.studies.membership.shadow_experiment import ShadowExperiment


def audit(common: ShadowExperiment, record: Record) -> Row:
    """A lower bound on ε from the first model's answers on its canaries, as columns of a row.

    T. Steinke, M. Nasr, M. Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, algorithm 1, in the
    black-box setting: the quarter of the canaries that the model is surest of (by log p_y / (1 − p_y)) are guessed to
    be in, the quarter that it is least sure of, to be out; on the others no guess is made. How many are guessed is
    settled before the run, so that the bound holds at its confidence. Balanced accuracy is the share of right guesses.

    Where the scheme guarantees an ε, it stands beside as `epsilon_claimed`, and the bound is at its δ; else at δ = 0.
    """
    settings, canaries = common.settings, common.canaries
    included = common.members[0, canaries]
    order = record["label"][canaries, 0].argsort(stable=True)
    each = max(1, len(canaries) // 4)
    right = int(included[order[-each:]].sum() + (~included[order[:each]]).sum())
    return {
        "attack": f"one-run:{settings.canaries}",
        "threshold": "fixed",
        "targets": 1,
        "balanced_accuracy": right / (2 * each),
        "members": int(included.sum()),
        "nonmembers": int((~included).sum()),
        "epsilon": one_run_bound(len(canaries), 2 * each, right, settings.confidence, float(record.get("delta", 0.0))),
        "epsilon_claimed": float(record["epsilon"]) if "epsilon" in record else "",
    }
