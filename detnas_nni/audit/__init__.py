"""`detnas audit`: how far a search can be trusted, by training some of its candidates on their own.

The parts: `selection` (which candidates), `plan` and `timing` (how many, and how long that takes), `running`
(the trainings, side by side), `journal` (what has ended), `figures` (the numbers, by `statistics` and
`bootstrap`), `verdict` (what they mean), `result` (audit.json) and `session` (the whole of it).
"""
