"""Times in cells: dates and moments in text, numbers since 1970, digits of a calendar, days of a
spreadsheet."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from components.reading.place import Place, shown

Unit = Literal["s", "ms", "us", "ns", "calendar", "excel"]

LIMIT_US = 4_102_444_800_000_000  # the year 2100
ISO_FORMS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%dT%H:%M%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
)
# Forms of text that can't be mistaken for another.
PLAIN_FORMS = (
    *ISO_FORMS,
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%Y.%m.%d",
    "%Y.%m.%d %H:%M:%S%.f",
    "%Y.%m.%d %H:%M",
    "%Y%m%d %H:%M:%S%.f",
    "%Y%m%d %H:%M",
    "%Y%m%d %H%M%S",
    "%Y%m%dT%H%M%S",
    "%Y年%m月%d日",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d-%b-%y",
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
# Forms in which day and month may be mistaken for each other, in pairs.
DAY_OR_MONTH = tuple(
    tuple(f"{first}{mark}{second}{mark}{year}{clock}" for first, second in (("%d", "%m"), ("%m", "%d")))
    for year in ("%Y", "%y")
    for mark in "/.-"
    for clock in CLOCKS
)
CLOCK_FORMS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
# Times of day in digits alone: up to so many hours they are hours, up to so many minutes they are in doubt.
HOURS, MINUTES = 24, 60
EARLIEST_YEAR = 1800
PER_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
# Since 1970, a number of this size and below the next is in this unit: each begins in 1973 and ends in 2100.
SMALLEST = {"s": 100_000_000, "ms": 100_000_000_000, "us": 100_000_000_000_000, "ns": 100_000_000_000_000_000}
MOST = 2**63 - 1
CALENDAR_FORMS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# Days of a spreadsheet count from 30 December 1899; 1970 and 2100 in them.
EXCEL_EPOCH_DAYS, EXCEL_FIRST, EXCEL_LAST = 25_569, 25_569, 73_051
SECONDS_A_DAY = 86_400
# The same with a decimal comma.
COMMA_DAYS = r"^\d{5},\d+$"


@dataclass(frozen=True)
class Stamps:
    """`moments`: Datetime in microseconds, with the zone UTC where the cells say so; `form` or `unit`: how
    they were read, None where the file's own type says it; `notes` for a person.
    """

    moments: pl.Series
    form: str | None = None
    unit: Unit | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """Where cells of times stand: the file, the name of the column there, and the names of the settings that
    say their form and unit.
    """

    place: Place
    column: str
    map_setting: str

    @property
    def where(self) -> str:
        """The beginning of a message."""
        return f"{self.place.path}: column {self.column!r}"

    def refusal(self, said: str) -> Exception:
        """The stage's error about this column."""
        return self.place.error(f"{self.where}{said}")


def read_stamps(column: pl.Series, cells: Cells, form: str | None, unit: Unit | None) -> Stamps:
    """The times of a column of any type.

    Parameters
    ----------
    form : strptime form as set; None: found, over all values
    unit : of numbers, as set; None: found from their size

    Raises
    ------
    AlphaloopError (the place's)
        For times that can't be read, lie beyond the year 2100, or leave day and month in doubt.
    """
    if column.dtype == pl.Date:
        return Stamps(_refuse_wild(column, 86_400_000_000, cells).cast(pl.Datetime("us")))
    if isinstance(column.dtype, pl.Datetime):
        per_us = {"ms": 1_000, "us": 1, "ns": 1}[column.dtype.time_unit]
        return Stamps(_refuse_wild(column, per_us, cells).dt.cast_time_unit("us"))
    if column.dtype.is_integer():
        return _from_numbers(column.cast(pl.Int64, strict=False), column, cells, unit)
    if column.dtype.is_float():
        return _from_floats(column, cells, unit)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        return _from_text(column, cells, form, unit)
    raise cells.refusal(
        f" has type {column.dtype}, expected times, dates, text or whole numbers. Map the right column with"
        f" {cells.map_setting}."
    )


