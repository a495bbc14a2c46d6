"""How a text file is laid out, for what the file does not show by itself."""

import codecs
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from components.reading.stamps import Unit
from components.settings import Section

DECIMAL_MARKS = (".", ",")
# Of files beside the bars, whose own two settings say more.
StampForm = Annotated[
    str | None, Field(description="strptime format of times in text; none: found, where no two forms fit")
]
StampUnit = Annotated[
    Unit | None,
    Field(description="unit of times that are numbers, as market.timestamp_unit; none: found by size"),
]


def _known_place(path: str) -> str:
    scheme, found, rest = path.partition("://")
    if found and scheme != "s3":
        raise ValueError(
            f"{scheme}:// can't be read; give a path, or an address in S3 such as s3://bucket/bars.parquet"
        )
    if found and not rest.partition("/")[0]:
        raise ValueError("the address names no bucket; write s3://bucket/key")
    if found and "@" in rest.partition("/")[0]:
        raise ValueError("keys don't belong into an address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return path


# A path, absolute or in the data folder, or an address in S3.
SourcePath = Annotated[str, AfterValidator(_known_place)]


class CsvSettings(Section):
    """The layout of a CSV file; what is none is found in the file, or asked for where the file leaves it in
    doubt.
    """

    encoding: str | None = Field(
        None, description="encoding of the text, such as utf-16, gb18030, cp1252; none: found in the file"
    )
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="character between the values; none: found in the file"
    )
    skip_lines: int | None = Field(
        None, ge=0, description="lines above the header, such as a title; none: found in the file"
    )
    header_lines: int | None = Field(
        None,
        ge=0,
        le=9,
        description="lines of the header, of which the first holds the names; 0: there is none, so `names`"
        " says them; none: found in the file",
    )
    names: list[str] = Field([], description="names of all columns, where the file has no header")
    decimal: str | None = Field(
        None,
        description="decimal mark (. or ,) of columns that do not show it themselves, such as 1,234; none:"
        " found in the file",
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name):
        try:
            return None if name is None else codecs.lookup(name).name
        except LookupError:
            raise ValueError(
                "not a known encoding; use a name such as utf-8, utf-16, gb18030, cp1252"
            ) from None

    @field_validator("decimal")
    @classmethod
    def _known_mark(cls, mark):
        if mark is not None and mark not in DECIMAL_MARKS:
            raise ValueError('not a decimal mark; use "." or "," in quotes')
        return mark

    @model_validator(mode="after")
    def _names_or_header(self):
        if self.names and self.header_lines:
            raise ValueError(
                f"names are for a file without a header, but header_lines={self.header_lines}; leave one out"
                " (a header that should not count is skipped with skip_lines)"
            )
        if self.header_lines == 0 and not self.names:
            raise ValueError("header_lines=0 says that there is no header: give the columns' names in names")
        if len(set(self.names)) < len(self.names):
            raise ValueError("names holds a name twice; each column needs its own")
        return self
