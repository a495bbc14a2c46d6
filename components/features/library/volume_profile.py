"""Where the volume of the last 60 bars was traded: point of control, value area, and the nearest nodes of
high and low volume.
"""

import polars as pl

from components.features import profile_windows
from components.features.library.declare import Factor, Measure, c

GROUP = "volume_profile"
BARS, SHELVES, VALUE_SHARE = 60, 24, 0.7


def _field(name: str) -> pl.Expr:
    return c("profile").struct.field(name)


MEASURES = (
    Measure(
        "profile",
        "symbol",
        profile_windows.volume_profile(
            c("log_high"), c("log_low"), c("log_close"), c("volume"), BARS, SHELVES, VALUE_SHARE
        ),
    ),
)

FACTORS = tuple(
    Factor(
        f"profile_{name}_{BARS}",
        GROUP,
        BARS,
        _field(name),
        f"Steidlmayer 1984, market profile by volume; {meaning}",
        "row",
    )
    for name, meaning in (
        ("control", "log distance of the close to the point of control"),
        ("value_high", "log distance of the close to the top of the value area of 70 % of the volume"),
        ("value_low", "log distance of the close to the bottom of the value area of 70 % of the volume"),
        ("high_node", "log distance of the close to the nearest local maximum of volume"),
        ("low_node", "log distance of the close to the nearest local minimum of volume"),
        ("below", "share of the volume traded below the close"),
    )
)
