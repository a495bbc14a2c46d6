"""Every model that was scored on a test window leaves its returns in the registry, and the next run finds
them: once each, whatever run, name, machine or target they were of, and none of another market.
"""

import json
import shutil
from datetime import UTC, datetime
from io import StringIO

import numpy as np
import polars as pl
import pytest
from made_documents import evaluation, nothing_scored, verdict
from rich.console import Console
from test_registry import candidate

from components.contracts import TIME, ContractError
from components.contracts.documents.evaluation import Daily, Measurement, ModelEvaluation
from components.contracts.documents.market_sketch import UNKNOWN_MARKET, MarketSketch
from components.contracts.documents.trials import Scored, Trials
from components.metrics import market_sketch
from components.registry.client import RegistryError, answered, open_registry
from components.registry.config import Settings
from components.registry.gathered import gather_trials, keep_variants
from components.registry.record import record
from components.registry.scored import SERIES, scored_models, scored_together
from pipelines.commands.trials import trials_table
from pipelines.config import load_config

BARS = 40
DAYS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, BARS - 31, tzinfo=UTC).replace(month=2),
    "1d",
    time_unit="us",
    eager=True,
).cast(TIME)
WINDOW = ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")
LATER = ("2024-01-20T00:00:00Z", "2024-03-01T00:00:00Z")
APART = ("2024-02-02T00:00:00Z", "2024-03-01T00:00:00Z")


def models(seeds: dict[str, int], test: tuple[str, str] = WINDOW, **change) -> Scored:
    """Models whose returns and coefficients are noise of a seed each."""
    series = {}
    for name, seed in seeds.items():
        random = np.random.default_rng(seed)
        series[name] = pl.DataFrame(
            {
                "timestamp": DAYS,
                "net_return": random.normal(0.001, 0.01, BARS),
                "ic": random.normal(0, 0.1, BARS),
                "rank_ic": random.normal(0, 0.1, BARS),
            }
        )
    about = {"period": "1d", "bars_per_year": 252.0, "task": ("log_return", 5)}
    kinds = {name: "stack" if name == "stack" else "expert" for name in seeds}
    return scored_together(series, kinds, test=test, **{**about, **change})


def prices(seed: int, first: int = 0) -> MarketSketch:
    """Of ten names on DAYS."""
    random = np.random.default_rng(seed)
    close = np.exp(np.cumsum(random.normal(0, 0.02, (BARS, 10)), axis=0))
    table = pl.DataFrame({"timestamp": DAYS, **{f"S{name}": close[:, name] for name in range(10)}})
    return market_sketch(table[first:].unpivot(index="timestamp", variable_name="symbol", value_name="close"))


