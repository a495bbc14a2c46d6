"""The factor library as a table for the terminal."""

from rich.table import Table

from components.contracts import AlphaloopError


def factor_table(group: str | None, period: str | None) -> Table:
    """Factors with their group, warm-up, the columns of the panel that they need, and source.

    Raises
    ------
    AlphaloopError
        If there is no such group or period.
    """
    from components.features.library import FACTORS, GROUPS, base_columns
    from components.timeline.periods import PERIODS

    for value, known, what in ((group, GROUPS, "group"), (period, PERIODS, "period")):
        if value is not None and value not in known:
            raise AlphaloopError(
                f"There is no {what} {value!r} of factors. Choose one of: {', '.join(known)}."
            )
    chosen = [
        factor
        for factor in FACTORS
        if group in (None, factor.group) and (period is None or period in factor.periods)
    ]
    table = Table(title=f"{len(chosen)} of {len(FACTORS)} factors", title_justify="left")
    for name in ("factor", "group", "warm-up bars", "needs", "periods", "source"):
        table.add_column(name, justify="right" if name == "warm-up bars" else "left")
    for factor in chosen:
        table.add_row(
            factor.name,
            factor.group,
            str(factor.warm_up_bars),
            " ".join(sorted(base_columns(factor))),
            " ".join(factor.periods),
            factor.source,
        )
    return table
