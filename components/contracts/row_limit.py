"""How many rows a table may have. Polars counts rows in 32 bits unless its 64-bit runtime is installed;
beyond that it wraps without a word, so more are refused before they are read or made.
"""

import os

import polars as pl

from components.contracts.errors import ContractError

MOST_ROWS = 2 ** (8 * pl.Series([], dtype=pl.get_index_type()).to_numpy().itemsize) - 1
# A row group says at least 30 bytes of each column in the footer, and ours hold 2^18 rows at most: a shorter
# footer can't tell of 2^32 rows.
SHORTEST_FOOTER = 2**20


def table_rows(path: str | os.PathLike) -> int:
    """Number of rows of a table's file, from its footer.

    Raises
    ------
    ContractError
        If they are more than Polars can count.
    """
    if _footer_bytes(path) < SHORTEST_FOOTER:
        return pl.scan_parquet(path).select(pl.len()).collect().item()
    # It counts in 64 bits, and costs a third of a second to import.
    import pyarrow.parquet

    rows = pyarrow.parquet.read_metadata(path).num_rows
    refuse_too_many(rows, str(path))
    return rows


def _footer_bytes(path: str | os.PathLike) -> int:
    """Length of a Parquet file's footer, which stands before its last four bytes."""
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def refuse_too_many(rows: int, what: str) -> None:
    """ContractError where a table of so many rows can't be held; `what` names it."""
    if rows > MOST_ROWS:
        raise ContractError(
            f"{what} has {rows:,} rows, more than the {MOST_ROWS:,} that this runtime of Polars counts."
            " Install the one that counts in 64 bits (pip install 'polars[rt64]'), or give the run fewer"
            " symbols or bars (market.symbols, market.start)."
        )
