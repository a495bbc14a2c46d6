"""Leak audit: proves on changed and cut-off data that neither factors nor labels use what was not known yet,
or names what does.
"""
