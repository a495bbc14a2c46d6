"""What answers are made from: a model, a reading of the market and a reader of the store, each of which never
changes once it is there.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from components.contracts import read_json
from components.scoring import Model
from serving.api.answer_types import ModelStamp
from serving.api.given_rows import Shape
from serving.live.book_sizing import BookSizing, lacking
from serving.live.market_snapshot import MarketSnapshot
from serving.live.online import OnlineReader
from serving.processes.documents import ChampionNotice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model that answers: `notice` is champion.json, `stamp` what every answer says of the model."""

    notice: ChampionNotice
    model: Model
    book: BookSizing
    stamp: ModelStamp

    @classmethod
    def of(cls, notice: ChampionNotice, model: Model) -> "ServedModel":
        """The model of a notice, with the book that it was judged with.

        Raises
        ------
        ContractError
            If its manifest does not say how the book is sized.
        """
        book = BookSizing.of(model.manifest, model.stacker.head.usual)
        if book.sizing == "confidence" and not math.isfinite(book.usual):
            log.warning(
                "Model %s was made before bundles held its usual uncertainty: positions are split by"
                " confidence, but do not get smaller where all of it is low. Train the model again.",
                notice.version,
            )
        if names := lacking(model.manifest):
            log.info(
                "Model %s was made before its bundle could say %s: its book has no such limit.",
                notice.version,
                ", ".join(names),
            )
        return cls(notice, model, book, _stamp(notice, model))


@dataclass(frozen=True)
class State:
    """All that one answer is made from.

    A request takes it once, so that no answer mixes two models or two publications.

    `reader` and `market` are of one publication. `reader` is None while the store can't be opened or is of
    another schema than the model; `market` is then the last one that the model read.
    """

    served: ServedModel | None = None
    market: MarketSnapshot | None = None
    reader: OnlineReader | None = None


def shape_of(model: Model) -> Shape:
    """What the model needs of a given row."""
    return Shape(model.columns, model.context, model.lookback_bars, model.whole_bars)


def _stamp(notice: ChampionNotice, model: Model) -> ModelStamp:
    return ModelStamp(
        name=notice.name,
        version=notice.version,
        bundle_sha256=model.sha256,
        schema=model.schema,
        code_version=model.manifest.get("code_version", ""),
        train_window=_train_window(Path(notice.folder), model),
    )


def _train_window(folder: Path, model: Model) -> str:
    """Days from which the served experts learned, as their manifests say."""
    manifests = [
        read_json(folder / "experts" / expert.name / "manifest.json") or {} for expert in model.experts
    ]
    windows = [
        manifest["train_window"].partition("..") for manifest in manifests if manifest.get("train_window")
    ]
    return (
        f"{min(first for first, _, _ in windows)}..{max(last for _, _, last in windows)}"
        if windows
        else str(model.manifest.get("train_window", ""))
    )
