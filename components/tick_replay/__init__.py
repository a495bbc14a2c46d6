"""Recorded events once more with orders of our own among them: what of a paper profit can be had."""
