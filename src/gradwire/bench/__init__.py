"""Benchmarks: medians of repeated runs, ratios of what ran in one process, sizes of what was really serialised."""
