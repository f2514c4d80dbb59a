"""Any scheme within Flower's apps: a mod for the ClientApp, a grid for the ServerApp; strategies stay as they are.

>>> app = ClientApp()
>>> @app.train(mods=[SchemeMod("powersgd:rank=4", parameters=names)])
... def train(message, context): ...

>>> @server.main()
... def main(grid, context):
...     FedAvg().start(SchemeGrid(grid, "powersgd:rank=4", parameters=names), initial_arrays, num_rounds=3)

What a client sends of its training is then the scheme's messages and nothing else. Needs flwr (extra `flower`).
"""

from gradwire.integrations.flower.client import SchemeMod
from gradwire.integrations.flower.grid import SchemeGrid

__all__ = ["SchemeGrid", "SchemeMod"]
