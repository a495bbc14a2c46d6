"""Fusion: slow tables (fundamentals, on-chain, macro, open interest, funding) joined to the panel's bars on
the moment they became known.
"""
