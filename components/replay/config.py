"""Settings of the replay: how much is sent through again, and what is still the same."""

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """What may be lost or differ between the live path and the backtest of the same bars."""

    bars: int = Field(24, ge=1, description="newest bars that are replayed; 24 are a day of hourly ones")
    tolerance: float = Field(
        1e-3,
        gt=0,
        description=(
            "difference of two scores, as a share of the spread of scores within their bar, beyond which they"
            " are not the same; one such row fails the replay"
        ),
    )
    lost_share: float = Field(
        0.01, ge=0, lt=1, description="share of rows that may be missing on one side before the replay fails"
    )
