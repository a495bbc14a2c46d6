"""What came of a moment after what an order would have cost: returns over milliseconds to seconds, and
whether they pay.
"""
