"""Settings of the selection stage."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """How factors are chosen."""

    mode: Literal["off", "quick", "full"] = Field("off", description="off: every expert sees all inputs; quick: minutes; full: all stages with every repetition")
    experts: tuple[str, ...] = Field((), description="experts that see chosen inputs only; none: all but median")
