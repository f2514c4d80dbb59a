"""Benchmarks: what things cost, in seconds and bytes, beside what else is installed."""
