"""A gated recurrent network (Cho et al. 2014) over the bars of a window: the plainest network that remembers,
beside which the others show what their parts are worth.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from components.experts.neural.config import Neural
from components.experts.neural.expert import NeuralFamily
from components.experts.neural.family import Family

if TYPE_CHECKING:
    from components.experts.networks.gru import RecurrentNetwork
    from components.experts.neural.batch import Layout


class Settings(Neural):
    """One leaf of the GRU."""

    lookback_bars: int = Field(30, ge=2, description="bars in a window, the predicted row's own included")
    width: int = Field(32, ge=2, description="width of the state, and of what is made of each bar")


def build(settings: Settings, layout: "Layout") -> "RecurrentNetwork":
    """The network for windows of this layout."""
    from components.experts.networks.gru import RecurrentNetwork

    regularisation = settings.regularisation
    return RecurrentNetwork(
        layout,
        width=settings.width,
        dropout=regularisation.dropout,
        stochastic_depth=regularisation.stochastic_depth,
    )


def evidence(settings: Settings, layout: "Layout") -> Mapping[str, tuple[str, ...]]:
    """None: its gates say nothing of single inputs."""
    del settings, layout
    return {}


FAMILY = Family(name="gru", settings=Settings, build=build, evidence=evidence)
Expert = NeuralFamily(FAMILY)
