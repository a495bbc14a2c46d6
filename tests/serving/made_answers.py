"""Answers made up for the tests of the log, and the settings that make it quick."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from components.feature_store.config import Settings as FeatureStoreSettings
from serving.config import Settings
from serving.live.segments import Answer
from serving.processes.documents import ChampionNotice
from serving.processes.plan import ServingPlan

COLUMNS = ("momentum", "volatility", "value")
BAR_US = 1_700_000_000_000_000
# Half a second a segment, so that the writer has work at once.
QUICK = Settings(keyless=True, log_segment_seconds=0.2, log_segment_bytes=2**16, log_spool_bytes=2**24)


def answer(
    number: int,
    rows: int = 2,
    *,
    columns: tuple[str, ...] = COLUMNS,
    answered_at_us: int | None = None,
    shift: float = 0.0,
) -> Answer:
    """The answer `r<number>` for `rows` symbols at bar `number`; all its values follow from the number."""
    rng = np.random.default_rng(number)
    features = (rng.normal(size=(rows, len(columns))) + shift).astype(np.float32)
    features[0, 0] = np.nan
    return Answer(
        request_id=f"r{number}",
        endpoint="signals",
        answered_at_us=time.time_ns() // 1000 if answered_at_us is None else answered_at_us,
        model_version=3,
        bundle_sha256="a" * 64,
        publication="p",
        symbols=[f"S{k}" for k in range(rows)],
        timestamps_us=np.full(rows, BAR_US + number * 1_000_000),
        known_times_us=np.full(rows, BAR_US + number * 1_000_000 + 1),
        stale=np.zeros(rows, dtype=bool),
        outputs=rng.normal(size=(rows, 6)),
        columns=columns,
        features=features,
    )


def notice(bundle: Path) -> ChampionNotice:
    """What the registry follower says of a bundle whose SHA-256 the made answers name."""
    return ChampionNotice(
        name="demo",
        version=3,
        bundle_sha256="a" * 64,
        folder=str(bundle),
        manifest_sha256="b" * 64,
        since="2024-01-01T00:00:00+00:00",
        who="tests",
        why="test",
        verdict=None,
        fetched_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


def make_plan(folder: Path, settings: Settings = QUICK) -> ServingPlan:
    return ServingPlan(folder, "demo", settings, FeatureStoreSettings(), code_version="c")
