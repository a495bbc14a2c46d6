"""Settings of the feature store."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """Where online values live and what sequence experts find there."""

    online: Literal["sqlite", "redis"] = Field(
        "sqlite",
        description="sqlite: a file in the store's folder; redis: the server that `redis_variable` names",
    )
    redis_variable: str = Field(
        "ALPHALOOP_REDIS",
        min_length=1,
        description=(
            "environment variable with the Redis connection, such as localhost:6379,db=0,password=..."
        ),
    )
    project: str = Field(
        "alphaloop",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Feast project; give markets that share a Redis server different ones",
    )
    lookback_bars: int = Field(60, ge=1, description="bars of model inputs kept online for each symbol")
    ttl_days: int = Field(
        10, ge=1, description="a factor value older than this is not joined to a training row"
    )
    stale_after_days: float = Field(
        5, gt=0, description="`alphaloop lookup` flags values whose bar closed longer ago than this"
    )
    keep_publications: int = Field(
        3, ge=1, description="published factor tables kept on disk; older ones are deleted"
    )
