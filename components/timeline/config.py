"""Settings of the timeline: the four windows, how folds walk through them, and whether models are
cross-validated before the test window beside that.
"""

from datetime import date
from itertools import combinations
from math import comb
from typing import Literal, Self

from pydantic import Field, model_validator

from components.settings import Section

# Each split is one more fit of every expert.
MOST_SPLITS = 100
Scheme = Literal["walk_forward", "purged_kfold", "combinatorial"]


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
    """Train, validation, test and backtest windows, the walk-forward through validation and test, and the
    cross-validation before the test window.

    The first fold learns from the train window; later ones also from what has become past by then, as far
    from what they predict as train ends from validation. The experts' out-of-fold predictions over the
    validation window train the stacker; nothing is ever chosen on the test window.
    """

    scheme: Scheme = Field(
        "walk_forward",
        description=(
            "walk_forward: every bar of validation and test is predicted from its past. purged_kfold and"
            " combinatorial: beside that, models are cross-validated over the bars before the test window,"
            " also from bars after those they predict. That is for the report alone: verdict, stack and"
            " service stay with the walk-forward"
        ),
    )
    groups: int = Field(
        6,
        ge=3,
        le=50,
        description="purged_kfold, combinatorial: parts into which the bars before the test window are cut",
    )
    test_groups: int = Field(
        2,
        ge=2,
        description=(
            "combinatorial: groups left out at a time. Every choice of them is one fit of each expert: 2 of 6"
            " are 15 fits, and 5 paths"
        ),
    )
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
    embargo_bars: int | None = Field(
        None,
        ge=0,
        description=(
            "further bars dropped, because neighbouring bars resemble each other; none: half the longest"
            " horizon, rounded up"
        ),
    )
    early_stopping_share: float = Field(
        0.15,
        gt=0,
        lt=0.5,
        description="newest share of a fold's training bars, kept for early stopping and bands",
    )

    def embargo(self, longest_horizon: int) -> int:
        """Bars of the embargo: those that are set, else half the longest horizon, rounded up."""
        return -(-longest_horizon // 2) if self.embargo_bars is None else self.embargo_bars

    def with_embargo(self, longest_horizon: int) -> Self:
        """The same settings with the embargo as a number."""
        return self.model_copy(update={"embargo_bars": self.embargo(longest_horizon)})

    def walking(self) -> Self:
        """What the walk-forward depends on: the same settings without those of the cross-validation."""
        fields = type(self).model_fields
        own = ("scheme", "groups", "test_groups")
        return self.model_copy(update={name: fields[name].default for name in own})

    @model_validator(mode="after")
    def _groups_leave_some_to_learn_from(self):
        if self.scheme != "combinatorial":
            return self
        if self.test_groups >= self.groups:
            raise ValueError(
                f"test_groups={self.test_groups} of groups={self.groups} leave none to learn from; set"
                f" test_groups to {self.groups - 1} or less"
            )
        splits = comb(self.groups, self.test_groups)
        if splits > MOST_SPLITS:
            raise ValueError(
                f"test_groups={self.test_groups} out of groups={self.groups} are {splits:,} splits, a fit of"
                f" every expert each, and {MOST_SPLITS} are the most; lower groups, or set test_groups to 2"
            )
        return self

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
