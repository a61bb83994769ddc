"""Benchmarks: ``python -m benchmarks.compare``, from the repository's root. See README.md."""
