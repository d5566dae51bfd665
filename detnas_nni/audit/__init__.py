"""`detnas audit`: how far a search can be trusted, by training some of its candidates on their own.

The parts: `plan` (which candidates, how many seeds) and `timing` (how long a training takes), `folder` (which
audit it belongs to), `running` (the trainings, in parallel), `journal` (what has ended), `figures` (the
numbers and what they mean, using `statistics` and `bootstrap`), `result` (audit.json) and `session` (the
whole audit).
"""
