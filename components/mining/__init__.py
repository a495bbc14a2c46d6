"""Residual mining: symbolic regression on what the stack leaves unexplained; formulas that survive out of
sample become factors.
"""
