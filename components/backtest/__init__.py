"""Backtest: what scores would have earned after costs, and how good they were, window by window."""
