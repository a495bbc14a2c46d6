"""Settings of the fusion stage: which slow tables there are, what their times mean, which columns are taken,
and which rows experts may learn from.
"""

from datetime import time
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from components.contracts import PANEL
from components.reading.config import CsvSettings, SourcePath, StampForm, StampUnit
from components.settings import Section

Frequency = Literal["instant", "hour", "day", "week", "month", "quarter", "year"]
Clock = time | Literal["end"]
NAME = r"^[a-z][a-z0-9_]*$"
INTRADAY = ("instant", "hour")


class ColumnSettings(Section):
    """One value taken from a slow table."""

    name: str = Field(pattern=NAME, description="name of the fused column")
    column: str = Field(
        "", description="column in the file, or name of the series in a long table; empty: the same as name"
    )
    divide_by: str = Field(
        "",
        description=(
            "wide tables: column of the same row by which the value is divided; missing where that is 0 or"
            " missing"
        ),
    )
    scale: float = Field(1.0, description="factor to the unit wanted, such as 0.01 for percent")
    transform: Literal["level", "change", "percent_change"] = Field(
        "level", description="the value, its difference or its relative change over `observations`"
    )
    observations: int = Field(1, ge=1, description="observations back, counted among those known by then")
    lowest: float | None = Field(
        None,
        description=(
            "values below (after scale and division, before transform) are of another unit or wrong: they"
            " count as missing"
        ),
    )
    highest: float | None = Field(None, description="values above, likewise")
    normalisation: Literal["rank", "zscore", "none"] = Field(
        "rank",
        description="how features turn it into a model input; a series for the whole market can't be ranked",
    )
    modality: Literal["base", "rich"] | None = Field(
        None, description="which experts see it; none: as the table says"
    )
    group: str = Field("", description="factor group; empty: as the table says")
    release_lag_days: float | None = Field(None, ge=0, description="long tables: replaces the table's")
    frequency: Frequency | None = Field(None, description="long tables: replaces the table's")
    max_age_days: float | None = Field(None, gt=0, description="replaces the table's")

    @model_validator(mode="after")
    def _range_is_one(self):
        if self.lowest is not None and self.highest is not None and self.highest <= self.lowest:
            raise ValueError(
                f"column {self.name!r}: highest={self.highest} is not above lowest={self.lowest}"
            )
        return self

    @property
    def source_column(self) -> str:
        """The column or series in the file."""
        return self.column or self.name


class IdentitySettings(Section):
    """A file that says which company used a ticker when, so that rows of another one are not joined."""

    path: SourcePath = Field(
        description=(
            "Parquet or CSV file of intervals, or its address in S3; relative paths lie in the data folder"
        )
    )
    symbol: str = Field("symbol", description="column of the ticker")
    start: str = Field("start_date", description="column of the first day")
    end: str = Field("end_date", description="column of the last day; null: still open")
    csv: CsvSettings = CsvSettings()
    timestamp_format: StampForm = None
    timestamp_unit: StampUnit = None
    company: str = Field(
        "",
        description=(
            "column that names the company; empty: intervals further apart than max_gap_days count as"
            " different companies"
        ),
    )
    max_gap_days: int = Field(
        365,
        ge=0,
        description=(
            "without a company column: longest pause after which the ticker is still taken for the same"
            " company's"
        ),
    )
    apply: bool = Field(
        True,
        description=(
            "false: rows of another company are joined all the same, and only counted; for files that can't"
            " tell companies apart for sure"
        ),
    )