def names(found: Trials) -> list[list[str]]:
    return [[model.name for model in together.models] for together in found.scored]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry in which two runs were judged, the second with one expert of the first."""
    root = tmp_path_factory.mktemp("trials")
    first, second = models({"stack": 1, "a": 2, "b": 3}), models({"stack": 4, "a": 2}, LATER)
    for place, scored in enumerate((first, second)):
        made = candidate(
            root / str(place), 0.1 * place, verdict(False), (scored.test_start, scored.test_end), scored
        )
        record(Settings(), "demo", root / "home", made)
    return root / "home"


def test_without_a_registry_the_runs_own_models_are_all_trials(tmp_path):
    own = models({"stack": 1, "a": 2})
    assert gather_trials(Settings(), "demo", tmp_path, own) == Trials(scored=(own,), unseen=0)
    assert not list(tmp_path.iterdir())


def test_models_of_all_runs_are_gathered_and_one_that_was_scored_twice_once(home):
    found = gather_trials(Settings(), "demo", home, models({"stack": 9, "b": 3}))
    assert names(found) == [["stack", "b"], ["stack", "a"], ["stack"]]
    assert found.unseen == 0
    assert [bool(together.run) for together in found.scored] == [False, True, True]
    again = gather_trials(Settings(), "demo", home, models({"stack": 1, "a": 2, "b": 3}))
    assert names(again) == [["stack", "a", "b"], ["stack"]]


def test_what_is_gathered_is_what_was_scored(home):
    kept = gather_trials(Settings(), "demo", home, models({"stack": 9})).scored[1]
    expected = models({"stack": 1, "a": 2, "b": 3})
    assert kept.models == expected.models
    assert kept.timestamps == expected.timestamps


def test_another_target_on_the_same_window_is_a_trial_too_and_another_window_is_none(home):
    of_another = models({"stack": 9}, task=("sector_neutral_return", 10))
    assert len(gather_trials(Settings(), "demo", home, of_another).models) == 5
    apart = gather_trials(Settings(), "demo", home, models({"stack": 9}, APART))
    assert names(apart) == [["stack"], ["stack", "a"]], "the second run's window reaches into it"
    hourly = gather_trials(Settings(), "demo", home, models({"stack": 9}, period="1h"))
    assert names(hourly) == [["stack"]]
    assert names(gather_trials(Settings(), "other", home, models({"stack": 9}))) == [["stack"]]


def test_another_name_escapes_nothing_and_another_market_is_not_mixed_in(tmp_path):
    """Three names, two of them of one market; the third a market of the same days."""
    for number, (name, market) in enumerate(
        (("first", prices(1)), ("second", prices(1)), ("other", prices(2)))
    ):
        scored = models({"stack": number, "a": 10 + number}, market=market)
        record(
            Settings(),
            name,
            tmp_path / "home",
            candidate(tmp_path / name, 0.1, verdict(False), WINDOW, scored),
        )
    variants = models({"wide": 7}, market=prices(1))
    keep_variants(Settings(), "first", tmp_path / "home", variants, "ablation of lightgbm")

    def found(name: str, market: MarketSketch, **change) -> list[list[str]]:
        own = models({"stack": 9}, market=market, **change)
        return names(gather_trials(Settings(), name, tmp_path / "home", own))

    of_the_market = [["stack"], ["stack", "a"], ["stack", "a"], ["wide"]]
    assert found("first", prices(1)) == of_the_market
    assert found("renamed", prices(1)) == of_the_market
    assert found("renamed", prices(1, first=15), test=LATER) == of_the_market, "later bars of it"
    assert found("first", prices(2)) == [["stack"], ["stack", "a"]], "the name was used for another market"
    assert found("first", prices(3)) == [["stack"]]
    assert found("first", UNKNOWN_MARKET) == [["stack"], ["stack", "a"], ["wide"]], "told by its name alone"


def test_runs_that_others_keep_on_the_server_are_no_trials(tmp_path):
    client = open_registry(Settings(), tmp_path)
    theirs = client.create_experiment("theirs")
    for tags in ({}, {"period": "1d"}, {"period": "1d", "test_start": "soon"}):
        client.set_terminated(client.create_run(theirs, tags=tags).info.run_id)
    own = models({"stack": 9}, market=prices(1))
    assert gather_trials(Settings(), "demo", tmp_path, own) == Trials(scored=(own,), unseen=0)


def test_a_run_whose_bundle_was_recorded_before_adds_what_is_new(home, tmp_path):
    """Other costs: the same model, another evaluation. And a run of before returns were kept."""
    own = models({"stack": 5})
    made = [
        candidate(tmp_path / str(seed), 0.3, verdict(), WINDOW, models({"stack": seed})) for seed in (1, 2)
    ]
    told = [record(Settings(), "costs", home, one) for one in (*made, made[0])]
    assert len({one.run_id for one in told}) == 1
    assert names(gather_trials(Settings(), "costs", home, own)) == [["stack"]] * 3
    client = open_registry(Settings(), home)
    old = client.create_run(
        client.get_experiment_by_name("costs").experiment_id,
        tags={
            "period": "1d",
            "target": "log_return",
            "test_start": WINDOW[0],
            "test_end": WINDOW[1],
            "bundle_sha256": "f" * 64,
        },
    ).info.run_id
    assert gather_trials(Settings(), "costs", home, own).unseen == 0, "it is being recorded"
    client.set_terminated(old)
    assert gather_trials(Settings(), "costs", home, own).unseen == 1


def test_trials_that_cannot_be_read_are_logged_and_count_as_unseen(home, tmp_path, caplog):
    broken = shutil.copytree(home, tmp_path / "home")
    experiment = open_registry(Settings(), broken).get_experiment_by_name("demo").experiment_id
    run = open_registry(Settings(), broken).search_runs([experiment])[0].info.run_id
    file = next(broken.glob(f"artifacts/{run}/artifacts/trials/*.json"))
    whole = json.loads(file.read_text())
    for damage in ({"format": 3}, {"scored": []}):
        caplog.clear()
        file.write_text(json.dumps(whole | damage))
        found = gather_trials(Settings(), "demo", broken, models({"stack": 9}))
        assert found.unseen == 1
        assert "keeps no readable trials" in caplog.text
    assert "format" in caplog.text


def test_variants_are_trials_without_being_judged_models(home, tmp_path):
    place = shutil.copytree(home, tmp_path / "home")
    series = {"wide": pl.DataFrame({"timestamp": DAYS, "rank_ic": np.linspace(0, 0.1, BARS)})}
    about = {"period": "1d", "test": WINDOW, "bars_per_year": 252.0, "task": ("log_return", 5)}
    variants = scored_together(series, {"wide": "variant"}, **about)
    for _ in range(2):
        keep_variants(Settings(), "demo", place, variants, "ablation of lightgbm")
    found = gather_trials(Settings(), "demo", place, models({"stack": 9}))
    assert names(found)[-1] == ["wide"]
    assert found.unseen == 0
    assert found.models[-1].net_return == []
    assert found.models[-1].mean_rank_ic == pytest.approx(0.05)
    made = candidate(tmp_path / "next", 0.9, verdict(), WINDOW, nothing_scored(*WINDOW))
    assert record(Settings(), "demo", place, made).trials == 3


def shown(config) -> str:
    said = StringIO()
    Console(file=said, width=200).print(trials_table(config))
    return said.getvalue()


def test_the_trials_of_the_newest_window_are_shown(home, tmp_path):
    shutil.copytree(home, tmp_path / "registry")
    config = load_config("pipelines/configs/demo.yaml", [f"run.folder={tmp_path}"])
    said = shown(config)
    lines = [line for line in said.splitlines() if "log_return" not in line and "│" in line]
    assert "test window 2024-01-20 to 2024-03-01 of demo" in said
    assert len(lines) == 4, "the stack and an expert of the second run, and what only the first had"
    assert [line.split("│")[2].strip() for line in lines].count("stack") == 2
    assert "4 models. Without skill the best of so many" in said
    with pytest.raises(RegistryError, match="No model of nobody in the registry keeps the returns"):
        trials_table(config.model_copy(update={"run": config.run.model_copy(update={"name": "nobody"})}))


def test_a_registry_that_does_not_answer_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with pytest.raises(RegistryError, match="did not answer"), answered():
        gather_trials(Settings(tracking_uri="http://127.0.0.1:9"), "demo", tmp_path, models({"stack": 1}))


def test_moments_and_keys():
    """The moments by their definition; what differs in the tenth digit is the same model."""
    own = models({"stack": 1, "twin": 1, "b": 3})
    assert [(model.name, model.also) for model in own.models] == [("stack", ("twin",)), ("b", ())]
    values = np.random.default_rng(1).normal(0.001, 0.01, BARS)
    around = values - values.mean()
    found = own.models[0]
    assert found.sharpe == pytest.approx(values.mean() / np.sqrt((around**2).sum() / (BARS - 1)), abs=1e-6)
    assert found.skewness == pytest.approx((around**3).mean() / (around**2).mean() ** 1.5, abs=1e-5)
    assert found.kurtosis == pytest.approx((around**4).mean() / (around**2).mean() ** 2, abs=1e-5)
    assert found.bars == BARS


def frame(name: str, values: list[float], window: str = "backtest", strategy: str = "long_short"):
    return pl.DataFrame({"timestamp": DAYS[: len(values)], "net_return": values}).with_columns(
        expert=pl.lit(name), window=pl.lit(window), strategy=pl.lit(strategy)
    )


def measured(ranks: dict[str, list[float | None]]):
    """An evaluation whose models have these coefficients on the first days."""
    moments = DAYS.dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list()
    tested = {
        name: ModelEvaluation(
            validation=None,
            test=Measurement.model_construct(
                daily=Daily(timestamp=moments[: len(values)], ic=values, rank_ic=values)
            ),
        )
        for name, values in ranks.items()
    }
    return evaluation().model_copy(
        update={"experts": {**tested, "late": ModelEvaluation(validation=None, test=None)}}
    )


def test_a_run_scores_every_model_that_has_test_results():
    """Returns of validation and of long_only are no trial; a bar may have a return without a coefficient."""
    gains = [0.01, -0.02, 0.03]
    returns = pl.concat(
        [
            frame("stack", gains),
            frame("stack", [9.0], window="validation"),
            frame("stack", [9.0], strategy="long_only"),
            frame("z_lightgbm", gains),
            frame("equal_weights", [0.0, 0.01, 0.02]),
            frame("ridge", [0.0, 0.0, 0.0]),
            frame("universe", [1.0, 1.0, 1.0]),
        ]
    )
    ranks = {"stack": [0.1, None], "z_lightgbm": [0.1, None], "equal_weights": [0.2, 0.1], "ridge": [None]}
    found = scored_models(measured(ranks), returns)
    told = [(model.name, model.kind) for model in found.models]
    assert told == [("stack", "stack"), ("equal_weights", "combiner"), ("ridge", "expert")]
    stack, _, ridge = found.models
    assert stack.net_return == gains
    assert stack.rank_ic == [0.1, None, None]
    assert (ridge.sharpe, ridge.bars, ridge.mean_rank_ic) == (None, 3, None)
    assert len(found.timestamps) == 3
    with pytest.raises(ContractError, match="lack net_return"):
        scored_models(measured(ranks), returns.drop("net_return"))


def test_series_are_packed_and_lists_of_numbers_of_format_1_are_read(tmp_path):
    own = models({"stack": 1})
    holed = [None, 1e-9, -0.25, *own.models[0].net_return[3:]]
    own = own.model_copy(update={"models": (own.models[0].model_copy(update={"net_return": holed}),)})
    Trials(scored=(own,), unseen=2).write(tmp_path / "own.json")
    assert Trials.read(tmp_path / "own.json") == Trials(scored=(own,), unseen=2)
    told = json.loads((tmp_path / "own.json").read_text())
    assert isinstance(told["scored"][0]["models"][0]["net_return"], str)
    told["format"] = 1
    told["scored"][0]["models"][0].update({name: getattr(own.models[0], name) for name in SERIES})
    del told["scored"][0]["market"]
    (tmp_path / "old.json").write_text(json.dumps(told))
    assert Trials.read(tmp_path / "old.json").scored == (own,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda own: own["models"][0].update(ic="AAAA"),
            "models.0.ic: Value error, is no packed series",
        ),
        (lambda own: own["models"][0].update(ic="not packed"), "is no packed series"),
        (lambda own: own["models"][0].update(ic=["0.1"] * BARS), "Input should be a valid number"),
        (lambda own: own["models"][0].update(net_return=[0.1]), "timestamps, but stack has another number"),
        (lambda own: own.update(timestamps=own["timestamps"][:1] * BARS), "timestamps do not rise"),
        (lambda own: own.update(bars_per_year=0.0), "bars_per_year: Input should be greater than 0"),
    ],
)
def test_series_that_do_not_fit_their_moments_are_no_trials(change, said, tmp_path):
    Trials(scored=(models({"stack": 1}),), unseen=0).write(tmp_path / "own.json")
    told = json.loads((tmp_path / "own.json").read_text())
    change(told["scored"][0])
    (tmp_path / "own.json").write_text(json.dumps(told))
    with pytest.raises(ContractError, match=said):
        Trials.read(tmp_path / "own.json")
