"""Settings of the timeline: the four windows and how folds walk through them."""

from datetime import date
from itertools import combinations

from pydantic import Field, model_validator

from components.settings import Section


class Span(Section):
    """A window in whole days, both ends included (UTC). An end that is left out is derived from `*_share`."""

    start: date | None = Field(None, description="first day")
    end: date | None = Field(None, description="last day")

    @model_validator(mode="after")
    def _begins_before_it_ends(self):
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start={self.start} is after end={self.end}; swap them")
        return self


class Settings(Section):
    """Train, validation, test and backtest windows, and the walk-forward through validation and test.

    The first fold learns from the train window; later ones also from what has become past by then, as far
    from what they predict as train ends from validation. The experts' out-of-fold predictions over the
    validation window train the stacker; nothing is ever chosen on the test window.
    """

    train: Span = Span()
    validation: Span = Span()
    test: Span = Span()
    backtest: Span = Span()
    train_share: float = Field(
        0.5, gt=0, lt=1, description="share of all bars in train where dates are left out"
    )
    validation_share: float = Field(
        0.2, gt=0, lt=1, description="share of all bars in validation where dates are left out"
    )
    fold_bars: int = Field(252, ge=5, description="bars predicted by one fit; the walk-forward step")
    train_bars: int | None = Field(
        None, ge=20, description="length of a rolling training window; none: expanding from train.start"
    )
    purge_bars: int = Field(
        11,
        ge=0,
        description=(
            "bars dropped from training before a predicted bar; at least the longest horizon plus the"
            " entry bar"
        ),
    )
    embargo_bars: int = Field(
        5, ge=0, description="further bars dropped, because neighbouring bars resemble each other"
    )
    early_stopping_share: float = Field(
        0.15,
        gt=0,
        lt=0.5,
        description="newest share of a fold's training bars, kept for early stopping and bands",
    )

    @model_validator(mode="after")
    def _shares_leave_a_test(self):
        if self.train_share + self.validation_share >= 1:
            raise ValueError(
                f"train_share={self.train_share} and validation_share={self.validation_share} leave no bars"
                " to test on; their sum must be below 1"
            )
        return self

    @model_validator(mode="after")
    def _windows_follow_each_other(self):
        named = (("train", self.train), ("validation", self.validation), ("test", self.test))
        for (earlier, before), (later, after) in combinations(named, 2):
            last = (("end", before.end), ("start", before.start))
            first = (("start", after.start), ("end", after.end))
            ends = next(((key, day) for key, day in last if day), None)
            begins = next(((key, day) for key, day in first if day), None)
            if ends and begins and ends[1] > begins[1]:
                raise ValueError(
                    f"{earlier}.{ends[0]}={ends[1]} is after {later}.{begins[0]}={begins[1]}: train,"
                    " validation and test follow each other, or what is learned would be judged on itself"
                )
        begins = self.backtest.start
        if begins and self.test.start and begins < self.test.start:
            raise ValueError(
                f"backtest.start={begins} is before test.start={self.test.start}: the stacker learned from"
                " those bars; let the backtest begin with the test window or later"
            )
        return self
