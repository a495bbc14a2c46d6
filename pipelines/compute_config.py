"""How much of the machine a run uses: what changes nothing of its results, and so no key of a cache."""

from pydantic import Field, model_validator

from components.memory.share import CEILING, SHARE_VARIABLE, TARGET
from components.settings import Section
from components.spread.choice import ADDRESS_VARIABLE, ENGINE_VARIABLE, Engine


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

    engine: Engine = Field(
        "local",
        description=(
            "what works on pieces that need not wait for each other, such as the folds of an expert: this"
            " machine, side by side where cores and memory allow, or ray"
        ),
    )
    address: str = Field(
        "",
        description=(
            "Ray's, such as ray://ray-head:10001, or auto on a node of its cluster; its token comes by"
            " RAY_AUTH_TOKEN; empty: Ray is started on this machine"
        ),
    )

    search_storage: str = Field(
        "",
        description=(
            "database of `alphaloop experts tune` that several machines search in at once, such as"
            " postgresql://user@host/database, its password in PGPASSWORD; empty: SQLite in the run's folder."
            " --storage and ALPHALOOP_SEARCH_STORAGE come before it"
        ),
    )

    @property
    def environment(self) -> dict[str, str]:
        """What tasks are told of it: all of it, for what their surroundings may say of it does not count."""
        told = {SHARE_VARIABLE: str(self.memory_share), ENGINE_VARIABLE: self.engine}
        return told if self.engine == "local" else {**told, ADDRESS_VARIABLE: self.address}

    @model_validator(mode="after")
    def _address_has_a_use(self):
        if self.address and self.engine != "ray":
            raise ValueError(
                f"compute.address={self.address} but compute.engine={self.engine}, which has none; set"
                " compute.engine to ray, or leave out the address"
            )
        return self
