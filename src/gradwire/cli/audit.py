"""gradwire audit: attack one round's updates."""

from functools import partial

import click

from gradwire.cli.show import answers, given, only, outcome, progress_bar, settings_options, show
from gradwire.errors import GradwireError

SCHEMES = "Specs of schemes. [default: none, powersgd and topk at ranks 1 and 4, signsgd]"
RAW = "Whether the network begins with the data's mean and deviation. [default: standardised]"

NAMES = {"number": "round", "known": "label"}
OF_RECORDINGS = (
    *("transcript", "client", "number", "known", "truth", "out", "data", "target", "model", "loss", "seed", "device"),
    *("attacks", "knowledge", "batch", "standardised", "mode", "public", "rounds"),
    *("local_steps", "local_batch", "lr", "weight_decay"),
)
"""What an audit of a recording asks for; the rest is recorded."""


@click.command()
@settings_options("gradwire.studies.audit_settings:AuditSettings", omit=("standardised",), schemes=SCHEMES)
@click.option("--standardised/--raw", default=True, help=RAW)
@click.option("--resume", metavar="DIR", help="Go on with the audit in this folder, given the same options.")
@click.option("--transcript", metavar="FILE", help="Attack a round that was recorded, not one made for it.")
@click.option("--client", default="", help="With --transcript: the victim. [default: who recorded, or the first]")
@click.option("--round", "number", type=int, help="With --transcript: its number. [default: the last]")
@click.option("--truth", metavar="FILE", help="With --transcript: the batch, by torch.save, to score answers by.")
@click.option(
    "--label", "known", type=int, multiple=True, help="With --transcript: of each example. [default: inferred]"
)
@click.option(
    "--against", default="", metavar="SPEC", help="With --adversary active: lie to flower-secaggplus as well."
)
@click.pass_context
def audit(
    context: click.Context,
    out: str | None,
    resume: str | None,
    schemes: tuple[str, ...],
    transcript: str | None,
    known: tuple[int, ...],
    client: str,
    number: int | None,
    truth: str | None,
    against: str,
    **options: object,
) -> None:
    """Attack one round's updates, for each scheme, and report what leaked beside what it cost in bytes."""
    from gradwire.studies import AuditSettings, audit_recording
    from gradwire.studies import audit as run_audit
    from gradwire.studies.recorded import told_work

    if transcript:
        only(context, "--transcript", OF_RECORDINGS)
    elif without := next((name for name in ("client", "number", "truth", "known") if given(context, name)), None):
        raise GradwireError(f"--{NAMES.get(without, without)} is of a recording; name it with --transcript")
    if schemes:
        options["schemes"] = schemes
    work = told_work(options) if transcript else None
    told = {name: options[name] for name in ("batch", "mode") if given(context, name)}
    if transcript and work is None and options["rounds"] == 1 and given(context, "lr"):
        raise GradwireError("--lr is of --local-steps or of several --rounds; leave it out")
    settings = AuditSettings(**options)  # type: ignore[arg-type]
    if against and settings.adversary != "active":
        raise GradwireError(f"--against is {against!r}; it is of --adversary active")
    with progress_bar() as progress:
        if settings.adversary == "active":
            from gradwire.studies.active import active_audit

            folder = active_audit(settings, out, progress, against)
        elif transcript:
            folder = audit_recording(
                transcript,
                settings,
                known,
                out,
                progress,
                client=client,
                number=number,
                work=work,
                truth=truth,
                told=told,
            )
        else:
            folder = run_audit(settings, out, progress, resume, partial(click.echo, err=True))
    outcome(folder)
    if against:
        from gradwire import report

        show(report.checks(folder))
    if transcript:
        answers(folder)
