"""Measurements beside other programs: `python -m benchmarks`, one script a claim."""
