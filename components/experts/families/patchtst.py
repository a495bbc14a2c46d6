"""Group-wise PatchTST (E2): a patch transformer a factor group, a feature gate, a regime gate over groups, a
CNN on raw bars.

Nie et al. 2023, "A Time Series is Worth 64 Words"; weights are shared among the channels of a group and
nowhere else. Each part can be switched off, down to the plain PatchTST with one encoder for every input as
its own channel.
"""

from collections.abc import Mapping
from typing import Any

from components.experts.networks.patchtst_settings import Settings
from components.experts.neural.expert import NeuralFamily
from components.experts.neural.family import Family

__all__ = ["FAMILY", "Expert", "Settings"]


def build(settings: Settings, layout: Any) -> Any:
    """The network, not yet fitted."""
    from components.experts.networks.patchtst import GroupwisePatchTST

    return GroupwisePatchTST(settings, layout)


def evidence(settings: Settings, layout: Any) -> Mapping[str, tuple[str, ...]]:
    """Names of what the gates weigh, for the gates that are on."""
    from components.experts.networks.patchtst import evidence_columns

    return evidence_columns(settings, layout)


FAMILY = Family(name="patchtst", settings=Settings, build=build, evidence=evidence)
Expert = NeuralFamily(FAMILY)
