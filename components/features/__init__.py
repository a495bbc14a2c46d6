"""Factors from bars: a library of declared expressions, their normalisation, and the table that models learn
from.
"""
