"""The EVIDENCE table: one row a fold and input, with what each stage found inside the fold's training bars,
the decision and the reason.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from components.contracts import Table
from components.selection.config import Settings
from components.selection.eras import METHODS

FIGURES = (
    "mutual_information",
    "importance_share",
    "shap_share",
    "path_order",
    "elimination_rank",
    "gene_frequency",
)
TEXT = ("fold", "factor", "group", "decision", "reason", "cluster")
WHOLE = ("eras", "half_life_bars", "rolling_list_place")
NUMBERS = (
    "coverage",
    "vif",
    "ic",
    "ic_t",
    "ic_q",
    "rolling_ic",
    "rolling_ic_t",
    "steady_share",
    *FIGURES,
    "permutation_loss",
    "permutation_std",
    "permutation_low",
    "permutation_high",
    *(f"votes_{method}" for method in METHODS),
    "vote_share",
    "appearance",
    "appearance_p",
    "appearance_q",
)
EVIDENCE = Table(
    name="selection_evidence",
    version=2,
    columns={
        **dict.fromkeys(TEXT, pl.String()),
        **dict.fromkeys(WHOLE, pl.Int64()),
        **dict.fromkeys(NUMBERS, pl.Float64()),
    },
    key=("fold", "factor"),
)
CHOSEN = ("core", "plus", "filled")
# Share of eras in which the IC of a core input has the sign of the whole window.
STEADY_DIRECTION = 0.6


def reason_of(row: Mapping[str, Any], settings: Settings, chance: float) -> str:
    """The decision of a row of EVIDENCE in a few words."""
    chosen, seen = settings.filter, f"appears in {row['appearance']:.0%} of {row['eras']} eras"
    if row["decision"] == "no data":
        low = row["coverage"] < chosen.least_coverage
        return (
            f"{row['coverage']:.0%} of rows hold a value, {chosen.least_coverage:.0%} are needed"
            if low
            else "does not vary, or has too few values, in most eras"
        )
    if row["decision"] == "duplicate":
        return (
            f"correlates by more than {chosen.largest_correlation:g} with {row['cluster']}, whose IC is"
            " stronger"
        )
    if row["decision"] == "collinear":
        return f"the others explain it (VIF {row['vif']:.0f}, limit {chosen.largest_vif:g}); {seen}"
    if row["decision"] == "core":
        return f"{seen}, chance gives {chance:.0%}; q = {row['appearance_q']:.3f}"
    if row["decision"] == "plus":
        listed = (
            f"; number {row['rolling_list_place']} of the rolling-IC list"
            if row["rolling_list_place"]
            else ""
        )
        turning = row["steady_share"] is not None and row["steady_share"] < STEADY_DIRECTION
        lacking = "direction changes between eras" if turning else f"q = {row['appearance_q']:.2f}"
        return f"{seen}{listed}; not core: {lacking}"
    return f"taken to reach {settings.fewest_inputs} inputs; {seen}" if row["decision"] == "filled" else seen
