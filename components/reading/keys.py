"""Symbols and other keys: always text, and missing only where a cell is empty."""

import polars as pl

from components.reading.place import Place

TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Binary)


def key_text(values: pl.Series, place: Place, name: str) -> tuple[pl.Series, tuple[str, ...]]:
    """Keys as text without the blanks around them, null only where nothing is there; and what a person should
    know of it. NA, null, TRUE, 000001 or 1E5 are names like any other.

    Raises
    ------
    AlphaloopError (the place's)
        If the file itself holds true or false, dates or numbers with decimals where names should be.
    """
    dtype, notes = values.dtype, ()
    if dtype.is_float():
        values = values.fill_nan(None)
        if not (values == values.round()).all():
            example = values.filter(values != values.round())[0]
            raise place.refusal(
                f"column {name!r} holds numbers with decimals (first {example}), expected symbols. Map"
                " another"
                " column."
            )
        values = values.cast(pl.Int64)
    if values.dtype.is_integer():
        example = values.drop_nulls().first()
        notes = (
            f"{place.path}: column {name!r} holds numbers, which are read as text such as {str(example)!r}."
            " Leading"
            " zeros, as of 000001, were lost when it was written: export it as text.",
        )
    elif not isinstance(values.dtype, TEXTS) and values.dtype != pl.Null:
        raise place.refusal(
            f"column {name!r} has type {dtype}, expected the text of symbols: whoever wrote the file took"
            " names"
            " such as TRUE or MAR1 for something else. Export it as text, or map another column."
        )
    return stripped(values.cast(pl.String)), notes


def stripped(text: pl.Series) -> pl.Series:
    """Text without the blanks around it; null where nothing is left."""
    text = text.str.strip_chars()
    empty = (text.str.len_bytes() == 0).fill_null(False)
    return text.set(empty, None) if empty.any() else text
