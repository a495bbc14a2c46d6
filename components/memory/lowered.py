"""What a person can change where a stage does not fit into memory."""

OF_FACTORS = "leave out groups of factors (features.groups)"
OF_TICK_FEATURES = "leave out groups of features (tick_features.groups)"
# By the beginning of a stage's name, the longest that fits.
LOWERED = {
    "features": OF_FACTORS,
    "audit": f"{OF_FACTORS}, rebuild windows only (audit.whole_history: false)",
    "materialise": OF_FACTORS,
    "training set": OF_FACTORS,
    "selection": OF_FACTORS,
    "train ": (
        "leave out groups of factors (features.groups, of ticks tick_features.groups), choose fewer"
        " (selection.mode), or make the expert smaller (experts.overrides)"
    ),
    "drift reference": OF_FACTORS,
    "labels": "predict fewer horizons (labels.horizons)",
    "tick features": OF_TICK_FEATURES,
    "tick features audit": "audit fewer sessions, or less of each (tick_features.audit.days and rows)",
    "tick training set": OF_TICK_FEATURES,
    "tick labels": "predict fewer horizons (tick_labels.horizons_ms)",
    "tick replay": (
        "take longer steps (tick_replay.step_seconds), compare fewer policies or latencies"
        " (tick_replay.policies, tick_replay.latency)"
    ),
}
# Stages that both lanes have are told of both.
ROWS = (
    "Give the run fewer symbols or bars (market.symbols, market.start; of ticks: ticks.symbols,"
    " ticks.sessions)"
)
ROWS_OF_TICKS = "Give the run fewer symbols or sessions (ticks.symbols, ticks.sessions)"


def what_to_lower(stage: str) -> str:
    """One sentence: which settings, and that more memory helps as well."""
    known = max((name for name in LOWERED if stage.startswith(name)), key=len, default=None)
    rows = ROWS_OF_TICKS if "tick" in stage else ROWS
    ways = rows if known is None else f"{rows}, {LOWERED[known]}"
    return f"{ways}; or give it more memory (on a cluster: cluster.resources)."
