"""Settings of the sources beyond plain files: services that are asked, a Qlib folder, a Wind terminal."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class FetchSettings(Section):
    """How a source beyond files is asked.

    What it answered is kept in a file, so that a run repeats until it is fetched anew.
    """

    attempts: int = Field(
        4,
        ge=1,
        le=20,
        description="times that one question is asked when the network or a rate limit refuses it",
    )
    wait_s: float = Field(
        2.0, ge=0, description="pause before the second attempt; each further one waits twice as long"
    )
    timeout_s: float = Field(30.0, gt=0, description="longest wait for one answer")


class YahooSettings(Section):
    """Yahoo Finance, through yfinance. All periods but 4h (Yahoo keeps 730 days of hours, 60 of quarters of
    an hour, a few of minutes).
    """

    adjusted: bool = Field(
        True,
        description=(
            "prices adjusted for splits and dividends as known at the fetch; false: for splits only, as Yahoo"
            " always does"
        ),
    )
    round_the_clock: bool = Field(
        False,
        description=(
            "daily bars last from midnight to midnight UTC (coins, in their zone UTC) instead of one session"
            " of the exchange"
        ),
    )


class CcxtSettings(Section):
    """A crypto exchange, through ccxt. Prices as traded; volume in the base currency."""

    exchange: str = Field("binance", description="the exchange's id in ccxt")
    page_bars: int = Field(500, ge=1, le=5000, description="bars asked for at once")


class QlibSettings(Section):
    """A Qlib data folder (market.path), read in its documented layout.

    Prices and volume are adjusted where the folder's are.
    """

    instruments: str = Field(
        "all", description="list of instruments; only bars inside a symbol's intervals there are taken"
    )
    adjusted: bool = Field(
        True,
        description=(
            "prices as stored; false: divided by the folder's $factor (volume times it), which gives them as"
            " traded"
        ),
    )
    frequency: str | None = Field(
        None,
        description="name of the calendar and of the bins; none: day, 240min, 60min, ... by the period",
    )


class WindSettings(Section):
    """A Wind terminal, through WindPy: daily bars of China A shares and their industry."""

    adjusted: Literal["none", "forward", "backward"] = Field(
        "backward",
        description=(
            "backward keeps the oldest price, so that later actions do not change history; forward the newest"
        ),
    )
    sector_id: str | None = Field(
        None,
        description=(
            "Wind's id of a sector whose members on the last day are loaded where market.symbols is none,"
            " such as a001010100000000 (all A shares)"
        ),
    )
    industry: str | None = Field(
        "industry_sw", description="Wind's indicator of the industry; none: no sectors"
    )
    industry_level: int = Field(1, ge=1, le=4, description="level of the industry's classification")
