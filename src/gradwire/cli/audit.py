"""gradwire audit: attack one round's updates, for each scheme."""

import click

from gradwire.cli.show import outcome, progress_bar, recorded, shared
from gradwire.cli.source import defaults

DEFAULT = defaults("gradwire.studies.audit_settings:AuditSettings")
ATTACK = "Such as iga:tv=1e-4,restarts=4 (see gradwire list). Repeatable."
SCHEMES = "Repeatable. [default: none, powersgd and topk at ranks 1, 2, 4, 8]"
CLIENTS = "Parties in the attacked round. [default: 1, or 2 for adversary client]"


@click.command()
@shared
@click.option("--scheme", "schemes", multiple=True, metavar="SPEC", help=SCHEMES)
@click.option(
    "--attack", "attacks", multiple=True, default=DEFAULT.attacks, show_default=True, metavar="SPEC", help=ATTACK
)
@click.option("--knowledge", default=DEFAULT.knowledge, show_default=True, help="naive, adaptive or both.")
@click.option("--adversary", default=DEFAULT.adversary, show_default=True, help="server, eavesdropper or client.")
@click.option("--samples", default=DEFAULT.samples, show_default=True, help="Victims.")
@click.option("--batch", default=DEFAULT.batch, show_default=True, help="Images a victim.")
@click.option("--clients", default=DEFAULT.clients, help=CLIENTS)
@click.option("--labels", default=DEFAULT.labels, show_default=True, help="known to the adversary, or inferred.")
@click.option("--standardised/--raw", default=DEFAULT.standardised, help="Whether the network scales its images.")
@click.option("--mode", default=DEFAULT.mode, show_default=True, help="How victims run the network: train or eval.")
@click.option("--public", default=DEFAULT.public, help="Images that the adversary has of its own. [default: none]")
@click.option("--trained-rounds", default=DEFAULT.trained_rounds, show_default=True, help="Training before it.")
@click.option("--trained-epochs", default=DEFAULT.trained_epochs, help="Local ones in it. [default: a victim's work]")
@click.option("--rounds", default=DEFAULT.rounds, show_default=True, help="In a row, for --attack rounds.")
@click.option("--local-steps", default=DEFAULT.local_steps, help="Of SGD, for --attack fedavg. [default: a gradient]")
@click.option("--local-batch", default=DEFAULT.local_batch, help="Images a local step. [default: the victim's all]")
@click.option("--lr", default=DEFAULT.lr, show_default=True, help="Of local steps, and between several rounds.")
@click.option("--weight-decay", default=DEFAULT.weight_decay, show_default=True, help="In what victims send.")
@click.option("--split", default=DEFAULT.split, show_default=True, help="Where victims come from: train or test.")
@click.option("--chunk", default=DEFAULT.chunk, help="Victims attacked at a time. [default: chosen by memory]")
@click.option("--resume", metavar="DIR", help="Go on with the audit in this folder, given the same options.")
@click.option("--transcript", metavar="FILE", help="Attack a step that a DDP hook recorded, not one made for it.")
@click.option("--label", "known", type=int, multiple=True, help="With --transcript: of each image. [default: inferred]")
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
    if transcript:
        with progress_bar() as progress:
            folder = audit_recording(transcript, settings, known, out, progress)
        recorded(folder)
        return
    with progress_bar() as progress:
        folder = run_audit(settings, out, progress, resume)
    outcome(folder)
