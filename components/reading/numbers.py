"""Numbers in text: decimal marks, thousands separators, currency signs."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from components.reading.place import Place, shown

NOT_A_VALUE = ("", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None", "-", "--")
OTHER_MARK = {".": ",", ",": "."}
# Said of a column in which both marks part thousands.
NO_DECIMALS = "none"
# Thousands parted by blanks (also those that do not break a line) or apostrophes.
SPACES = r"[ \u00a0\u2009\u202f'\u2019]"
SPACED = rf"^[+-]?\d{{1,3}}(?:{SPACES}\d{{3}})+(?:[.,]\d+)?$"
# A sign of a currency before or after a number.
CURRENCY = r"^([+-]?)\s*[$€£¥₹₩]\s*|\s*[$€£¥₹₩]$"
MARKED = r"^[+-]?[\d.,]+(?:[eE][+-]?\d+)?$"
# Thousands that are not parted, before a decimal point.
UNPARTED = r"^[+-]?\d{4,}\.\d"
# Thousands: one to three digits, then groups of three (in India of two before the last).
GROUPS = {mark: rf"[+-]?[1-9]\d{{0,2}}(?:\{mark}\d{{2,3}})*\{mark}\d{{3}}" for mark in ".,"}


@dataclass(frozen=True)
class Evidence:
    """What the values of a column show: the `sure` decimal mark; where there is none, the mark that is
    `doubtful`, and a value with it.
    """

    sure: str | None = None
    doubtful: str | None = None
    example: str = ""


def missing_as_null(values: pl.Series) -> pl.Series:
    """Text without surrounding blanks; null where it is one of the spellings of nothing."""
    text = values.str.strip_chars()
    spelt = text.is_in(NOT_A_VALUE).fill_null(False)
    return text.set(spelt, None) if spelt.any() else text


def read_numbers(
    columns: Mapping[str, pl.Series], decimal: str | None, separator: str, place: Place
) -> tuple[dict[str, pl.Series], str | None]:
    """Columns of text as Float64, null where a value is none; and the decimal mark that all columns share
    which show one, None where there is only the point of programs.

    Parameters
    ----------
    columns : by their name in the file
    decimal : as set; None: found in each column, then in the others
    separator : of the file; a semicolon leaves a single point before three digits in doubt

    Raises
    ------
    AlphaloopError (the place's)
        Where a column leaves its decimal mark in doubt.
    """
    texts = {name: missing_as_null(values) for name, values in columns.items()}
    plain = {name: text.cast(pl.Float64, strict=False) for name, text in texts.items()}
    written = [name for name, text in texts.items() if plain[name].null_count() > text.null_count()]
    if not written and decimal != "," and separator != ";":
        return plain, decimal
    cleaned = {name: _cleaned(text) for name, text in texts.items()}
    shows = {name: _evidence(name, text, place) for name, text in cleaned.items()}
    marks = {evidence.sure for evidence in shows.values()} & {".", ","}
    file_mark = marks.pop() if len(marks) == 1 else None
    # Who writes 268483.0 in one column does not write 65,492 for thousands in another.
    parts = not any(text.str.contains(UNPARTED).any() for text in cleaned.values())
    told = file_mark if file_mark == "," or parts else None
    numbers = {}
    for name, text in cleaned.items():
        mark = shows[name].sure or _resolved(shows[name], decimal, told, separator, name, place)
        numbers[name] = _with_mark(text, mark).alias(name)
    return numbers, decimal or file_mark


def _cleaned(text: pl.Series) -> pl.Series:
    """Without signs of a currency, and without blanks that part thousands."""
    text = text.str.replace_all(CURRENCY, "${1}")
    spaced = text.str.contains(SPACED)
    return (
        text.str.replace_all(SPACES, "")
        if spaced.all()
        else text.zip_with(~spaced.fill_null(False), text.str.replace_all(SPACES, ""))
    )


def _evidence(name: str, text: pl.Series, place: Place) -> Evidence:
    """What the marks of a column show. Two of one mark in a value part thousands; the last of two different
    marks is the decimal one, as is a single mark that can't part thousands.
    """
    marked = text.filter(text.str.contains(MARKED) & text.str.contains("[.,]"))
    if marked.is_empty():
        return Evidence()
    commas, points = marked.str.count_matches(",", literal=True), marked.str.count_matches(".", literal=True)
    comma_last = marked.str.contains(r",[^.,]*$")
    both = (commas > 0) & (points > 0)
    grouped = {mark: marked.str.contains(f"^{groups}$") for mark, groups in GROUPS.items()}
    single = {",": (commas == 1) & (points == 0), ".": (points == 1) & (commas == 0)}
    last = {",": both & comma_last, ".": both & ~comma_last}
    decimal = {mark: last[mark] | (single[mark] & ~grouped[mark]) for mark in ",."}
    parting = {",": (commas > 1) | last["."], ".": (points > 1) | last[","]}
    for one, other in ((decimal[","], decimal["."]), *((decimal[mark], parting[mark]) for mark in ",.")):
        if one.any() and other.any():
            raise place.refusal(
                f"column {name!r} writes its decimals in two ways: {shown(marked.filter(one)[0])} and"
                f" {shown(marked.filter(other)[0])}. Mend the file, or export it again."
            )
    sure = [mark for mark in ",." if decimal[mark].any()] or [
        OTHER_MARK[mark] for mark in ",." if parting[mark].any()
    ]
    if sure:
        return Evidence(sure=sure[0] if len(sure) == 1 else NO_DECIMALS)
    return Evidence(doubtful="," if single[","].any() else ".", example=str(marked[0]))


def _resolved(
    evidence: Evidence, decimal: str | None, file_mark: str | None, separator: str, name: str, place: Place
) -> str:
    """The decimal mark of a column that does not show it itself."""
    if decimal is not None or evidence.doubtful is None:
        return decimal or "."
    if evidence.doubtful == "." and file_mark is not None:
        return file_mark
    if evidence.doubtful == "." and separator != ";":
        return "."
    if evidence.doubtful == "," and file_mark == ".":
        return "."
    raise place.refusal(
        f"column {name!r} leaves its decimal mark in doubt: {shown(evidence.example)} may be"
        f" {evidence.example.replace(',', '.')} or {evidence.example.replace(',', '').replace('.', '')}. Set"
        f' {place.setting("csv.decimal")} to "." or ",".'
    )


def _with_mark(text: pl.Series, mark: str) -> pl.Series:
    """Float64; null where the other mark does not part thousands."""
    if mark == NO_DECIMALS:
        return _with_mark(text.str.replace_all(",", ".", literal=True), ",")
    other = OTHER_MARK[mark]
    sound = ~text.str.contains(other, literal=True) | text.str.contains(rf"^{GROUPS[other]}(?:\{mark}\d*)?$")
    plain = text.str.replace_all(other, "", literal=True)
    plain = plain.str.replace(",", ".", literal=True) if mark == "," else plain
    numbers = plain.cast(pl.Float64, strict=False)
    return numbers if sound.all() else numbers.set(~sound.fill_null(True), None)
