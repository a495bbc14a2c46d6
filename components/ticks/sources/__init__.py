"""Sources of order-book events, each a module with a function `read` (`protocol.py`), found by name
(`choice.py`).
"""
