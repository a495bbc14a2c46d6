"""Experts: model families behind one protocol, the config leaf of each, and the walk-forward trainer."""
