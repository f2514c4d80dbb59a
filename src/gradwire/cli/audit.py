"""gradwire audit: attack one round's updates; gradwire membership: who was in the training set?; gradwire epsilon."""

from typing import Any

import click

from gradwire.cli.show import given, only, outcome, progress_bar, recorded, settings_options

SCHEMES = "Specs of schemes. [default: none, powersgd and topk at ranks 1, 2, 4, 8]"
KINDS = ("score", "logit", "confidence", "loss", "probabilities", "class")
MEMBERS = "With --checkpoint: what it was trained on, all of the split or the examples numbered in a file."
RAW = "Whether the network begins with the data's mean and deviation. [default: standardised]"


@click.command()
@settings_options("gradwire.studies.audit_settings:AuditSettings", omit=("standardised",), schemes=SCHEMES)
@click.option("--standardised/--raw", default=True, help=RAW)
@click.option("--resume", metavar="DIR", help="Go on with the audit in this folder, given the same options.")
@click.option("--transcript", metavar="FILE", help="Attack a step that a DDP hook recorded, not one made for it.")
@click.option(
    "--label", "known", type=int, multiple=True, help="With --transcript: of each example. [default: inferred]"
)
def audit(
    out: str | None,
    resume: str | None,
    schemes: tuple[str, ...],
    transcript: str | None,
    known: tuple[int, ...],
    **options: object,
) -> None:
    """Attack one round's updates, for each scheme, and report what leaked beside what it cost in bytes."""
    from gradwire.studies import AuditSettings, audit_recording
    from gradwire.studies import audit as run_audit

    if schemes:
        options["schemes"] = schemes
    settings = AuditSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        if settings.adversary == "active":
            from gradwire.studies.active import active_audit

            folder = active_audit(settings, out, progress)
        elif transcript:
            folder = audit_recording(transcript, settings, known, out, progress)
        else:
            folder = run_audit(settings, out, progress, resume)
    (recorded if transcript else outcome)(folder)


@click.command()
@settings_options("gradwire.studies.membership.settings:MembershipSettings")
@click.option("--jobs", default=1, show_default=True, help="Shadow batches at a time, each a process with one thread.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder: finished models stay.")
@click.option("--scores", metavar="FILE", help="Judge these scores (CSV, Parquet, npz), and train nothing.")
@click.option("--score-is", default="score", show_default=True, type=click.Choice(KINDS), help="What --scores holds.")
@click.option("--checkpoint", metavar="FILE", help="Judge this model: parameters of --model, as safetensors or .pt.")
@click.option("--members", default="train", show_default=True, metavar="train|FILE", help=MEMBERS)
@click.option("--nonmembers", default="test", show_default=True, metavar="test|FILE", help="The same of non-members.")
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
    from gradwire.studies.membership import MembershipSettings, judge_file, judge_model, run_membership

    if scores:
        only(context, "--scores", ("scores", "score_is", "out", "confidence", "seed"))
        outcome(judge_file(scores, score_is, out, options["confidence"], options["seed"]))
        return
    options["attacks"] = options["attacks"] or None
    settings = MembershipSettings(**options)
    if checkpoint:
        asked = given(context, "shadows")
        with progress_bar() as progress:
            shadows = settings.shadows if asked else 0
            folder = judge_model(checkpoint, members, nonmembers, settings, shadows, out, resume, progress)
        outcome(folder)
        return
    with progress_bar() as progress:
        folder = run_membership(settings, out, resume, jobs, progress)
    outcome(folder)


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
