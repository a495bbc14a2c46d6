"""Causal dilated convolutions over samples of order books, by branches of 50 ms, 250 ms and 1 s (van den Oord
et al. 2016, "WaveNet"). Its fitted form answers sample by sample too, with the past carried along.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from components.experts.errors import ExpertError
from components.experts.neural.config import Neural
from components.experts.neural.expert import NeuralFamily
from components.experts.neural.family import Family
from components.timeline.periods import samples_in

if TYPE_CHECKING:
    from components.experts.networks.causal_cnn import CausalNetwork
    from components.experts.neural.batch import Layout


class Settings(Neural):
    """One leaf of the causal convolutions."""

    lookback_bars: int = Field(
        512, ge=2, description="samples in a window, the predicted row's own included; 256 to 1,024 are usual"
    )
    branch_ms: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (50, 250, 1000),
        min_length=1,
        description=(
            "pace of each branch, a multiple of the period of the samples; those that are shorter, and all of"
            " bars, become one branch of every sample"
        ),
    )
    kernel: int = Field(4, ge=2, description="values that a convolution joins")
    width: int = Field(32, ge=2, description="width of what is made of each sample")


def build(settings: Settings, layout: "Layout") -> "CausalNetwork":
    """The network for windows of this layout.

    Raises
    ------
    ExpertError
        If a branch's pace is no multiple of the period, or the window holds fewer than two of its steps.
    """
    from components.experts.networks.causal_cnn import CausalNetwork

    regularisation = settings.regularisation
    return CausalNetwork(
        layout,
        paces=paces(settings, layout.period),
        kernel=settings.kernel,
        width=settings.width,
        dropout=regularisation.dropout,
        stochastic_depth=regularisation.stochastic_depth,
    )


def paces(settings: Settings, period: str) -> tuple[int, ...]:
    """Samples of this period in a step of each branch, rising, each once."""
    found = {pace: samples_in(pace, period) for pace in settings.branch_ms}
    for pace, samples in found.items():
        if samples is None:
            raise ExpertError(
                f"branch_ms names {pace}, which is no multiple of the period of the samples, {period}. Take"
                " it out, or name a multiple."
            )
        if 2 * samples > settings.lookback_bars:
            raise ExpertError(
                f"a branch of {pace} ms takes {samples} samples of {period} a step, and lookback_bars="
                f"{settings.lookback_bars} holds fewer than two. Raise lookback_bars, or take the branch out"
                " of branch_ms."
            )
    return tuple(sorted(set(found.values())))


def evidence(settings: Settings, layout: "Layout") -> Mapping[str, tuple[str, ...]]:
    """None: its gates say nothing of single inputs."""
    del settings, layout
    return {}


FAMILY = Family(name="causal_cnn", settings=Settings, build=build, evidence=evidence)
Expert = NeuralFamily(FAMILY)
