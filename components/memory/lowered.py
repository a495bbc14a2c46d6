"""What a person can change where a stage does not fit into memory."""

# By the beginning of a stage's name, the longest that fits.
OF_FACTORS = "leave out groups of factors (features.groups)"
LOWERED = {
    "features": OF_FACTORS,
    "audit": f"{OF_FACTORS}, rebuild windows only (audit.whole_history: false)",
    "materialise": OF_FACTORS,
    "training set": OF_FACTORS,
    "selection": OF_FACTORS,
    "train ": f"{OF_FACTORS}, choose fewer (selection.mode), or make the expert smaller (experts.overrides)",
    "drift reference": OF_FACTORS,
    "labels": "predict fewer horizons (labels.horizons)",
}
ROWS = "Give the run fewer symbols or bars (market.symbols, market.start)"


def what_to_lower(stage: str) -> str:
    """One sentence: which settings, and that more memory helps as well."""
    known = max((name for name in LOWERED if stage.startswith(name)), key=len, default=None)
    ways = ROWS if known is None else f"{ROWS}, {LOWERED[known]}"
    return f"{ways}; or give it more memory (on a cluster: cluster.resources)."
