"""Tasks of a local run forked from a process that is warm: what many of them import it has imported once.

`tasks` is the run's side of it, `server` the process.
"""
