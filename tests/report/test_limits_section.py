"""Limits of books in the report: what each took away, and nothing where there are none."""

from datetime import UTC, datetime

import polars as pl
from made_evaluation import evaluation_of

from components.contracts.documents.evaluation import BookLimits, Evaluation
from components.report.sections.limits import limits_of

HELD = pl.DataFrame({"timestamp": [datetime(2024, 1, 2, tzinfo=UTC)], "exposure": [0.7]})


def with_limits(limits: BookLimits | None) -> Evaluation:
    """The stack's long-short has these."""
    document = evaluation_of(0.05, names=("stack",)).model_dump()
    document["experts"]["stack"]["test"]["portfolio"]["long_short"]["limits"] = (
        None if limits is None else limits.model_dump()
    )
    return Evaluation.model_validate(document)


def test_each_limit_says_how_often_it_took_something():
    found = limits_of(with_limits(BookLimits(sector=0.25, beta=None, volatility=0.0, gross=0.8)), HELD)
    assert found.rows == [["long-short", "0.80", "25% of bars", "no limit", "0% of bars"]]
    assert len(found.rows[0]) == len(found.header)
    assert list(found.exposure.figure["data"][0]["y"]) == [0.7]


def test_without_limits_nothing_is_said():
    assert limits_of(with_limits(None), HELD) is None
    assert limits_of(evaluation_of(0.05, names=("other",)), HELD) is None
