"""The ServerApp: a strategy of Flower's over a scheme's rounds."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp, strategy

from gradwire.integrations.flower import SchemeGrid, run
from quickstart.task import network

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say what it cost."""
    config = context.run_config
    grid = SchemeGrid(
        grid,
        config["scheme"],
        model=network(config["model"]),
        weighted_by="num-examples" if config["weighted"] else None,
        lr=config["lr"] if config["single"] else None,
        record=config["record"] or None,
    )
    options = {"proximal_mu": 0.1} if config["strategy"] == "FedProx" else {}
    chosen = getattr(strategy, config["strategy"])(
        fraction_train=config["fraction-train"],
        fraction_evaluate=config["fraction-evaluate"],
        min_available_nodes=config["nodes"],
        **options,
    )
    start = ArrayRecord(grid.model.state_dict())
    result = run(chosen, grid, start, num_rounds=config["num-server-rounds"], timeout=config["round-timeout"])
    up, down = grid.transcript.bytes_up(), grid.transcript.bytes_down()
    print(f"{config['scheme']}: {up} bytes up, {down} bytes down beside the model; {result.evaluate_metrics_clientapp}")
    if config["out"]:
        torch.save(result.arrays.to_torch_state_dict(), Path(config["out"]))
