"""How well the keys of two tables meet: a join that finds few of them says so, with examples of both
sides."""

from collections.abc import Iterable

import polars as pl

# Share of the smaller side that must be found, below which a join is called thin.
FEW = 0.5
EXAMPLES = 5
# An exchange behind a code of digits, such as 000001.SZ or 700.HK.
EXCHANGE = r"^(\d+)[._:-][a-z]{1,4}$"


class NothingMatches(ValueError):
    """Not one key of one side is among those of the other."""


def join_note(symbols: Iterable[str], keys: Iterable[str], what: str) -> str:
    """A sentence where few of the panel's `symbols` are among the `keys` of `what`, or where keys of both
    sides that do not meet differ in their spelling alone; empty where all is well.

    Raises
    ------
    NothingMatches
        If both sides have keys and none meets; the message gives examples.
    """
    ours, theirs = (pl.Series(sorted(set(side) - {None}), dtype=pl.String) for side in (symbols, keys))
    if ours.is_empty() or theirs.is_empty():
        return ""
    matched = int(ours.is_in(theirs).sum())
    left, over = ours.filter(~ours.is_in(theirs)), theirs.filter(~theirs.is_in(ours))
    sides = f"the panel has {_some(left)}, {what} has {_some(over)}"
    if not matched:
        raise NothingMatches(f"not one of the panel's {len(ours):,} symbols is in {what}: {sides}")
    alike = _alike(left, over)
    if alike.is_empty() and matched >= FEW * min(len(ours), len(theirs)):
        return ""
    near = f" {_pairs(alike)} differ in their spelling alone." if len(alike) else ""
    return (
        f"Only {matched:,} of the panel's {len(ours):,} symbols are in {what}, which has {len(theirs):,}; of"
        " the others"
        f" {sides}.{near} Where they mean the same, write them alike on both sides."
    )


def _alike(left: pl.Series, over: pl.Series) -> pl.DataFrame:
    """Pairs that are the same without case, punctuation, leading zeros and an exchange."""
    ours, theirs = (
        side.to_frame(name).with_columns(_bare(pl.col(name)).alias("bare"))
        for name, side in (("ours", left), ("theirs", over))
    )
    return ours.join(theirs, on="bare").filter(pl.col("bare") != "").sort("ours", "theirs")


def _bare(key: pl.Expr) -> pl.Expr:
    lower = key.str.to_lowercase().str.replace(EXCHANGE, "${1}")
    return lower.str.replace_all(r"[^\p{L}\p{N}]", "").str.strip_chars_start("0")


def _some(keys: pl.Series) -> str:
    named = ", ".join(map(repr, keys.head(EXAMPLES).to_list()))
    return (named + (f" and {len(keys) - EXAMPLES:,} more" if len(keys) > EXAMPLES else "")) or "none"


def _pairs(alike: pl.DataFrame) -> str:
    pairs = alike.head(EXAMPLES).select("ours", "theirs").rows()
    return ", ".join(f"{ours!r} and {theirs!r}" for ours, theirs in pairs)
