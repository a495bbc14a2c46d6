"""Temporal Fusion Transformer (E3; Lim et al. 2021): variable selection, LSTM encoder and decoder,
interpretable attention, a decoder step a horizon.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from components.experts.neural.config import Neural
from components.experts.neural.expert import NeuralFamily
from components.experts.neural.family import Family

if TYPE_CHECKING:
    from components.experts.networks.tft import TemporalFusionTransformer
    from components.experts.neural.batch import Layout


class Settings(Neural):
    """One leaf of the Temporal Fusion Transformer."""

    lookback_bars: int = Field(30, ge=2, description="bars in a window, the predicted row's own included")
    width: int = Field(16, ge=2, description="width of every part of the network")
    heads: int = Field(2, ge=1, description="attention heads; divides width")
    knots: bool = Field(
        True,
        description=(
            "work each variable's network out at nine values and draw straight lines between; false: at each"
            " value, slower by far where there are many inputs"
        ),
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} can't be split among heads={self.heads}; set width to a multiple of"
                " heads"
            )
        return self


def build(settings: Settings, layout: "Layout") -> "TemporalFusionTransformer":
    """The network for windows of this layout."""
    from components.experts.networks.tft import TemporalFusionTransformer

    regularisation = settings.regularisation
    return TemporalFusionTransformer(
        layout,
        width=settings.width,
        heads=settings.heads,
        knots=settings.knots,
        dropout=regularisation.dropout,
        stochastic_depth=regularisation.stochastic_depth,
    )


def evidence(settings: Settings, layout: "Layout") -> Mapping[str, tuple[str, ...]]:
    """Columns of `variable_selection` (inputs), `attention` (bars ago, of the first task's step) and, with a
    calendar, `future` (its inputs and the step itself).
    """
    from components.experts.networks.tft_calendar import foretold

    coming = tuple(f"{cycle}_{part}" for cycle in foretold(layout) for part in ("sin", "cos"))
    columns = {
        "variable_selection": layout.names,
        "attention": tuple(f"{ago}_bars_ago" for ago in reversed(range(layout.lookback))),
    }
    return columns | ({"future": (*coming, "step")} if coming else {})


FAMILY = Family(name="tft", settings=Settings, build=build, evidence=evidence)
Expert = NeuralFamily(FAMILY)
