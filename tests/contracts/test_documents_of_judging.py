"""What backtest, stack, gates and registry hand over: written and read alike, unknown numbers as null, and
what a user of 0.4.0 has on disk is read.
"""

import json
import math
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from components.contracts import ContractError
from components.contracts.documents.champion import (
    ChampionRecord,
    NewestBars,
    NoChampion,
    Registration,
    Reign,
    read_champion_record,
)
from components.contracts.documents.comparison import Candidate, Comparison
from components.contracts.documents.evaluation import (
    Evaluation,
    EvaluationStamp,
    Ranking,
    WindowSpan,
    WindowSpans,
)
from components.contracts.documents.summary import Attainable, ModelFigures, RunSummary
from components.contracts.documents.trials import Scored, ScoredModel, Trials
from components.contracts.documents.verdict import Gate, Verdict, VerdictStamp

# What older documents lack, and mean by it that there is none.
LATER = {"luck", "cross_validated", "further_tasks", "market", "guests", "further"}
MOMENT = datetime(2024, 1, 31, 21, tzinfo=UTC)
REIGN = Reign(version=1, previous=None, when=MOMENT, who="ada", why="first", kind="promotion")
GATE = Gate(name="drift", value=None, threshold=0.25, comparison="<=", passed=False, reason="r")


def champion() -> ChampionRecord:
    return ChampionRecord(
        version=1,
        run_id="r",
        bundle_sha256="b",
        inputs={"labels": "1"},
        horizon=5,
        known_until=MOMENT,
        train_window="2023-01-01..2024-01-20",
        history=[REIGN],
        newest=NewestBars(bars=1, first=MOMENT, last=MOMENT, not_scored=None),
    )


def registration() -> Registration:
    return Registration(
        status="registered",
        name="demo",
        version=1,
        aliases=["champion"],
        run_id="r",
        bundle_sha256="b",
        trials=3,
        champion_before=None,
        champion_after=1,
        reason="better",
        history=[REIGN],
        tracking_uri="sqlite:///mlflow.db",
    )


def evaluation() -> Evaluation:
    span = WindowSpan(start="2024-01-01T00:00:00Z", end="2024-02-01T00:00:00Z", bars=30)
    return Evaluation(
        horizon=5,
        period="1d",
        target="log_return",
        bars_per_year=252.0,
        cost_bps_per_side=10.0,
        entry="next_open",
        strategies=["long_short"],
        windows=WindowSpans(validation=span, test=span, backtest=span),
        experts={},
        stamp=EvaluationStamp(code_version="c", config_hash="h", returns_sha256="s"),
    )


def verdict() -> Verdict:
    return Verdict(
        candidate="stack",
        champion_version=None,
        approved=False,
        beats_champion=True,
        reason="r",
        gates=(GATE,),
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )


def summary() -> RunSummary:
    row = ModelFigures(
        name="stack",
        ic=0.1,
        rank_ic=None,
        icir=None,
        t=1.0,
        sharpe_gross=1.0,
        sharpe_net=0.5,
        sharpe_net_interval=(None, 1.0),
        max_drawdown=0.1,
        annual_turnover=30.0,
    )
    return RunSummary(
        name="demo",
        seed=1,
        test_window="w",
        horizon=5,
        target="log_return",
        cost_bps=10.0,
        models=[row],
        approved=False,
        reason="r",
        gates=(GATE,),
        registration=registration(),
        truth=Attainable(attainable_ic=0.1, stack_ic=0.05, recovered_share=0.5),
    )


def comparison() -> Comparison:
    return Comparison(
        chosen="elasticnet",
        reason="r",
        level=0.05,
        candidates=[
            Candidate(
                name="elasticnet",
                rank_ic=0.1,
                difference=0.01,
                t=math.nan,
                p=None,
                bars=90,
                folds=5,
                folds_better=3,
                rmse=math.inf,
            )
        ],
        left_out={"mlp": "r"},
        validation_start="2020",
        validation_end="2021",
        experts=["median"],
        weights={},
    )


def trials() -> Trials:
    model = ScoredModel(
        key="k",
        name="stack",
        also=("equal_weights",),
        kind="stack",
        target="log_return",
        horizon=5,
        net_return=[None, 0.1],
        ic=[],
        rank_ic=[0.1, None],
        bars=1,
        sharpe=math.nan,
        skewness=0.0,
        kurtosis=3.0,
        mean_rank_ic=0.1,
    )
    own = Scored(
        run="",
        period="1d",
        test_start="2024-01-01T00:00:00Z",
        test_end="2024-01-02T00:00:00Z",
        bars_per_year=252.0,
        timestamps=["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"],
        models=(model,),
    )
    return Trials(scored=(own,), unseen=2)


DOCUMENTS = [champion, registration, evaluation, verdict, summary, comparison, trials]


@pytest.mark.parametrize("make", DOCUMENTS)
def test_what_was_written_is_read(tmp_path, make):
    made = make()
    made.write(tmp_path / "a.json")
    assert type(made).read(tmp_path / "a.json") == made


@pytest.mark.parametrize("make", DOCUMENTS)
def test_documents_of_before_formats_are_read(tmp_path, make):
    """0.4.0 wrote no format into champion.json, summary.json, the registration and the comparison."""
    values = make().model_dump(mode="json")
    del values["format"]
    values.get("registration", {}).pop("format", None)
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert type(make()).read(tmp_path / "a.json") == make()


@pytest.mark.parametrize("make", DOCUMENTS)
def test_every_key_is_asked_for_by_name_and_file(tmp_path, make):
    values = make().model_dump(mode="json")
    for key in values.keys() - {"format", *LATER}:
        (tmp_path / "a.json").write_text(json.dumps({k: v for k, v in values.items() if k != key}))
        with pytest.raises(ContractError, match=rf"(?s)a\.json .*  {key}: Field required"):
            type(make()).read(tmp_path / "a.json")


def test_numbers_that_json_does_not_know_are_none_and_counts_are_numbers():
    known = {"mean": math.nan, "std": math.inf, "icir": 1, "t_hac": None, "hit_share": 0.5}
    ranking = Ranking(**known, bars=3)
    assert (ranking.mean, ranking.std, ranking.icir) == (None, None, 1.0)
    with pytest.raises(ValidationError, match="bars"):
        Ranking(**known, bars=None)


def test_moments_keep_their_offset(tmp_path):
    champion().write(tmp_path / "champion.json")
    values = json.loads((tmp_path / "champion.json").read_text())
    assert values["known_until"] == "2024-01-31T21:00:00+00:00"
    assert values["history"][0]["when"] == "2024-01-31T21:00:00+00:00"


def test_an_entry_of_the_oldest_histories_is_a_promotion():
    old = '{"version": 2, "previous": 1, "when": "2024-01-31T21:00:00+00:00", "who": "ada", "why": "w"}'
    assert Reign.model_validate_json(old).kind == "promotion"


def test_no_champion_is_no_champion_without_a_version(tmp_path):
    path = tmp_path / "champion.json"
    NoChampion().write(path)
    assert ChampionRecord.find(path) is None
    assert read_champion_record(path).version is None
    champion().write(path)
    assert ChampionRecord.find(path) == champion()
    path.write_text('{"version": null, "run_id": "r"}')
    with pytest.raises(ContractError, match="run_id"):
        ChampionRecord.find(path)
    path.write_text("{}")
    with pytest.raises(ContractError, match="version: Field required"):
        ChampionRecord.find(path)
