"""The annealed search: paths, which of them is taken, and the attack."""
