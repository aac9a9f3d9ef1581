"""Fuzzing is run by hand: pytest stays out, and needs no atheris."""

collect_ignore_glob = ["fuzz_*.py"]
