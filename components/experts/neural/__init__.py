"""What all neural experts share: the data path, the heads, the losses, the training engine and the expert
around a network.
"""
