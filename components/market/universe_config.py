"""Settings of the universe that can be traded: what a symbol must be at a bar to count in the verdict."""

from pydantic import Field

from components.settings import Section


class UniverseSettings(Section):
    """The universe that can be traded, as known at each bar. Nothing is asked for by default: then every row
    is in it.

    Models learn from all rows; figures, gates and sizes are those of the universe. Where several rules are
    set a symbol must keep all of them.
    """

    bars: int = Field(
        60,
        ge=1,
        description=(
            "bars, up to and including a row's own, over which traded value and share of traded bars are"
            " measured; since the symbol's first bar where that is later. A bar without a row counts as"
            " nothing traded"
        ),
    )
    min_traded_value: float | None = Field(
        None,
        gt=0,
        description=(
            "least mean traded value a bar (turnover: close times volume) in the money of the prices; none:"
            " not asked for"
        ),
    )
    most_traded_names: int | None = Field(
        None,
        ge=1,
        description="only the so many names of a bar with the largest traded value; none: not asked for",
    )
    most_traded_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "only this share of a bar's names, those with the largest traded value: 0.5 is the most traded"
            " half, whatever the currency; none: not asked for"
        ),
    )
    min_price: float | None = Field(
        None,
        gt=0,
        description=(
            "least close. On prices adjusted backwards it knows splits and dividends to come: ask for traded"
            " value there; none: not asked for"
        ),
    )
    min_traded_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="least share of the bars on which the symbol was traded; none: not asked for",
    )
    min_listed_bars: int | None = Field(
        None,
        ge=1,
        description="bars of the panel since the symbol's first, its own included; none: not asked for",
    )
