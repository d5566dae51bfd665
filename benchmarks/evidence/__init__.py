"""The study of docs/evidence.md: does a search in the supernet find better detectors?

`settings` reads what is to be run, `plan` says in which order, `execute` does one run, `runner` does all that
are missing, side by side, and `lines` keeps the raw numbers. `python -m benchmarks.evidence --help`.
"""
