"""The stages of the loop, one folder each, on a ground floor of contracts, settings, timeline, metrics and
progress.
"""
