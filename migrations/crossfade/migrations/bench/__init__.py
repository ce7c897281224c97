"""Benchmarks: each figure is a ratio against its own floor, measured interleaved in the same run."""
