"""gradwire audit: attack one round's updates; gradwire membership: who was in the training set?"""

import click

from gradwire.cli.show import outcome, progress_bar, recorded, settings_options

SCHEMES = "Specs of schemes. [default: none, powersgd and topk at ranks 1, 2, 4, 8]"
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
def membership(out: str | None, resume: str | None, jobs: int, **options: object) -> None:
    """Train shadow models as the target is trained, attack each of them, and report how well members are told.

    \b
    gradwire membership --data fashion_mnist:train=4000 --model lenet --scheme none --scheme topk:ratio=0.01
    gradwire membership --attack lira --attack cosine --watched 10 --canaries mislabelled:100
    gradwire membership --data people.csv --target income --epochs 60
    """
    from gradwire.studies.membership import MembershipSettings, run_membership

    options["attacks"] = options["attacks"] or None
    settings = MembershipSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_membership(settings, out, resume, jobs, progress)
    outcome(folder)
