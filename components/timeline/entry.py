"""The entry bar: what is decided at the close of a bar is traded at the next one, so a label begins there."""

ENTRY_LAG_BARS = 1


def label_reach(horizon: int) -> int:
    """Bars from a decision to the bar at which its label is known: the entry, then `horizon` bars."""
    return ENTRY_LAG_BARS + horizon
