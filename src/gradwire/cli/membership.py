"""gradwire membership: who was in the training set? gradwire epsilon: how private is training at most?"""

from collections.abc import Mapping
from typing import Any

import click

from gradwire.cli.show import figures, given, only, outcome, progress_bar, settings_options, show
from gradwire.errors import GradwireError

KINDS = ("score", "logit", "confidence", "loss", "probabilities", "class")
MEMBERS = "With --checkpoint: what it was trained on, all of the split or the examples numbered in a file."


@click.command()
@settings_options("gradwire.studies.membership.settings:MembershipSettings")
@click.option("--jobs", default=1, show_default=True, help="Shadow batches at a time, each a process with one thread.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder: finished models stay.")
@click.option("--scores", metavar="FILE", help="Judge these scores (CSV, Parquet, npz), and train nothing.")
@click.option("--score-is", default="score", show_default=True, type=click.Choice(KINDS), help="What --scores holds.")
@click.option("--checkpoint", metavar="FILE", help="Judge this model: parameters of --model, as safetensors or .pt.")
@click.option("--members", default="train", show_default=True, metavar="train|FILE", help=MEMBERS)
@click.option("--nonmembers", default="test", show_default=True, metavar="test|FILE", help="The same of non-members.")
@click.option("--transcript", metavar="FILE", help="Score candidates by recorded rounds, without shadow models.")
@click.option("--candidates", metavar="DATA", help="With --transcript: the data set whose examples are scored.")
@click.option("--client", default="", help="With --transcript: the one to judge. [default: each]")
@click.option("--local-steps", type=int, default=0, help="With --transcript: of its clients, each of size --lr.")
@click.option("--raw", is_flag=True, help="With --transcript: the network gets inputs as they are.")
@click.pass_context
def membership(
    context: click.Context,
    out: str | None,
    resume: str | None,
    jobs: int,
    scores: str | None,
    score_is: str,
    checkpoint: str | None,
    members: str,
    nonmembers: str,
    transcript: str | None,
    candidates: str | None,
    client: str,
    local_steps: int,
    raw: bool,
    **options: Any,
) -> None:
    """Train shadow models as the target is trained, attack each of them, and report how well members are told.

    \b
    gradwire membership --data fashion_mnist:train=4000 --model lenet --scheme none --scheme topk:ratio=0.01
    gradwire membership --attack lira --attack cosine --watched 10 --canaries mislabelled:100
    gradwire membership --data people.csv --target income --epochs 60
    gradwire membership --scores scores.csv --score-is loss
    gradwire membership --checkpoint model.pt --model lenet --data mnist --members mine.txt --nonmembers test
    """
    if scores:
        from gradwire.studies.membership import judge_file

        only(context, "--scores", ("scores", "score_is", "out", "confidence", "seed"))
        return outcome(judge_file(scores, score_is, out, options["confidence"], options["seed"]))
    if transcript:
        return _recorded(transcript, candidates, client, local_steps, out, options | {"standardised": not raw})
    from gradwire.studies.membership import MembershipSettings, judge_model, run_membership

    options["attacks"] = options["attacks"] or None
    settings = MembershipSettings(**options)
    with progress_bar() as progress:
        if checkpoint:
            shadows = settings.shadows if given(context, "shadows") else 0
            folder = judge_model(checkpoint, members, nonmembers, settings, shadows, out, resume, progress)
        else:
            folder = run_membership(settings, out, resume, jobs, progress)
    return outcome(folder)


def _recorded(
    transcript: str, candidates: str | None, client: str, local_steps: int, out: str | None, options: Mapping[str, Any]
) -> None:
    """Score candidates by recorded rounds, and show the likeliest."""
    from gradwire.studies.recorded_membership import likeliest, membership_of_recording
    from gradwire.wire.view import LocalWork

    if not candidates:
        raise GradwireError("--transcript wants --candidates DATA, whose examples are to be scored")
    work = LocalWork(local_steps, lr=options["lr"]) if local_steps else None
    how = {name: options[name] for name in ("model", "attacks", "seed", "device", "standardised")}
    folder = membership_of_recording(transcript, candidates, client=client, work=work, out=out, **how)
    table = figures("likeliest members", "attack", "knowledge", "client", "candidates", words=("attack", "client"))
    for row in likeliest(folder):
        table.add_row(*row)
    show(table, f"scores: {folder}")


@click.command()
@settings_options("gradwire.studies.epsilon.settings:EpsilonSettings")
def epsilon(out: str | None, **options: object) -> None:
    """Prove how private training is at most: canaries in every round, beside the ε that a scheme claims.

    \b
    gradwire epsilon --data digits --model mlp
    gradwire epsilon --data fashion_mnist:train=800 --model mlp:hidden=16 --clients 8 --canary dirac:1000
    gradwire epsilon --scheme dpsgd:noise=20 --epsilon 2 --adjacency zero-out
    """
    from gradwire.studies.epsilon import EpsilonSettings, run_epsilon

    settings = EpsilonSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_epsilon(settings, out, progress)
    outcome(folder)
