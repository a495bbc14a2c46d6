"""The 158 factors of Qlib's Alpha158: 9 of the bar, 4 prices, and 29 kinds over windows of 5, 10, 20, 30 and
60 bars.

`source` names Qlib's factor. Windows count the symbol's own bars; Qlib counts days of its calendar and fills
short windows with what it has, ours are null until they are complete. A denominator of 0 (flat bar, no
volume, no move) is null here; Qlib adds 1e-12 to it.
"""

import polars as pl

from components.features import kernels as k
from components.features import nested_windows as n
from components.features.library.declare import Factor, Measure, c, share

GROUP = "alpha158"
WINDOWS = (5, 10, 20, 30, 60)


def _qlib(name: str) -> str:
    return f"Yang et al. 2020, Qlib Alpha158 {name}"


def _family(kind: str, qlib: str, further_bars: int, expression, scope: str = "row") -> tuple[Factor, ...]:
    """One factor a window: `expression` takes the window's bars; it reads `further_bars` more."""
    return tuple(
        Factor(f"{GROUP}_{kind}_{d}", GROUP, d + further_bars, expression(d), _qlib(f"{qlib}{d}"), scope)
        for d in WINDOWS
    )


def _of(measure: str, field: str, bars: int) -> pl.Expr:
    """The field of a measure of nested windows that belongs to the window of `bars`."""
    return c(measure).struct.field(f"{field}_{bars}")


MEASURES = (
    Measure("close_change", "row", c("close") - c("close_before")),
    Measure("volume_before", "symbol", k.lag(c("volume"), 1)),
    Measure("volume_change", "row", c("volume") - c("volume_before")),
    Measure("close_ratio", "row", c("close") / c("close_before")),
    Measure("log_volume_plus_one", "row", (c("volume") + 1).log()),
    Measure("log_volume_ratio_plus_one", "row", (share(c("volume"), c("volume_before")) + 1).log()),
    Measure("moved_volume", "row", (c("close_ratio") - 1).abs() * c("volume")),
    # Windows of 5, 10, 20, 30 and 60 bars in one pass, a Struct each.
    Measure("close_lines", "symbol", n.lines(c("close"), WINDOWS)),
    Measure("close_quantiles", "symbol", n.quantiles(c("close"), WINDOWS, 0.2, 0.8)),
    Measure("close_ranks", "symbol", n.ranks(c("close"), WINDOWS)),
    Measure("extremes", "symbol", n.extremes(c("high"), c("low"), WINDOWS)),
    Measure(
        "close_volume_correlations", "symbol", n.correlations(c("close"), c("log_volume_plus_one"), WINDOWS)
    ),
    Measure(
        "ratio_correlations",
        "symbol",
        n.correlations(c("close_ratio"), c("log_volume_ratio_plus_one"), WINDOWS),
    ),
    Measure("close_signs", "symbol", n.signs(c("close_change"), WINDOWS)),
    Measure("close_gains", "symbol", n.gains(c("close_change"), WINDOWS)),
    Measure("volume_gains", "symbol", n.gains(c("volume_change"), WINDOWS)),
    Measure("volume_moments", "symbol", n.moments(c("volume"), WINDOWS)),
    Measure("moved_volume_moments", "symbol", n.moments(c("moved_volume"), WINDOWS)),
)

