"""Finds how the lines of a text file are laid out: the separator, the lines above the header, the header."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from components.reading.config import CsvSettings
from components.reading.encoding import HEAD_BYTES
from components.reading.place import Place, shown

# In the order of preference where several part all lines alike: only a comma may be a decimal mark.
SEPARATORS = ("\t", ";", "|", ",")
HEAD_LINES = 80
# Lines among which the header is looked for, and how many lines it may have.
HEADER_WITHIN, MOST_HEADER_LINES = 30, 4
NUMBER = re.compile(r"[+-]?[$€£¥]?\s*(\d[\d.,'\s]*|[.,]\d+)([eE][+-]?\d+)?%?")
# A cell that begins like a date or a time, such as 2021-01-04, 4.1.21 or 09:30.
DATE = re.compile(r"\d{1,4}[-/.:年]\d{1,2}")
MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "--")


@dataclass(frozen=True)
class Layout:
    """`separator`; `skip_lines` above the header; `header_lines`, 0 where there is none; the `names` of all
    columns as written; `width`: columns of the rows below.
    """

    separator: str
    skip_lines: int
    header_lines: int
    names: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class Line:
    """The cells of a line, and how many lines of the file lie above it."""

    cells: tuple[str, ...]
    above: int


def find_layout(content: bytes, settings: CsvSettings, wanted: Sequence[str], place: Place) -> Layout:
    """The layout of a text file in UTF-8; what `settings` say is taken as it is.

    Parameters
    ----------
    wanted : names of columns that the header should have

    Raises
    ------
    AlphaloopError (the place's)
        If there is no header and no setting gives the names.
    """
    text = content[:HEAD_BYTES].decode(errors="ignore")
    if len(content) > HEAD_BYTES:
        text = text[: text.rfind("\n") + 1]
    separators = (settings.separator,) if settings.separator else SEPARATORS
    tables = {separator: _lines(text, separator, settings.skip_lines or 0) for separator in separators}
    separator = max(separators, key=lambda one: _fitness(tables[one], wanted))
    lines = tables[separator]
    if not lines:
        raise place.refusal("holds no line with values. Export it again.")
    width = _usual_width(lines)
    if settings.names:
        skipped = settings.skip_lines if settings.skip_lines is not None else _first_data(lines, width).above
        return Layout(separator, skipped, 0, tuple(settings.names), width)
    header = _header(lines, wanted, settings, place, separator)
    extra = _more_header_lines(lines, header, wanted)
    header_lines = settings.header_lines if settings.header_lines is not None else 1 + extra
    return Layout(separator, lines[header].above, header_lines, lines[header].cells, width)


def _lines(text: str, separator: str, skip: int) -> list[Line]:
    """The first lines that hold anything; quoting is that of CSV."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines, above = [], 0
    try:
        for cells in rows:
            if above >= skip and any(cell.strip() for cell in cells):
                lines.append(Line(tuple(cells), above))
            above = rows.line_num
            if len(lines) == HEAD_LINES:
                break
    except csv.Error:
        return lines
    return lines


def _fitness(lines: list[Line], wanted: Sequence[str]) -> tuple[int, bool, bool]:
    """How well a separator parts the lines: by the wanted names that a line then holds, and whether the rows
    have one width above one.
    """
    if not lines:
        return 0, False, False
    names = max(_named(line, wanted) for line in lines[:HEADER_WITHIN])
    width = _usual_width(lines)
    alike = all(len(line.cells) == width for line in lines[HEADER_WITHIN:] or lines[-1:])
    return names, width > 1 and alike, width > 1


def _usual_width(lines: list[Line]) -> int:
    return Counter(len(line.cells) for line in lines).most_common(1)[0][0]


def _named(line: Line, wanted: Sequence[str]) -> int:
    cells = {cell.strip().casefold() for cell in line.cells}
    return sum(name.strip().casefold() in cells for name in wanted)


def _header(
    lines: list[Line], wanted: Sequence[str], settings: CsvSettings, place: Place, separator: str
) -> int:
    """The line that holds most of the wanted names; where none holds any, the first as wide as the rows."""
    if settings.skip_lines is not None and settings.header_lines is not None:
        return 0
    near = lines[:1] if settings.skip_lines is not None else lines[:HEADER_WITHIN]
    named = [_named(line, wanted) for line in near]
    best = named.index(max(named))
    if named[best]:
        return best
    width = _usual_width(lines)
    first = next((number for number, line in enumerate(near) if len(line.cells) >= min(width, 2)), 0)
    cells = [cell.strip() for cell in lines[first].cells]
    values = sum(_is_value(cell) for cell in cells)
    if settings.header_lines is None and values and 2 * values >= len(cells):
        proposed = ", ".join(_proposed(cells, wanted))
        raise place.refusal(
            f"has no header: its first line is {shown(separator.join(cells))}. Name its {len(cells)} columns"
            " in"
            f" {place.setting('csv.names')}, such as\n[{proposed}]\nwith each name where its values stand."
        )
    return first


def _proposed(cells: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Names to begin with, in the usual order: the time, the symbol where a cell is a word, prices,
    volume."""
    usual = [wanted[0] if wanted else "timestamp"]
    usual += ["symbol"] if len(cells) > 1 and not _is_value(cells[1]) else []
    usual += ["open", "high", "low", "close", "volume"]
    return [usual[number] if number < len(usual) else f"column_{number + 1}" for number in range(len(cells))]


def _first_data(lines: list[Line], width: int) -> Line:
    return next(line for line in lines if len(line.cells) == width)


def _is_value(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell.strip()) or DATE.match(cell.strip()))


def _more_header_lines(lines: list[Line], header: int, wanted: Sequence[str]) -> int:
    """Lines below the names that belong to the header: one that names what the columns hold (tickers, units)
    has words only; as does one of an index. The first wanted column is that of the times.
    """
    names = [cell.strip().casefold() for cell in lines[header].cells]
    first = wanted[0].strip().casefold() if wanted else ""
    time = names.index(first) if first in names else 0
    found = 0
    for line in lines[header + 1 : header + MOST_HEADER_LINES]:
        cells = [cell.strip() for cell in line.cells]
        if time >= len(cells) or not _is_word(cells[time]):
            break
        others = [cell for number, cell in enumerate(cells) if number != time and cell]
        if any(_is_value(cell) for cell in others) and len(set(others)) > 1:
            break
        found += 1
    return found if header + 1 + found < len(lines) else 0


def _is_word(cell: str) -> bool:
    return cell.casefold() not in MISSING and not any(letter.isdigit() for letter in cell)
