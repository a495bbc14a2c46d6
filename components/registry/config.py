"""Settings of the registry."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """Where MLflow keeps its records and how an approved model becomes champion."""

    tracking_uri: str = Field(
        "", description="MLflow server or database; empty: SQLite and a local folder inside run.folder"
    )
    promotion: Literal["auto", "manual"] = Field(
        "auto",
        description=(
            "auto: an approved model that beats the champion takes its place; manual: it waits as challenger"
        ),
    )
