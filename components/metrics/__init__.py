"""Measures of predictions and portfolios.

Ground floor: imported by every stage; imports only the contracts.
"""

from components.metrics.calibration import calibration_slope, coverage, pinball_loss, reliability_table
from components.metrics.correlation import (
    ic_decay,
    ic_summary,
    information_coefficient,
    row_correlations,
    to_matrix,
)
from components.metrics.inference import (
    block_bootstrap_interval,
    degrees_of_freedom,
    fewest_values,
    half_width,
    long_run_variance,
    standard_error,
    t_value,
)
from components.metrics.performance import (
    bars_per_year,
    cost_share,
    hit_rate,
    horizon_adjusted_sharpe,
    information_ratio,
    max_drawdown,
    overlap_corrected_sharpe,
    performance_summary,
    sharpe_interval,
    sharpe_ratio,
)
from components.metrics.shift import (
    adjusted_p_values,
    effective_rows,
    ks_p_value,
    ks_to_sketch,
    psi_p_value,
    psi_to_sketch,
    quantile_sketch,
    stability_index,
)
from components.metrics.stability import population_stability_index

__all__ = [
    "adjusted_p_values",
    "bars_per_year",
    "block_bootstrap_interval",
    "calibration_slope",
    "cost_share",
    "coverage",
    "degrees_of_freedom",
    "effective_rows",
    "fewest_values",
    "half_width",
    "hit_rate",
    "horizon_adjusted_sharpe",
    "ic_decay",
    "ic_summary",
    "information_coefficient",
    "information_ratio",
    "ks_p_value",
    "ks_to_sketch",
    "long_run_variance",
    "max_drawdown",
    "overlap_corrected_sharpe",
    "performance_summary",
    "pinball_loss",
    "population_stability_index",
    "psi_p_value",
    "psi_to_sketch",
    "quantile_sketch",
    "reliability_table",
    "row_correlations",
    "sharpe_interval",
    "sharpe_ratio",
    "stability_index",
    "standard_error",
    "t_value",
    "to_matrix",
]
