"""Processes: what is true of each one that we start. `imports`: where it finds modules; `endings`: how it
ends; `locks`: what only one of them may do at a time.

Ground floor: imports only the contracts. All that differs between operating systems stands here.
"""