def read_clock(column: pl.Series) -> pl.Series | None:
    """Times of day as a Duration since midnight; None where a value is none."""
    if column.dtype == pl.Time:
        return column.cast(pl.Duration("us"))
    if not column.dtype.is_integer() and column.dtype != pl.String:
        return None
    text = (column.cast(pl.String) if column.dtype.is_integer() else column).str.strip_chars()
    if text.str.contains(r"^\d{1,6}$").all():
        return _clock_of_digits(text)
    for form in CLOCK_FORMS:
        moments = text.str.to_time(form, strict=False)
        if moments.null_count() == text.null_count() < len(text):
            return moments.cast(pl.Duration("us"))
    return None


def _clock_of_digits(text: pl.Series) -> pl.Series | None:
    """93000, 930, or whole hours; a whole column of less is none of them."""
    most = text.cast(pl.Int64).max() or 0
    if most < HOURS:
        hours = text.cast(pl.Int64).to_frame("hour").select(pl.duration(hours="hour")).to_series()
        return hours.cast(pl.Duration("us"))
    digits, form = (4, "%H%M") if most < 100 * HOURS else (6, "%H%M%S")
    moments = text.str.zfill(digits).str.to_time(form, strict=False)
    return (
        moments.cast(pl.Duration("us"))
        if most > MINUTES and moments.null_count() == text.null_count()
        else None
    )


def _refuse_wild(column: pl.Series, unit_us: int, cells: Cells) -> pl.Series:
    """`column`, unless it holds moments beyond the year 2100 or as far back, as a damaged file may:

    Polars can't convert or even show some of these.
    """
    limit = (
        LIMIT_US * 1000
        if column.dtype == pl.Datetime("ns", getattr(column.dtype, "time_zone", None))
        else LIMIT_US // unit_us
    )
    wild = int((~column.to_physical().cast(pl.Int64).is_between(-limit, limit)).sum())
    if wild:
        raise cells.refusal(
            f": {wild:,} of {len(column):,} times lie beyond the year 2100. The file is damaged or its unit"
            " of time"
            " is wrong: export it again."
        )
    return column


def _from_floats(column: pl.Series, cells: Cells, unit: Unit | None) -> Stamps:
    """Whole numbers as those; fractions only as days of a spreadsheet."""
    column = column.fill_nan(None)
    whole = column.drop_nulls()
    days = whole.is_between(EXCEL_FIRST, EXCEL_LAST).all()
    if unit == "excel" or (unit is None and days and len(whole)):
        return _from_excel(column, cells)
    if not (whole == whole.round()).all():
        raise cells.refusal(
            f" holds numbers with decimals (first {whole[0]}), and nothing says what they count. Set"
            f" {cells.place.setting('timestamp_unit')}, or export times as text."
        )
    return _from_numbers(column.cast(pl.Int64, strict=False), column, cells, unit)


