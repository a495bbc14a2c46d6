"""A registered model of order books: one expert, and all that its inputs and its orders are made by. It is
asked in the order of the samples, as a live market gives them.

Shapes: N samples of one symbol's session, A inputs, C classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from components.contracts import REGIME_COLUMN, VOLATILITY_COLUMN, require_json, verify_bundle
from components.contracts.classes import CLASS_COLUMNS
from components.contracts.documents.instruments import Instruments
from components.contracts.tick_days import INSTRUMENTS
from components.scoring.expert import ExpertAnswer, ServedExpert
from components.scoring.form import WINDOWED, Blend, ScoringError
from components.scoring.model import TICKS, one_hot
from components.scoring.parts import about
from components.scoring.stream import STREAM_FILE, Stream

if TYPE_CHECKING:
    import polars as pl

EXPERTS, LANE_FILE, CATALOG, DELAYS_FILE = "experts", "ticks.json", "catalog.json", "delays.parquet"


@dataclass(frozen=True)
class TickModel:
    """A bundle that can be asked, by one thread at a time; its folder is no longer needed. `lane` holds the
    sections of the config by which samples are made, labelled, traded and judged; `instruments` what ticks
    and lots of its symbols are worth.
    """

    sha256: str
    period: str
    horizon: int
    target: str
    lane: dict[str, Any]
    instruments: Instruments
    expert: ServedExpert
    stream: Stream | None  # asked sample by sample, where the expert looks back

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Verify the bundle and load it.

        Raises
        ------
        BundleError
            If a file is missing, surplus or changed.
        ScoringError
            If it holds a model of bars, or an expert that can't be asked sample by sample.
        """
        folder = Path(folder)
        manifest = verify_bundle(folder)
        if manifest.get("lane") != TICKS:
            raise ScoringError(
                f"{folder} holds no model of order books but one of bars, which is served: alphaloop serve."
            )
        lane = require_json(folder / LANE_FILE, remedy="Train the model again.", error=ScoringError)
        name = about(lane, folder, "expert")
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise ScoringError(
                f"{folder / LANE_FILE}: `expert` is {str(name)[:100]!r}; expected the name of a folder in"
                f" {EXPERTS}. Train the model again."
            )
        own = folder / EXPERTS / name
        expert = ServedExpert(own, threads=threads)
        said = {name: about(manifest, folder, name) for name in ("sha256", "period", "horizon", "target")}
        instruments = Instruments.read(folder / INSTRUMENTS)
        return cls(**said, lane=lane, instruments=instruments, expert=expert, stream=_stream(own, expert))

    @property
    def columns(self) -> tuple[str, ...]:
        """The inputs in their order."""
        return self.expert.form.columns

    def score(self, samples: "pl.DataFrame") -> "pl.DataFrame":
        """What the model says of the samples of one symbol's session, in their order and from its first one
        on.

        Parameters
        ----------
        samples : `timestamp`, the model's inputs, `regime_state` and `volatility_20`

        Returns
        -------
        `timestamp`, `score`, `uncertainty`, and CLASS_COLUMNS where the target is a class.

        Raises
        ------
        ScoringError
            If a column is missing.
        """
        import polars as pl

        wanted = ("timestamp", *self.columns, REGIME_COLUMN, VOLATILITY_COLUMN)
        missing = [name for name in wanted if name not in samples.columns]
        if missing:
            raise ScoringError(f"The samples lack {len(missing)} columns of the model, first {missing[0]!r}.")
        inputs_NA = samples.select(pl.col(self.columns).cast(pl.Float32)).to_numpy().astype(np.float32)
        inputs_NA[np.isinf(inputs_NA)] = np.nan
        regime_NR = one_hot(samples[REGIME_COLUMN].cast(pl.Float32).fill_null(np.nan).to_numpy())
        volatility_N = samples[VOLATILITY_COLUMN].cast(pl.Float64).fill_null(np.nan).to_numpy()
        found = self._answers(np.ascontiguousarray(inputs_NA), regime_NR, volatility_N)
        told = {"score": found.score, "uncertainty": found.uncertainty}
        if found.chances is not None:
            told |= dict(zip(CLASS_COLUMNS, found.chances.T, strict=True))
        return samples.select("timestamp").with_columns(
            pl.Series(name, values) for name, values in told.items()
        )

    def _answers(
        self, inputs_NA: np.ndarray, regime_NR: np.ndarray, volatility_N: np.ndarray
    ) -> ExpertAnswer:
        if self.stream is None or not len(inputs_NA):
            return self.expert(inputs_NA, None, regime_NR, volatility_N)
        self.stream.forget(np.array([0]))
        begun_N = np.logical_or.accumulate(np.isfinite(inputs_NA).any(axis=1)).astype(np.float32)
        # Each sample needs the state that the one before it left: this is what a live market would ask.
        said = [
            self.stream(sample=inputs_NA[n : n + 1], begun=begun_N[n : n + 1], regime=regime_NR[n : n + 1])
            for n in range(len(inputs_NA))
        ]
        found = {name: np.concatenate([one[name] for one in said]).astype(np.float64) for name in said[0]}
        return self.expert.answer(found["raw"], found.get("quantiles"), volatility_N)


def _stream(folder: Path, expert: ServedExpert) -> Stream | None:
    """The graph of an expert that looks back; ScoringError where it can't be asked sample by sample."""
    form = expert.form
    if isinstance(form, Blend) or expert.whole_bars or form.head or form.context:
        raise ScoringError(
            f"{folder}: expert {expert.name} looks across symbols, is a blend, or takes sectors or a further"
            " task, and so can't be asked sample by sample. Judge another one (tick_gates.candidate)."
        )
    if form.kind not in WINDOWED:
        return None
    if not (folder / STREAM_FILE).exists():
        raise ScoringError(
            f"{folder}: expert {expert.name} looks back over {form.lookback_bars} samples and has no"
            f" {STREAM_FILE}, so it can't be asked sample by sample. Judge another one"
            " (tick_gates.candidate), or train this one again."
        )
    return Stream(folder / STREAM_FILE, symbols=1)
