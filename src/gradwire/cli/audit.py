"""gradwire audit: attack one round's updates; gradwire membership: who was in the training set?"""

import click

from gradwire.cli.show import figures, outcome, progress_bar, recorded, settings_options, show
from gradwire.errors import GradwireError

SCHEMES = "Specs of schemes. [default: none, powersgd and topk at ranks 1, 2, 4, 8]"
RAW = "Whether the network begins with the data's mean and deviation. [default: standardised]"


@click.command()
@settings_options("gradwire.studies.audit_settings:AuditSettings", omit=("standardised",), schemes=SCHEMES)
@click.option("--standardised/--raw", default=True, help=RAW)
@click.option("--resume", metavar="DIR", help="Go on with the audit in this folder, given the same options.")
@click.option("--transcript", metavar="FILE", help="Attack a round that was recorded, not one made for it.")
@click.option("--client", default="", help="With --transcript: the victim. [default: who recorded, or the first]")
@click.option("--round", "number", type=int, help="With --transcript: its number. [default: the last]")
@click.option(
    "--label", "known", type=int, multiple=True, help="With --transcript: of each example. [default: inferred]"
)
def audit(
    out: str | None,
    resume: str | None,
    schemes: tuple[str, ...],
    transcript: str | None,
    known: tuple[int, ...],
    client: str,
    number: int | None,
    **options: object,
) -> None:
    """Attack one round's updates, for each scheme, and report what leaked beside what it cost in bytes."""
    from gradwire.studies import AuditSettings, audit_recording
    from gradwire.studies import audit as run_audit
    from gradwire.studies.recorded import told_work

    if schemes:
        options["schemes"] = schemes
    work = told_work(options) if transcript else None
    settings = AuditSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        if transcript:
            folder = audit_recording(
                transcript, settings, known, out, progress, client=client, number=number, work=work
            )
        else:
            folder = run_audit(settings, out, progress, resume)
    (recorded if transcript else outcome)(folder)


@click.command()
@settings_options("gradwire.studies.membership.settings:MembershipSettings")
@click.option("--jobs", default=1, show_default=True, help="Shadow batches at a time, each a process with one thread.")
@click.option("--resume", metavar="DIR", help="Go on with the run in this folder: finished models stay.")
@click.option("--transcript", metavar="FILE", help="Score candidates by recorded rounds, without shadow models.")
@click.option("--candidates", metavar="DATA", help="With --transcript: the data set whose examples are scored.")
@click.option("--client", default="", help="With --transcript: the one to judge. [default: each]")
@click.option("--local-steps", type=int, default=0, help="With --transcript: of its clients, each of size --lr.")
@click.option("--raw", is_flag=True, help="With --transcript: the network gets inputs as they are.")
def membership(
    out: str | None,
    resume: str | None,
    jobs: int,
    transcript: str | None,
    candidates: str | None,
    client: str,
    local_steps: int,
    raw: bool,
    **options: object,
) -> None:
    """Train shadow models as the target is trained, attack each of them, and report how well members are told.

    \b
    gradwire membership --data fashion_mnist:train=4000 --model lenet --scheme none --scheme topk:ratio=0.01
    gradwire membership --attack lira --attack cosine --watched 10 --canaries mislabelled:100
    gradwire membership --data people.csv --target income --epochs 60
    """
    from gradwire.studies.membership import MembershipSettings, run_membership

    if transcript:
        from gradwire.studies.recorded_membership import likeliest, membership_of_recording
        from gradwire.wire.view import LocalWork

        if not candidates:
            raise GradwireError("--transcript wants --candidates DATA, whose examples are to be scored")
        work = LocalWork(local_steps, lr=options["lr"]) if local_steps else None  # type: ignore[arg-type]
        how = {name: options[name] for name in ("model", "attacks", "seed", "device")} | {"standardised": not raw}
        folder = membership_of_recording(transcript, candidates, client=client, work=work, out=out, **how)  # type: ignore[arg-type]
        table = figures("likeliest members", "attack", "knowledge", "client", "candidates", words=("attack", "client"))
        for row in likeliest(folder):
            table.add_row(*row)
        show(table, f"scores: {folder}")
        return
    options["attacks"] = options["attacks"] or None
    settings = MembershipSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_membership(settings, out, resume, jobs, progress)
    outcome(folder)
