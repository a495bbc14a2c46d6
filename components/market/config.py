"""Settings of the market: where bars come from, what their columns and clocks mean, and how a simulated
market is made.
"""

import re
from datetime import date, time
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, Field, field_validator, model_validator

from components.market.simulator_config import SimulatorSettings
from components.market.source_config import (
    CcxtSettings,
    FetchSettings,
    QlibSettings,
    WindSettings,
    YahooSettings,
)
from components.market.universe_config import UniverseSettings
from components.reading.config import CsvSettings, SourcePath, StampForm, StampUnit
from components.reading.stamps import Unit
from components.settings import Section
from components.timeline.periods import Period, is_daily

CONTRACT_COLUMNS = (
    "timestamp",
    "symbol",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "known_time",
    "sector",
    "vwap",
    "trades",
    "funding_rate",
    "open_interest",
    "borrow_bps",
    "market_cap",
    "exchange_ts",
    "ingest_ts",
    "price_limit",
)
SPARE_COLUMNS = ("open", "high", "low", "volume")
FETCHED = ("yahoo", "ccxt", "wind")


class SectorSettings(Section):
    """A Parquet or CSV file with the sector of each symbol over time, as intervals of days on which it was
    seen.
    """

    path: SourcePath = Field(
        description="file, or its address in S3 (s3://bucket/key); relative paths lie in the data folder"
    )
    symbol: str = Field("symbol", description="column of the symbol")
    sector: str = Field("sector", description="column of the sector's name")
    industry: str | None = Field(
        None, description="column of the industry's name, a finer cut than the sector; may be null"
    )
    industry_from: date | None = Field(
        None,
        description=(
            "first day on which industries were really recorded: a source that gives each interval its last"
            " industry back-fills it, so it counts as unknown before"
        ),
    )
    start: str = Field("first_seen", description="column of the first day of the interval")
    end: str = Field(
        "last_seen", description="column of the last day of the interval; a null means that it is still open"
    )
    valid: str | None = Field(None, description="boolean column; only rows where it is true are used")
    csv: CsvSettings = CsvSettings()
    timestamp_format: StampForm = None
    timestamp_unit: StampUnit = None
    lag_days: int = Field(1, ge=0, description="days after its date from which on a label counts as known")


