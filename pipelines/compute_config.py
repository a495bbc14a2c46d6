"""How much of the machine a run uses: what changes nothing of its results, and so no key of a cache."""

from pydantic import Field

from components.memory.share import CEILING, SHARE_VARIABLE, TARGET
from components.settings import Section


class ComputeSettings(Section):
    """How a run uses the machine; its results are the same whatever stands here."""

    memory_share: float = Field(
        TARGET,
        gt=0,
        le=CEILING,
        description=(
            "share of the memory that the machine, the container or ulimit allows for which work is cut into"
            " pieces"
        ),
    )

    @property
    def environment(self) -> dict[str, str]:
        """What tasks are told of it."""
        return {SHARE_VARIABLE: str(self.memory_share)}
