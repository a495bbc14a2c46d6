"""What tells one kind of neural expert from another.

Importing it does not import torch; `build` does when it is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.experts.neural.batch import Network


@dataclass(frozen=True)
class Family:
    """One kind of neural expert.

    settings : its section, a subclass of `neural.config.Neural`
    build : (settings, layout) to the network
    evidence : (settings, layout) to the column names of each evidence
    whole_days : a batch must hold all symbols of its days
    whole_groups : groups of inputs that are seen whole whatever a selection chose: they cost hardly anything
        and are for all symbols
    """

    name: str
    settings: type
    build: Callable[..., "Network"]
    evidence: Callable[..., Mapping[str, tuple[str, ...]]]
    whole_days: bool = False
    whole_groups: tuple[str, ...] = ("bars", "calendar", "regime")