FACTORS = (
    # The bar: body, length, shadows, and where it closes; against the open or against the bar's length.
    Factor("alpha158_kmid", GROUP, 1, (c("close") - c("open")) / c("open"), _qlib("KMID"), "row"),
    Factor("alpha158_klen", GROUP, 1, c("bar_span") / c("open"), _qlib("KLEN"), "row"),
    Factor("alpha158_kmid2", GROUP, 1, share(c("close") - c("open"), c("bar_span")), _qlib("KMID2"), "row"),
    Factor("alpha158_kup", GROUP, 1, (c("high") - c("body_top")) / c("open"), _qlib("KUP"), "row"),
    Factor("alpha158_kup2", GROUP, 1, share(c("high") - c("body_top"), c("bar_span")), _qlib("KUP2"), "row"),
    Factor("alpha158_klow", GROUP, 1, (c("body_bottom") - c("low")) / c("open"), _qlib("KLOW"), "row"),
    Factor(
        "alpha158_klow2", GROUP, 1, share(c("body_bottom") - c("low"), c("bar_span")), _qlib("KLOW2"), "row"
    ),
    Factor(
        "alpha158_ksft", GROUP, 1, (2 * c("close") - c("high") - c("low")) / c("open"), _qlib("KSFT"), "row"
    ),
    Factor(
        "alpha158_ksft2",
        GROUP,
        1,
        share(2 * c("close") - c("high") - c("low"), c("bar_span")),
        _qlib("KSFT2"),
        "row",
    ),
    # Prices against the close.
    Factor("alpha158_open_0", GROUP, 1, c("open") / c("close"), _qlib("OPEN0"), "row"),
    Factor("alpha158_high_0", GROUP, 1, c("high") / c("close"), _qlib("HIGH0"), "row"),
    Factor("alpha158_low_0", GROUP, 1, c("low") / c("close"), _qlib("LOW0"), "row"),
    Factor("alpha158_vwap_0", GROUP, 1, c("vwap") / c("close"), _qlib("VWAP0"), "row"),
    # Level, spread and line of the close.
    *_family("roc", "ROC", 1, lambda d: k.lag(c("close"), d) / c("close"), "symbol"),
    *_family("ma", "MA", 0, lambda d: _of("close_lines", "mean", d) / c("close")),
    *_family("std", "STD", 0, lambda d: _of("close_lines", "deviation", d) / c("close")),
    *_family("beta", "BETA", 0, lambda d: _of("close_lines", "slope", d) / c("close")),
    *_family("rsqr", "RSQR", 0, lambda d: _of("close_lines", "rsquare", d)),
    *_family("resi", "RESI", 0, lambda d: _of("close_lines", "residual", d) / c("close")),
    # Extremes, quantiles and ranks.
    *_family("max", "MAX", 0, lambda d: _of("extremes", "highest", d) / c("close")),
    *_family("min", "MIN", 0, lambda d: _of("extremes", "lowest", d) / c("close")),
    *_family("qtlu", "QTLU", 0, lambda d: _of("close_quantiles", "upper", d) / c("close")),
    *_family("qtld", "QTLD", 0, lambda d: _of("close_quantiles", "lower", d) / c("close")),
    *_family("rank", "RANK", 0, lambda d: _of("close_ranks", "rank", d)),
    *_family(
        "rsv",
        "RSV",
        0,
        lambda d: share(
            c("close") - _of("extremes", "lowest", d),
            _of("extremes", "highest", d) - _of("extremes", "lowest", d),
        ),
    ),
    *_family("imax", "IMAX", 0, lambda d: (d - _of("extremes", "since_highest", d)) / d),
    *_family("imin", "IMIN", 0, lambda d: (d - _of("extremes", "since_lowest", d)) / d),
    *_family(
        "imxd",
        "IMXD",
        0,
        lambda d: (_of("extremes", "since_lowest", d) - _of("extremes", "since_highest", d)) / d,
    ),
    # Price and volume together.
    *_family("corr", "CORR", 0, lambda d: _of("close_volume_correlations", "correlation", d)),
    *_family("cord", "CORD", 1, lambda d: _of("ratio_correlations", "correlation", d)),
    # Rises and falls.
    *_family("cntp", "CNTP", 1, lambda d: _of("close_signs", "rises", d)),
    *_family("cntn", "CNTN", 1, lambda d: _of("close_signs", "falls", d)),
    *_family("cntd", "CNTD", 1, lambda d: _of("close_signs", "rises", d) - _of("close_signs", "falls", d)),
    *_family("sump", "SUMP", 1, lambda d: _of("close_gains", "gain", d)),
    *_family("sumn", "SUMN", 1, lambda d: 1 - _of("close_gains", "gain", d)),
    *_family("sumd", "SUMD", 1, lambda d: 2 * _of("close_gains", "gain", d) - 1),
    # Volume.
    *_family("vma", "VMA", 0, lambda d: share(_of("volume_moments", "mean", d), c("volume"))),
    *_family("vstd", "VSTD", 0, lambda d: share(_of("volume_moments", "deviation", d), c("volume"))),
    *_family(
        "wvma",
        "WVMA",
        1,
        lambda d: share(_of("moved_volume_moments", "deviation", d), _of("moved_volume_moments", "mean", d)),
    ),
    *_family("vsump", "VSUMP", 1, lambda d: _of("volume_gains", "gain", d)),
    *_family("vsumn", "VSUMN", 1, lambda d: 1 - _of("volume_gains", "gain", d)),
    *_family("vsumd", "VSUMD", 1, lambda d: 2 * _of("volume_gains", "gain", d) - 1),
)
