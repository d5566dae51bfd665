"""`detnas init`: an experiment's folder from the user's own data.

`look` reads the data and says what is in it, `problems` what is wrong with it; `derived` and `values` make
the config from it and the machine; `timing` measures a few real steps; `plan` says how long each step takes
and cuts the schedules to a time; `write` writes the folder; `experiment` puts them together.
"""
