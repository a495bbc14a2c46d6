"""The whole history that is built anew in pieces gives the findings of one that is built at once, whatever
the cut: what is clean passes, and what is planted is found, in one piece or over many.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import polars as pl
import pytest

from components.audit import columns, piecewise, run
from components.audit.builders import Builder, Pieces, load_pieces
from components.audit.config import Settings
from components.audit.result import AuditError, AuditResult, LeakFound
from components.audit.whole_run import InPieces, Tables, audit_run
from components.contracts import FACTORS, LABELS, PANEL, CatalogEntry, write_catalog, write_table
from components.features.build import build_supported
from components.features.config import Groups
from components.features.config import Settings as FactorSettings
from components.features.library import GROUPS
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings
from components.memory import limits
from components.memory.cutting import Held
from tests.audit.conftest import random_market

CLOSE = pl.col("close")
QUICK = Settings(cuts=1, guided_cuts=0, scan_cuts=0, warm_up_starts=0)
NAMES = ("fast", "slow", "range")
ENTRIES = [CatalogEntry(name, name, "trend", "input", "none", 21, "", "") for name in NAMES]
OF_LABELS = partial(build_labels, settings=LabelSettings(horizons=(1, 5), primary_horizon=5))
S04 = pl.col("symbol") == "S04"
LATE = pl.int_range(pl.len()) >= 1000
# One piece, pieces of many bars, of a few, of one.
CUTS = [10**9, 400, 90, 1]


def honest(panel: pl.DataFrame) -> pl.DataFrame:
    return panel.select(
        "timestamp",
        "symbol",
        "known_time",
        fast=(CLOSE / CLOSE.shift(5)).over("symbol").cast(pl.Float32),
        slow=(CLOSE / CLOSE.shift(20)).over("symbol").cast(pl.Float32),
        range=((pl.col("high") - pl.col("low")) / CLOSE).cast(pl.Float32),
    )


def of_the_whole(panel: pl.DataFrame) -> pl.DataFrame:
    """Planted: a scale from all bars, which only a rebuild of the whole history shows here."""
    return honest(panel).with_columns((panel["close"] / panel["close"].mean()).cast(pl.Float32).alias("slow"))


def cut(build: Builder, rows: int) -> Pieces:
    """The table of `build` in blocks of bars of so many rows or more."""

    def pieces(panel: pl.DataFrame) -> Iterator[pl.DataFrame]:
        table, start = build(panel), 0
        while start < len(table):
            last = table["timestamp"][min(start + rows, len(table)) - 1]
            end = int(table["timestamp"].search_sorted(last, side="right"))
            yield table[start:end]
            start = end

    return pieces


# What is changed in the table of factors that is handed over, and which columns are named.
WRONG_FACTORS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], set[str]]] = {
    "one value": (lambda t: t.with_columns(pl.col("fast") + (pl.int_range(pl.len()) == 777)), {"fast"}),
    "one symbol": (lambda t: t.with_columns(pl.col("slow").fill_null(1.0) + S04), {"slow"}),
    "all of two": (lambda t: t.with_columns(pl.col("fast", "range") + 1e-3), {"fast", "range"}),
    "a vanished value": (
        lambda t: t.with_columns(range=pl.when(S04 & LATE).then(None).otherwise("range")),
        {"range"},
    ),
    "a column more": (lambda t: t.with_columns(further=pl.col("range").rank()), {"further"}),
    "rows are missing": (lambda t: t.filter(~(S04 & LATE)), {"(rows)"}),
    "rows are missing, values other": (
        lambda t: t.filter(~S04).with_columns(pl.col("fast") * 1.01),
        {"(rows)", "fast"},
    ),
    "no row at all of the later half": (lambda t: t.filter(~LATE), {"(rows)"}),
    "rows are there twice": (lambda t: pl.concat([t, t.filter(S04)]).sort("timestamp", "symbol"), {"(rows)"}),
    "rounding in all rows": (
        lambda t: t.with_columns(
            pl.col("range") * (1 + 3e-7 * pl.Series(np.random.default_rng(0).choice([-1, 1], len(t))))
        ),
        set(),
    ),
}
WRONG_LABELS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], set[str]]] = {
    "all of one": (lambda t: t.with_columns(pl.col("log_return") + 1e-3), {"log_return"}),
    "one symbol": (lambda t: t.with_columns(pl.col("cost").fill_null(0.0) + S04), {"cost"}),
    "rows are missing": (lambda t: t.filter(~(S04 & LATE)), {"(rows)"}),
    "a column more": (lambda t: t.with_columns(further=pl.col("log_return")), {"further"}),
    "a column less": (lambda t: t.drop("sector_neutral_return"), {"sector_neutral_return"}),
    "an end is later": (
        lambda t: t.with_columns(
            pl.col("label_end") + pl.when(S04).then(pl.duration(hours=1)).otherwise(pl.duration())
        ),
        {"label_end"},
    ),
}


@pytest.fixture(scope="module")
def panel() -> pl.DataFrame:
    return random_market(0, n_bars=60, n_symbols=24)


def audited(
    panel: pl.DataFrame, factors: pl.DataFrame, labels: pl.DataFrame, build: Builder, rows: int | None
) -> AuditResult:
    in_pieces = InPieces(cut(build, rows), cut(OF_LABELS, rows)) if rows else InPieces()
    tables = Tables(panel, factors.lazy(), labels.lazy(), ENTRIES)
    return audit_run(tables, build, OF_LABELS, settings=QUICK, seed=0, in_pieces=in_pieces)


def found_at_any_cut(
    panel: pl.DataFrame, factors: pl.DataFrame, labels: pl.DataFrame, build: Builder = honest
) -> set[str]:
    """The columns that the rebuild of the whole history names; all else that is found is the same too."""
    whole = audited(panel, factors, labels, build, None)
    for rows in CUTS:
        assert audited(panel, factors, labels, build, rows).to_json() == whole.to_json(), rows
    return {leak.factor for leak in whole.leaks if leak.check == "whole_history"}


def test_what_is_clean_passes_and_is_compared_as_much(panel, monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS_AT_ONCE", 2)
    tables = honest(panel), OF_LABELS(panel)
    assert found_at_any_cut(panel, *tables) == set()
    checked = audited(panel, *tables, honest, 90).checked
    assert checked["factor_values_compared"] > 3000
    assert checked["label_rows_compared"] > 2000


@pytest.mark.parametrize("fault", WRONG_FACTORS)
def test_a_fault_in_the_factors_is_found_in_whichever_piece(fault, panel):
    spoil, named = WRONG_FACTORS[fault]
    assert found_at_any_cut(panel, spoil(honest(panel)), OF_LABELS(panel)) == named


@pytest.mark.parametrize("fault", WRONG_LABELS)
def test_a_fault_in_the_labels_too(fault, panel):
    spoil, named = WRONG_LABELS[fault]
    assert found_at_any_cut(panel, honest(panel), spoil(OF_LABELS(panel))) == named


def test_a_factor_that_knows_all_bars_is_found_in_pieces(panel):
    assert found_at_any_cut(panel, of_the_whole(panel), OF_LABELS(panel), of_the_whole) == {"slow"}


def test_what_is_the_same_is_not_laid_on_disk(panel, tmp_path, monkeypatch):
    monkeypatch.setattr(piecewise.tempfile, "tempdir", str(tmp_path))
    kept = []
    monkeypatch.setattr(
        piecewise.pl.DataFrame, "write_ipc", lambda table, *_, **__: kept.append(table.columns)
    )
    assert audited(panel, honest(panel), OF_LABELS(panel), honest, 90).passed
    assert (kept, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("which", ["factors", "labels"])
def test_pieces_that_fail_are_told_as_a_build_that_fails(which, panel):
    def failing(_: pl.DataFrame) -> Iterator[pl.DataFrame]:
        yield honest(panel).head(24) if which == "factors" else OF_LABELS(panel).head(24)
        raise ValueError("no more")

    tables = Tables(panel, honest(panel).lazy(), OF_LABELS(panel).lazy(), ENTRIES)
    with pytest.raises(
        AuditError, match=r"builder under audit failed on the whole history.*ValueError: no more"
    ):
        audit_run(tables, honest, OF_LABELS, settings=QUICK, seed=0, in_pieces=InPieces(**{which: failing}))


@pytest.mark.parametrize(
    "build", ["components.features.build:build_factors", "components.labels.build:build_labels"]
)
def test_the_stages_own_pieces_are_found_beside_their_builders(build, panel):
    pieces = list(load_pieces(build, "{}", 300)(panel))
    assert len(pieces) > 3
    assert sum(len(piece) for piece in pieces) % len(panel) == 0
    assert load_pieces("tests.audit.conftest:build_clean", "", 300) is None


@pytest.fixture
def run_of(panel, tmp_path, monkeypatch) -> Callable[[Callable[[pl.DataFrame], pl.DataFrame]], AuditResult]:
    """The audit of tables that the stages' own builders made, in pieces as if memory were short; the factors
    are changed before they are handed over.
    """
    factor_settings = FactorSettings(groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True}))
    label_settings = LabelSettings(horizons=(1, 5), primary_horizon=5)
    monkeypatch.setattr(run, "held", lambda rows, columns, labels: Held(0, 2**40, 0, 1, 300))
    monkeypatch.setattr(limits, "target", lambda: 0)

    def audited(spoil: Callable[[pl.DataFrame], pl.DataFrame]) -> AuditResult:
        stamped = {"code_version": "c", "config_hash": "h"}
        origin = write_table(panel, tmp_path / "panel", PANEL, **stamped).content_sha256
        factors, entries, _ = build_supported(panel, factor_settings)
        for name, table, kind in (
            ("factors", spoil(factors), FACTORS),
            ("labels", build_labels(panel, label_settings), LABELS),
        ):
            write_table(table, tmp_path / name, kind, inputs={"panel": origin}, **stamped)
        write_catalog(entries, tmp_path / "catalog")
        return run.run(
            run.Inputs(*(tmp_path / name for name in ("panel", "factors", "labels", "catalog"))),
            run.Outputs(tmp_path / "audit", tmp_path / "page"),
            run.Builders(
                "components.features.build:build_factors",
                factor_settings.model_dump_json(),
                "components.labels.build:build_labels",
                label_settings.model_dump_json(),
            ),
            settings=QUICK.model_dump_json(),
            seed=0,
        )

    return audited


def test_what_the_stages_made_passes_in_pieces(run_of, capsys):
    assert run_of(lambda factors: factors).passed
    assert "the whole history is built anew in pieces of about 300 rows" in capsys.readouterr().err


def test_a_fault_in_what_the_stages_made_is_found_in_pieces(run_of):
    other = pl.when(S04 & LATE).then(pl.col("momentum_20") + 0.01).otherwise("momentum_20")
    with pytest.raises(LeakFound, match="momentum_20: whole_history"):
        run_of(lambda factors: factors.with_columns(momentum_20=other.cast(pl.Float32)))
