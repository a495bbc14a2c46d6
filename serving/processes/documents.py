"""What the service's processes tell each other through files, as types: the champion that is handed over, and
the reports of those who work beside the service.

The files have no format of their own: each is written anew at every start, and one that does not fit is the
same as none.
"""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, JsonValue, PlainSerializer, WithJsonSchema

from components.contracts.documents import Document, Part

FOLLOWER_FILE = "champion_watch.json"
WRITER_FILE = "log_writer.json"
MIRROR_FILE = "store_mirror.json"

# Written as `isoformat` does.
Moment = Annotated[
    AwareDatetime,
    PlainSerializer(datetime.isoformat, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class ChampionNotice(Document):
    """`champion.json`: the model that is to be served, in a folder whose files were checked.

    The registry follower writes it; the service and the log writer read it. `manifest_sha256` is that of the
    checked manifest, `verdict` what the gates said of the model.
    """

    name: str
    version: int
    bundle_sha256: str
    folder: str
    manifest_sha256: str
    since: str
    who: str | None
    why: str | None
    verdict: dict[str, JsonValue] | None
    fetched_at: Moment


class RefusedVersion(Part):
    """A version of the registry whose bundle was not handed over."""

    version: int
    reason: str
    when: Moment


class FollowerReport(Document):
    """`champion_watch.json`: how the registry follower is doing; `problem` is what stands in its way now."""

    checked_at: Moment
    problem: str | None
    refused: RefusedVersion | None


class MirrorReport(Document):
    """`store_mirror.json`: how what lasts at an address is kept in step; `waiting` counts parts of the answer
    log that were not put there yet.
    """

    at: Moment
    waiting: int
    problem: str | None


class FeatureShift(Part):
    """How far `rows` served rows lie from the champion's training window: Kolmogorov-Smirnov distances over
    the columns, and the share of columns beyond 0.1.
    """

    rows: int
    largest_ks: float
    largest_column: str
    mean_ks: float
    share_above_0_1: float


class WriterReport(Document):
    """`log_writer.json`: how the log writer is doing, with what it has done since it began.

    `torn` counts segments whose last record was cut off, `broken` those that were set aside.
    """

    at: Moment
    rows_written: int
    parts_written: int
    spool_bytes: int
    torn: int
    broken: int
    problem: str | None
    feature_shift: FeatureShift | None
