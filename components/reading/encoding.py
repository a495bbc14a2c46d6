"""The text of a file: unpacked, and decoded by the encoding that it is set to be in, or that it shows."""

import codecs
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.reading.place import Place, shown

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings of files that are not Unicode, in the order in which they are tried; the last reads any byte.
OLDER = ("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "cp1252", "latin-1")
HEAD_BYTES = 65_536
# Share of NUL bytes at every second place from which on a file without a mark is UTF-16; text has none.
UTF16_NULS = 0.3
# Share of them at the other places up to which it still is: a few letters of other scripts have one there.
UTF16_OTHER_NULS = 0.01
# Share of control characters in the head above which a file is no text.
CONTROL_SHARE = 0.02
# Of the two-byte characters of Chinese text about half begin above CA, of Korean text in the same plane none.
CHINESE_LEAD, CHINESE_SHARE, FEWEST_CHARACTERS = 0xCA, 0.15, 4
OTHER_FILES = {b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive or an Excel workbook", b"\x1f\x8b": "gzip"}
OTHER_FILES |= {b"\xd0\xcf\x11\xe0": "an old Excel workbook", b"%PDF": "PDF", b"ARROW1": "Arrow"}


@dataclass(frozen=True)
class Text:
    """The content in UTF-8 without a mark, the `encoding` that it came in, and others (`rivals`) that give
    another text and can't be ruled out.
    """

    content: bytes
    encoding: str
    rivals: tuple[str, ...] = ()


def read_text(place: Place, encoding: str | None, wanted: Sequence[str]) -> Text:
    """The text of a file.

    Parameters
    ----------
    encoding : as set; None: found
    wanted : names of columns; those that are not ASCII tell one encoding from another

    Raises
    ------
    AlphaloopError (the place's)
        If the file is cut off, no text, or not in the encoding that was set.
    """
    raw = _unpacked(place)
    _refuse_other_kinds(raw, place)
    if encoding is not None:
        return Text(_decoded(raw, encoding, place), encoding)
    for mark, name in MARKS:
        if raw.startswith(mark):
            return Text(_decoded(raw, name, place), name)
    if found := _utf16_without_mark(raw):
        return Text(_decoded(raw, found, place), found)
    _refuse_binary(raw, place)
    if _decodes(raw, "utf-8"):
        return Text(_unix_lines(raw), "utf-8")
    return _older(raw, wanted, place)


def _unpacked(place: Place) -> bytes:
    name = place.path.name.lower()
    try:
        if name.endswith(".gz"):
            return gzip.decompress(place.path.read_bytes())
        if name.endswith(".zst"):
            import pyarrow

            with pyarrow.input_stream(str(place.path), compression="zstd") as stream:
                return stream.read()
        return place.path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise place.refusal(
            "can't be unpacked to its end"
            f" ({next(iter(str(error).splitlines()), type(error).__name__)[:120]}). It"
            " is cut off, damaged or not packed at all: fetch it again, or mend the end of its name."
        ) from error


def _refuse_other_kinds(raw: bytes, place: Place) -> None:
    if not raw.strip():
        raise place.refusal("holds nothing but blank lines. Fetch or export it again.")
    for start, kind in OTHER_FILES.items():
        if raw.startswith(start):
            raise place.refusal(
                f"can't be read as CSV: its content is {kind}. Export it as CSV, or give the file its right"
                " name"
                " (.csv.gz, .parquet) and source."
            )


def _refuse_binary(raw: bytes, place: Place) -> None:
    head = np.frombuffer(raw[:HEAD_BYTES], dtype=np.uint8)
    control = (head < 32) & ~np.isin(head, (9, 10, 12, 13))
    if control.mean() > CONTROL_SHARE:
        raise place.refusal(
            "can't be read as CSV: its content is binary, no text. It is damaged or of another kind: export"
            " it"
            " again, or mend the source."
        )


def _utf16_without_mark(raw: bytes) -> str | None:
    head = np.frombuffer(raw[: HEAD_BYTES - HEAD_BYTES % 2], dtype=np.uint8) == 0
    first, second = head[0::2].mean(), head[1::2].mean()
    if second > UTF16_NULS and first <= UTF16_OTHER_NULS:
        return "utf-16-le"
    return "utf-16-be" if first > UTF16_NULS and second <= UTF16_OTHER_NULS else None


def _decoded(raw: bytes, encoding: str, place: Place) -> bytes:
    try:
        return _unix_lines(raw.decode(encoding).removeprefix("\ufeff").encode())
    except (UnicodeError, LookupError) as error:
        at = getattr(error, "start", 0)
        raise place.refusal(
            f"can't be read as CSV in {encoding}: byte {at:,} ({raw[at : at + 4].hex(' ')}) has no meaning"
            " there."
            f" Set {place.setting('csv.encoding')} to what the file is in, such as utf-8, utf-16, gb18030,"
            " cp1252."
        ) from error


def _unix_lines(content: bytes) -> bytes:
    """Files of old Macs end their lines with a carriage return alone."""
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeError:
        return False
    return True


def _older(raw: bytes, wanted: Sequence[str], place: Place) -> Text:
    """Not Unicode: the encoding in which the wanted names are there, or in which the text is sure to be."""
    possible = [name for name in OLDER if _decodes(raw, name)]
    head = {name: raw[:HEAD_BYTES].decode(name, errors="ignore") for name in possible}
    telling = [name for name in wanted if not name.isascii()]
    naming = [name for name in possible if telling and all(word in head[name] for word in telling)]
    if naming:
        return Text(_decoded(raw, naming[0], place), naming[0])
    if "gb18030" in possible and _is_chinese(raw):
        return Text(_decoded(raw, "gb18030", place), "gb18030")
    return Text(_decoded(raw, possible[-1], place), possible[-1], tuple(possible))


def _is_chinese(raw: bytes) -> bool:
    """Whether all bytes above ASCII come in pairs, and begin as those of Chinese characters do."""
    high = np.frombuffer(raw, dtype=np.uint8) >= 0x80
    edges = np.flatnonzero(np.diff(np.concatenate([[0], high.view(np.int8), [0]])))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if (lengths % 2).any():
        return False
    place_in_run = np.arange(len(raw)) - np.repeat(
        np.concatenate([[0], starts]), np.diff(np.concatenate([[0], starts, [len(raw)]]))
    )
    leads = np.frombuffer(raw, dtype=np.uint8)[high & (place_in_run % 2 == 0)]
    return len(leads) >= FEWEST_CHARACTERS and float((leads >= CHINESE_LEAD).mean()) >= CHINESE_SHARE


def refuse_doubtful(values: Sequence[str], text: Text, place: Place, what: str) -> None:
    """Refuse a value that is used, reads otherwise in another encoding, and no evidence tells which is
    right."""
    doubtful = next((value for value in values if value and not value.isascii()), None)
    if not text.rivals or doubtful is None:
        return
    raw = doubtful.encode(text.encoding)
    readings = {name: raw.decode(name, errors="replace") for name in text.rivals}
    said = ", ".join(f"{shown(reading)} in {name}" for name, reading in readings.items())
    raise place.refusal(
        f"is not in UTF-8, and its encoding is in doubt: {what} reads {said}. Set"
        f" {place.setting('csv.encoding')} to the right one."
    )
