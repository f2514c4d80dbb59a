"""Reports of benchmarks."""

from gradwire.report.benches import costs, network, speeds

__all__ = ["costs", "network", "speeds"]
