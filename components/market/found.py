"""The settings by which files were read where the config left them to be found, as YAML to put into it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from components.market.config import Settings
from components.reading.config import CsvSettings
from components.reading.stamps import ISO_FORMS

# What is taken where nothing is found or set; not worth a line.
USUAL = {
    "encoding": "utf-8",
    "separator": ",",
    "skip_lines": 0,
    "header_lines": 1,
    "names": [],
    "decimal": ".",
}


@dataclass(frozen=True)
class ReadAs:
    """How one file was read: the layout in full where it is a CSV, the form and unit of its times, and the
    column of its times of day.
    """

    csv: CsvSettings | None = None
    timestamp_format: str | None = None
    timestamp_unit: str | None = None
    time_column: str | None = None


def found_settings(read: Sequence[ReadAs], settings: Settings) -> str:
    """YAML of what was found and is not as usual, the same in all files; a comment where files differ. Empty
    where there is nothing to say.
    """
    if not read:
        return ""
    lines, differing = [], []
    for name in ("timestamp_format", "timestamp_unit", "time_column"):
        values = {getattr(one, name) for one in read}
        values = {None if value in ISO_FORMS else value for value in values}
        if getattr(settings, name) is None:
            _say(name, values, None, lines, differing)
    layouts = [one.csv for one in read if one.csv is not None]
    inside: list[str] = []
    for name, usual in USUAL.items():
        if layouts and not getattr(settings.csv, name):
            values = {_plain(getattr(layout, name)) for layout in layouts}
            _say(name, values, _plain(usual), inside, differing)
    if inside:
        lines.append(f"csv: {{{', '.join(inside)}}}")
    if differing:
        lines.append(f"# files differ in {', '.join(differing)}: found in each")
    return "\n".join(["market:", *(f"  {line}" for line in lines)]) if lines else ""


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _say(name: str, values: set, usual: object, lines: list[str], differing: list[str]) -> None:
    values = {usual if value is None else value for value in values}
    if len(values) > 1:
        differing.append(name)
    elif (value := values.pop()) != usual:
        lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
