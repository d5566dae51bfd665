"""The study of docs/evidence.md: does a search in the supernet find better detectors?

`settings` reads what to run, `plan` says in which order, `execute` does one run, `runner` does all missing
ones, in parallel, and `lines` keeps the raw numbers. `python -m benchmarks.evidence --help`.
"""