def _from_excel(column: pl.Series, cells: Cells) -> Stamps:
    days = column.cast(pl.Float64)
    if bad := int((~days.is_between(-LIMIT_US // 86_400_000_000, EXCEL_LAST)).sum()):
        raise cells.refusal(
            f": {bad:,} of {len(days):,} numbers lie beyond the year 2100 as days of a spreadsheet. Check"
            f" {cells.place.setting('timestamp_unit')}."
        )
    seconds = ((days - EXCEL_EPOCH_DAYS) * SECONDS_A_DAY).round().cast(pl.Int64)
    return Stamps((seconds * 1_000_000).cast(pl.Datetime("us")), unit="excel")


def _from_numbers(values: pl.Series, column: pl.Series, cells: Cells, unit: Unit | None) -> Stamps:
    present = values.drop_nulls()
    if present.is_empty():
        raise cells.refusal(f" holds no time at all. Map the right column with {cells.map_setting}.")
    if unit == "excel" or (unit is None and present.is_between(EXCEL_FIRST, EXCEL_LAST).all()):
        return _from_excel(values, cells)
    if unit == "calendar" or unit is None:
        moments = _from_digits(values)
        if moments.null_count() == values.null_count():
            return Stamps(moments, unit="calendar")
        if unit == "calendar":
            example = values.filter(values.is_not_null() & moments.is_null())[0]
            raise cells.refusal(
                f": {example} is no date or time in digits, such as 20210104. Check"
                f" {cells.place.setting('timestamp_unit')}."
            )
    return _since_1970(values, present, cells, unit)


def _from_digits(values: pl.Series) -> pl.Series:
    """Numbers such as 20210104 or 20210104153000 as moments; null where one is none, all of one length."""
    text = values.cast(pl.String)
    form = CALENDAR_FORMS.get(len(str(values.drop_nulls().first() or "")))
    return (
        _parse(text, form) if form else pl.Series(values.name, [None] * len(values), dtype=pl.Datetime("us"))
    )


def _since_1970(values: pl.Series, present: pl.Series, cells: Cells, unit: Unit | None) -> Stamps:
    """Each row by the unit that is set; where that leads beyond the year 2100, or none is set, by its
    size."""
    size = values.abs()
    if unit is None and (small := present.filter(present.abs() < SMALLEST["s"])).len():
        raise cells.refusal(
            f" holds numbers (first {present[0]}), and nothing says in which unit: {small[0]} is none of a"
            " time since"
            f" 1970, of a date such as 20210104, of days of a spreadsheet. Set"
            f" {cells.place.setting('timestamp_unit')} to s, ms, us, ns, calendar or excel."
        )
    sizes = [*SMALLEST.values(), MOST]
    by_size = {
        name: (size >= least) & (size < most)
        for name, least, most in zip(SMALLEST, sizes, sizes[1:], strict=False)
    }
    rows = dict(by_size)
    if unit is not None:
        inside = size <= (LIMIT_US * 1000 if unit == "ns" else LIMIT_US // PER_US[unit])
        rows = {name: found & ~inside for name, found in by_size.items()}
        rows[unit] = rows[unit] | inside
    micros = values // 1000
    for name, per_us in PER_US.items():
        micros = (values.clip(-LIMIT_US // per_us - 1, LIMIT_US // per_us + 1) * per_us).zip_with(
            rows[name].fill_null(False), micros
        )
    if (wild := values.filter(micros.abs() > LIMIT_US)).len():
        raise cells.refusal(
            f": {wild[0]} in {unit or 'any unit since 1970'} lies beyond the year 2100. Check"
            f" {cells.place.setting('timestamp_unit')}."
        )
    counts = {name: int(found.sum()) for name, found in rows.items() if found.any()}
    notes = _mixed_note(counts, unit, cells)
    found = unit or (next(iter(counts)) if len(counts) == 1 else None)
    moments = micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return Stamps(moments.alias(values.name), unit=found, notes=notes)


def _mixed_note(counts: dict[str, int], unit: Unit | None, cells: Cells) -> tuple[str, ...]:
    if len(counts) == 1 and unit in (None, *counts):
        return ()
    said = ", ".join(f"{count:,} rows in {name}" for name, count in counts.items())
    against = f", though {cells.place.setting('timestamp_unit')} is {unit}" if unit else ""
    return (f"{cells.where} was read by the size of its numbers: {said}{against}.",)


def _from_text(column: pl.Series, cells: Cells, form: str | None, unit: Unit | None) -> Stamps:
    text = column.str.strip_chars()
    text = text.set((text.str.len_bytes() == 0).fill_null(False), None)
    samples = text.drop_nulls()
    if samples.is_empty():
        raise cells.refusal(f" holds no time at all. Map the right column with {cells.map_setting}.")
    if form is not None:
        moments = _parse(text, form)
        if _parse(samples.head(1), form).null_count():
            raise _no_form(samples[0], cells, f"the format {form!r}")
        return Stamps(_refuse_losses(text, moments, cells, _why(form)), form=form)
    if samples.str.contains(COMMA_DAYS).all():
        text = text.str.replace(",", ".", literal=True)
        samples = text.drop_nulls()
    if unit is not None or _is_number(samples[0]):
        numbers = text.cast(pl.Float64, strict=False)
        why = (
            f"is not a whole number, though {cells.place.setting('timestamp_unit')} is set"
            if unit
            else "is no number"
        )
        _refuse_losses(text, numbers, cells, why)
        whole = text.cast(pl.Int64, strict=False)
        exact = whole.null_count() == text.null_count()
        return read_stamps(whole if exact else numbers, cells, None, unit)
    return _in_found_form(text, samples, cells)


def _in_found_form(text: pl.Series, samples: pl.Series, cells: Cells) -> Stamps:
    """By the form that reads all values; the first that reads the first one names what others do not fit."""
    first = samples.head(1)
    fitting = [form for form in PLAIN_FORMS if not _parse(first, form).null_count()]
    for form in fitting:
        moments = _parse(text, form)
        if moments.null_count() == text.null_count():
            return Stamps(moments, form=form)
    pairs = [pair for pair in DAY_OR_MONTH if any(not _parse(first, form).null_count() for form in pair)]
    for pair in pairs:
        read = {form: _parse(text, form) for form in pair}
        whole = [form for form, moments in read.items() if moments.null_count() == text.null_count()]
        if len(whole) == 2 and not read[whole[0]].equals(read[whole[1]]):
            raise cells.refusal(
                f": no date tells day from month: {shown(samples[0])} may be"
                f" {read[whole[0]].drop_nulls()[0]:%d %B %Y}"
                f" or {read[whole[1]].drop_nulls()[0]:%d %B %Y}. Set"
                f" {cells.place.setting('timestamp_format')} to"
                f" {whole[0]!r} or {whole[1]!r}."
            )
        if whole:
            return Stamps(read[whole[0]], form=whole[0])
    tried = [*fitting, *(form for pair in pairs for form in pair)]
    if not tried:
        raise _no_form(samples[0], cells, "an ISO time such as 2024-07-01 or 2024-07-01T15:00:00+00:00")
    best = min(tried, key=lambda form: _parse(text, form).null_count())
    return Stamps(_refuse_losses(text, _parse(text, best), cells, _why(best)), form=best)


def _why(form: str) -> str:
    return f"can't be read in the form {form!r} of the first stamp"


def _no_form(sample: str, cells: Cells, tried: str) -> Exception:
    return cells.refusal(
        f": {shown(sample)} is not {tried}. Set {cells.place.setting('timestamp_format')}, for example"
        f" '%d.%m.%Y %H:%M' (or {cells.place.setting('timestamp_unit')} for numbers)."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_dated(form: str) -> bool:
    """Whether a strptime form holds days alone."""
    return not any(code in form for code in ("%H", "%I", "%T", "%R", "%s", "%c", "%+"))


def _parse(text: pl.Series, form: str) -> pl.Series:
    """Datetime, null where a text is none of this form, or its year is of two digits where four are meant."""
    text = text + "00" if form == "%Y%m%d%H" else text
    form = "%Y%m%d%H%M" if form == "%Y%m%d%H" else form
    try:
        moments = (
            text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
            if is_dated(form)
            else text.str.to_datetime(form, time_unit="us", strict=False, ambiguous="null")
        )
    except pl.exceptions.PolarsError:
        return pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))
    early = (moments.dt.year() < EARLIEST_YEAR).fill_null(False)
    return moments.set(early, None) if early.any() else moments


def _refuse_losses(before: pl.Series, after: pl.Series, cells: Cells, why: str) -> pl.Series:
    """`after`, unless it lost values that `before` had."""
    lost = (before.is_not_null() & after.is_null()).arg_true()
    if len(lost):
        examples = ", ".join(f"{shown(before[int(row)])} (row {int(row) + 1:,})" for row in lost[:3])
        raise cells.refusal(
            f": {len(lost):,} of {len(before):,} values: {examples} {why}. Mend the file, or see"
            f" {cells.place.setting('timestamp_format')}."
        )
    return after
