"""The newest bars once more through what answers live, held against what a backtest says of the same bars."""
