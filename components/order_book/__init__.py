"""Order books: what rests at which price, what an order would pay, whose turn it is.

One kernel for features, labels and replay.
"""
