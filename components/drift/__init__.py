"""Tells whether what is served still looks like what was learned from: reference, statistics, verdict and
report.
"""
