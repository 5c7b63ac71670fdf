"""Scenes with exact ground truth, made on the spot: for the demo, the tests and the benchmarks."""
