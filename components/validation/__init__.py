"""Judges every table before the next stage relies on it: stops at critical faults, quarantines rows with a
reason for each.
"""
