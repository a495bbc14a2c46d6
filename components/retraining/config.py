"""Settings of retraining: what may trigger it, how often, and who has a say."""

from typing import Literal

from pydantic import Field

from components.contracts.documents.drift import RuleName
from components.settings import Section

TRIGGERS = ("ks", "psi", "auc", "information_ratio", "label_shift")


class Settings(Section):
    """When a drift report leads to a retraining. The thresholds of the rules are the drift stage's."""

    rules: list[RuleName] = Field(
        list(TRIGGERS),
        description=(
            "rules of the drift report that may trigger a retraining; the others are only reported: broken"
            " data asks for a person, not for a model"
        ),
    )
    cool_down_bars: int = Field(
        20,
        ge=0,
        description="new bars of data that a retraining needs after the newest bar of the one before",
    )
    approval: Literal["auto", "required"] = Field(
        "auto",
        description=(
            "auto: a triggered retraining starts by itself; required: it waits for `alphaloop review approve`"
        ),
    )
    every: str = Field(
        "1d",
        pattern=r"^[1-9]\d{0,5}[smhd]$",
        description="time between two checks of `alphaloop watch`, such as 30m, 6h or 1d",
    )
    fold_bars: int | None = Field(
        None,
        ge=5,
        description=(
            "timeline.fold_bars of a retraining; shorter folds let its walk-forward models learn from bars"
            " after a change; none: as in training"
        ),
    )
    keep_pictures: int = Field(
        30,
        ge=1,
        description=(
            "newest drift reports that keep Evidently's page (about 8 MB each); summary and numbers are"
            " always kept"
        ),
    )
