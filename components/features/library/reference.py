"""Each symbol against one named symbol, `features.reference_symbol` (for crypto:

Bitcoin); the panel's column `is_reference` marks its bars.
"""

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c

GROUP = "reference"

MEASURES = (
    Measure("reference_return", "market_mean", c("log_return").filter(c("is_reference")).first()),
    Measure(
        "reference_beta",
        "symbol",
        k.ratio(
            k.covariance(c("log_return"), c("reference_return"), 60),
            k.covariance(c("reference_return"), c("reference_return"), 60),
        ),
    ),
    Measure("reference_residual", "row", c("log_return") - c("reference_beta") * c("reference_return")),
)

FACTORS = (
    Factor(
        "reference_beta_60",
        GROUP,
        61,
        c("reference_beta"),
        "Sharpe 1964, beta to the reference symbol",
        "row",
    ),
    Factor(
        "reference_correlation_60",
        GROUP,
        61,
        k.correlation(c("log_return"), c("reference_return"), 60),
        "correlation with the reference symbol",
    ),
    Factor(
        "reference_residual_20",
        GROUP,
        80,
        k.total(c("reference_residual"), 20),
        "Blitz, Huij and Martens 2011; return beyond the reference symbol's",
    ),
    Factor(
        "reference_residual_1",
        GROUP,
        61,
        c("reference_residual"),
        "Lo and MacKinlay 1990; the bar's return beyond what the reference symbol's move explains",
        "row",
    ),
)
