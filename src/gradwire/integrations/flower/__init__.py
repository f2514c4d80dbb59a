"""Schemes within Flower's apps: a mod for the ClientApp, a grid for the ServerApp, and `run` to start a strategy.

>>> app = ClientApp()
>>> @app.train(mods=[SchemeMod("powersgd:rank=4")])
... def train(message, context): ...

>>> @server.main()
... def main(grid, context):
...     run(FedAvg(), SchemeGrid(grid, "powersgd:rank=4", model=Net()), initial_arrays, num_rounds=3)

What a client sends of its training is then the scheme's messages, and running statistics beside them. A scheme or a
strategy that would be something else over Flower is refused by name. Needs flwr (extra `flower`).
"""

from gradwire.integrations.flower.client import SchemeMod
from gradwire.integrations.flower.grid import SchemeGrid
from gradwire.integrations.flower.started import run
from gradwire.integrations.flower.steps import local_steps, scheme_network

__all__ = ["SchemeGrid", "SchemeMod", "local_steps", "run", "scheme_network"]