class Settings(Section):
    """Source of the panel. Files keep their faults; the validation stage finds them."""

    source: Literal["simulator", "csv", "parquet", "yahoo", "ccxt", "qlib", "wind"] = Field(
        "simulator", description="where bars come from: the simulator, files, or a service"
    )
    path: SourcePath = Field(
        "",
        description=(
            "file, folder or glob; relative paths lie in the folder that ALPHALOOP_DATA names. Or the address"
            " of one in S3, such as s3://bucket/key; AWS_ENDPOINT_URL and other AWS_ variables say which S3"
        ),
    )
    columns: dict[str, str] = Field(
        {},
        description=(
            "name in the file of each column that is called otherwise there; an empty name leaves open, high,"
            " low or volume out"
        ),
    )
    csv: CsvSettings = CsvSettings()
    symbol_pattern: str | None = Field(
        None,
        description=(
            "files without a column of symbols: regular expression whose first group is the symbol in the"
            " file's"
            " name; none: the whole name, without .csv, .csv.gz or .parquet"
        ),
    )
    period: Period = Field("1d", description="length of a bar")
    stamp: Literal["session_date", "bar_open", "bar_close"] = Field(
        "bar_close", description="what the time in the file means"
    )
    timezone: str | None = Field(
        None, description="zone of stamps that carry none, such as America/New_York; session dates need none"
    )
    ambiguous: Literal["infer", "earliest", "latest", "raise"] = Field(
        "infer",
        description=(
            "local times that occur twice when clocks go back: told by the order of the rows, and where that"
            " leaves it open an error (infer), the first or the second of the two; raise: always an error"
        ),
    )
    timestamp_format: str | None = Field(
        None, description="strptime format of stamps in text; none: found, where no two forms fit"
    )
    timestamp_unit: Unit | None = Field(
        None,
        description=(
            "unit of stamps that are numbers: s, ms, us or ns since 1970, calendar for digits such as"
            " 20210104,"
            " excel for days of a spreadsheet; none: found by their size, row by row"
        ),
    )
    time_column: str | None = Field(
        None,
        description=(
            "column of the time of day, where date and time stand in two; none: bars within the day take a"
            " column"
            " called time where the dates have none"
        ),
    )
    exchange_timezone: str = Field("America/New_York", description="zone of session_open and session_close")
    session_open: time = Field(
        time(9, 30),
        description=(
            "local time at which a session begins; at or after session_close: the evening before its date"
        ),
    )
    session_close: time = Field(
        time(16, 0),
        description=(
            "local time at which a session's bar is complete, on its date; 00:00 is the midnight that ends it"
        ),
    )
    publication_lag_s: float = Field(
        0.0,
        ge=0,
        description="seconds from the end of a bar until we could have it; unused where known_time is mapped",
    )
    price_limit: float | dict[str, float] | None = Field(
        None,
        description=(
            "daily price limit, a share of the previous close such as 0.1, or a mapping of the beginning of a"
            " symbol to its limit (the longest that fits counts); none: the market has none, or the column"
            " `price_limit` says it row by row"
        ),
    )
    as_of: AwareDatetime | None = Field(
        None,
        description=(
            "moment with its zone, such as 2026-01-31T22:00:00Z, as of which the source counts as read: bars"
            " that end or are published later are set aside; none: when it is read. Simulated bars all pass"
        ),
    )
    sectors: SectorSettings | None = Field(
        None,
        description=(
            "sector of each symbol over time; none: the column `sector` where the file has one, else unknown"
        ),
    )
    symbols: list[str] | None = Field(None, min_length=1, description="symbols to load; none: all")
    start: date | None = Field(None, description="first day (UTC, by the end of the bar)")
    end: date | None = Field(None, description="last day (UTC, by the end of the bar)")
    min_coverage: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the bars between its first and last below which a symbol is named in a warning",
    )
    universe: UniverseSettings = UniverseSettings()
    fetch: FetchSettings = FetchSettings()
    yahoo: YahooSettings = YahooSettings()
    ccxt: CcxtSettings = CcxtSettings()
    qlib: QlibSettings = QlibSettings()
    wind: WindSettings = WindSettings()
    planted_ic: float = Field(
        0.08,
        ge=0,
        le=0.5,
        description=(
            "simulator: attainable information coefficient over 5 bars; 0 makes a market without alpha"
        ),
    )
    simulator: SimulatorSettings = SimulatorSettings()

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, values):
        """`csv_separator` of configs before 0.6 is csv.separator."""
        if isinstance(values, dict) and "csv_separator" in values:
            values = dict(values)
            values["csv"] = {"separator": values.pop("csv_separator"), **(values.get("csv") or {})}
        return values

    @field_validator("symbol_pattern")
    @classmethod
    def _pattern_has_a_group(cls, pattern):
        try:
            if pattern is not None and not re.compile(pattern).groups:
                raise ValueError(
                    "the pattern has no group; put the symbol's part in brackets, such as (.+)-1h"
                )
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from None
        return pattern

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns):
        for name, named in columns.items():
            if not named and name not in SPARE_COLUMNS:
                raise ValueError(f"{name!r} can't be left out; only {', '.join(SPARE_COLUMNS)} can")
            if name not in CONTRACT_COLUMNS:
                raise ValueError(
                    f"{name!r} is not a column of a panel; choose from {', '.join(CONTRACT_COLUMNS)}"
                )
        return columns

    @field_validator("price_limit")
    @classmethod
    def _share(cls, limit):
        shares = limit.values() if isinstance(limit, dict) else [limit] if limit is not None else []
        for share in shares:
            if not 0 < share < 1:
                raise ValueError(f"{share:g} is not a share between 0 and 1; write 0.1 for 10 %")
        return limit

    @field_validator("timezone", "exchange_timezone")
    @classmethod
    def _known_zone(cls, name):
        try:
            if name is not None:
                ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError("not a known time zone; use a name such as UTC or America/New_York") from None
        return name

    @property
    def bars_only(self) -> "Settings":
        """What says which bars there are: the settings without the universe, which only marks them."""
        return self.model_copy(update={"universe": UniverseSettings()})

    @model_validator(mode="after")
    def _fits_together(self):
        if self.source in ("csv", "parquet", "qlib") and not self.path:
            raise ValueError(
                f"source {self.source} needs a path: give the file, folder or glob in market.path"
            )
        if (
            self.source in FETCHED
            and self.symbols is None
            and not (self.source == "wind" and self.wind.sector_id)
        ):
            raise ValueError(
                f"source {self.source} needs market.symbols"
                + (" or market.wind.sector_id" if self.source == "wind" else "")
            )
        if self.source in FETCHED and self.start is None:
            raise ValueError(f"source {self.source} needs market.start: the first day to fetch")
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"end={self.end} lies before start={self.start}")
        if self.stamp == "session_date" and not is_daily(self.period):
            raise ValueError(
                f"stamp session_date is for daily bars; with period {self.period} use bar_open or bar_close"
            )
        return self
