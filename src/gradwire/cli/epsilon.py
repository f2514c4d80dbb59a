"""gradwire epsilon: what the wire proves of ε."""

import click

from gradwire.cli.show import outcome, progress_bar, settings_options


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