class TableSettings(Section):
    """One slow table: where it lies, what its times mean and what is taken from it.

    An observation covers its stamp up to its end: `frequency: month` says that a stamp of 1 March means
    March, `day` that it means that day (also for period ends), `instant` that it is the moment itself. It
    became known at `known`, or `release_lag_days` after its last day.
    """

    name: str = Field(pattern=NAME, description="name of the table, in reports and errors")
    path: SourcePath = Field(
        min_length=1,
        description=(
            "Parquet or CSV file, or its address in S3; relative paths lie in the folder that ALPHALOOP_DATA"
            " names"
        ),
    )
    key: Literal["symbol", "market"] = Field(
        "symbol", description="symbol: a series for each; market: one series for all symbols"
    )
    symbol: str = Field("symbol", description="column of the symbol")
    symbols: dict[str, str] = Field(
        {}, description="symbol of the panel by symbol in the file, where they differ"
    )
    upper_case: bool = Field(False, description="symbols of the file are turned into upper case first")
    csv: CsvSettings = CsvSettings()
    timestamp_format: StampForm = None
    timestamp_unit: StampUnit = None
    layout: Literal["wide", "long"] = Field(
        "wide", description="wide: a column each; long: a column of series names and one of values"
    )
    series: str = Field("series", description="long: column of the series' names")
    value: str = Field("value", description="long: column of the values")
    where: dict[str, list[str]] = Field(
        {}, description="only rows whose column holds one of these texts are used"
    )
    observed: str = Field("timestamp", description="column of what time a row speaks of")
    frequency: Frequency = Field("day", description="what one observation covers, from its stamp on")
    observed_clock: Clock = Field(
        "end",
        description="local time at which the last day of an observation is complete; end: midnight after it",
    )
    known: str = Field("", description="column of when a row became known; empty: release_lag_days")
    release_lag_days: float | None = Field(
        None,
        ge=0,
        description=(
            "days from the last day of an observation to the day on which it became known, where the file"
            " does not say"
        ),
    )
    known_clock: Clock = Field(
        "end",
        description="local time at which something dated by day counts as known; end: midnight after it",
    )
    timezone: str = Field("UTC", description="zone of the clocks, and of stamps that carry none")
    company: str = Field(
        "", description="column that names the company behind the symbol, where the file has one"
    )
    identity: IdentitySettings | None = None
    conflicts: Literal["missing", "last"] = Field(
        "missing",
        description=(
            "values that differ between rows of the same symbol, observation and known time, such as two"
            " companies under one ticker; last: the last row's counts"
        ),
    )
    before_first_bar: Literal["join", "refuse"] = Field(
        "join",
        description=(
            "rows that became known before the first bar of a symbol that is younger than the panel; refuse:"
            " where symbols are those of today, they are another company's"
        ),
    )
    columns: tuple[ColumnSettings, ...] = Field(min_length=1)
    group: str = Field("", description="factor group; empty: the table's name")
    modality: Literal["base", "rich"] = Field(
        "rich", description="experts of modality base see only columns of base"
    )
    max_age_days: float = Field(
        400.0, gt=0, description="a value counts as missing when the end of its observation lies further back"
    )
    max_refused_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of rows with impossible or missing times or keys above which the run stops",
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name):
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError("not a known time zone; use a name such as UTC or America/New_York") from None
        return name

    @model_validator(mode="after")
    def _times_are_told(self):
        if bool(self.known) == (self.release_lag_days is not None):
            raise ValueError(
                f"table {self.name!r} needs one of `known` (a column) and `release_lag_days` (a rule): when"
                " did a row become known?"
            )
        for column in self.columns:
            self._check_column(column)
        return self

    def _check_column(self, column: ColumnSettings) -> None:
        place = f"table {self.name!r}, column {column.name!r}"
        if self.layout == "long" and column.divide_by:
            raise ValueError(
                f"{place}: divide_by is for wide tables; declare both series and a formula factor"
            )
        if self.layout == "wide" and (column.release_lag_days is not None or column.frequency is not None):
            raise ValueError(
                f"{place}: release_lag_days and frequency of a column are for long tables; set the table's,"
                " or declare the file twice"
            )
        if self.known and column.release_lag_days is not None:
            raise ValueError(f"{place}: release_lag_days is of no use beside the table's column `known`")
        if self.key == "market" and column.normalisation == "rank":
            raise ValueError(
                f"{place}: a series for the whole market is the same for all symbols, so it can't be ranked;"
                " set normalisation to zscore or none"
            )
        lag = column.release_lag_days if column.release_lag_days is not None else self.release_lag_days
        if (
            lag is not None
            and (column.frequency or self.frequency) not in INTRADAY
            and not float(lag).is_integer()
        ):
            raise ValueError(
                f"{place}: release_lag_days={lag} is not a whole number of days; the hour is known_clock"
            )


class NoNanPolicy(Section):
    """Trims the rows to the span in which certain columns have values."""

    enabled: bool = Field(False, description="whether rows are trimmed")
    scope: Literal["onchain", "custom"] = Field(
        "onchain", description="onchain: the inputs of the group onchain; custom: those in `columns`"
    )
    method: Literal["intersect"] = Field(
        "intersect",
        description=(
            "intersect: of each symbol, the span in which all the columns have begun and none has ended"
        ),
    )
    columns: tuple[str, ...] = Field((), description="custom: input columns, or factors by name")

    @model_validator(mode="after")
    def _custom_names_columns(self):
        if self.enabled and (self.scope == "custom") != bool(self.columns):
            raise ValueError(
                "scope custom needs columns, and scope onchain takes none: name the columns or set scope to"
                " onchain"
            )
        return self


class DatasetSettings(Section):
    """Which rows an expert of one modality may learn from."""

    max_missing_ratio: float = Field(
        1.0, ge=0, le=1, description="rows with a larger share of the modality's inputs missing are dropped"
    )
    no_nan_policy: NoNanPolicy = NoNanPolicy()


class Datasets(Section):
    """Rules by modality."""

    base: DatasetSettings = DatasetSettings()
    rich: DatasetSettings = DatasetSettings()


class Settings(Section):
    """Slow tables and how they join; none: the stage is left out of the pipelines."""

    tables: tuple[TableSettings, ...] = ()
    datasets: Datasets = Datasets()
    strict: bool = Field(
        False,
        description=(
            "refuse a table that lacks symbols or dates of the panel, instead of saying what fell out"
        ),
    )
    min_coverage: float = Field(
        0.7,
        ge=0,
        le=1,
        description=(
            "share of panel rows below which a column, a symbol or a date is named; strict refuses it"
        ),
    )
    verified_rows: int = Field(
        200,
        ge=0,
        description="rows of the panel that are joined again one by one in plain Python and compared",
    )

    @model_validator(mode="after")
    def _names_are_unique(self):
        names = [column.name for table in self.tables for column in table.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two slow columns are called {twice[0]!r}; rename one")
        clash = sorted(set(names) & {*PANEL.columns, *PANEL.optional})
        if clash:
            raise ValueError(
                f"a slow column is called {clash[0]!r} like a column of the panel; rename it, for example"
                f" slow_{clash[0]}"
            )
        tables = [table.name for table in self.tables]
        if len(set(tables)) < len(tables):
            raise ValueError("two slow tables have the same name; rename one")
        return self
