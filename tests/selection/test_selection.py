"""Selection as a whole: what is planted is found, what is not is not, and nothing after a fold's training
bars has a say.
"""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from components.contracts import ContractError
from components.selection.config import FULL
from components.selection.errors import SelectionError
from components.selection.evidence import EVIDENCE
from components.selection.grid import era_length
from components.selection.purpose import Purpose
from components.selection.rows import read_rows
from components.selection.select import select_inputs
from components.timeline import Settings as Timeline
from components.timeline import TimelineError, cross_validated_splits, resolve_windows, walk_forward
from tests.selection.made_up import HORIZON, SETTINGS, TIMELINE, catalog, choose, decisions, market, noise

TRAIN_END, FIRST_PREDICTED = 291, 360


def folds_of(training):
    calendar = training["timestamp"].unique().sort()
    return calendar, walk_forward(resolve_windows(calendar, TIMELINE), TIMELINE, longest_horizon=HORIZON)


def from_bar(training, bar):
    return training["timestamp"] >= training["timestamp"].unique().sort()[bar]


@pytest.fixture(scope="module")
def planted():
    return choose(market(1, strength=0.15, inputs=10))


def test_a_planted_factor_is_core_in_every_fold_and_leads_the_list(planted):
    assert {decisions(planted, fold)["noise_00"] for fold in planted.chosen.by_fold} == {"core"}
    assert [one.factor for one in planted.overview.core] == ["noise_00"]


def test_folds_are_those_of_the_walk_forward_and_no_list_is_too_short(planted):
    _, folds = folds_of(market(1, inputs=10)[0])
    assert list(planted.chosen.by_fold) == [fold.name for fold in folds]
    assert all(len(names) >= SETTINGS.fewest_inputs for names in planted.chosen.by_fold.values())
    assert planted.evidence.columns == list(EVIDENCE.columns)
    assert len(planted.evidence) == 10 * len(folds)
    assert set(planted.overview.context) == {"regime_state", "volatility_20"}


def test_same_seed_same_choice_and_evidence(planted):
    again = choose(market(1, strength=0.15, inputs=10))
    assert again.chosen == planted.chosen
    assert again.evidence.equals(planted.evidence)


def test_a_factor_that_knows_only_the_predicted_bars_is_not_chosen():
    def leak(label, rng):
        values = noise(rng, *label.shape)
        values[FIRST_PREDICTED:] = label[FIRST_PREDICTED:]
        return values

    found = choose(market(2, strength=0.15, extra={"leak": leak}))
    assert decisions(found, "fold_00")["leak"] not in ("core", "plus")
    assert decisions(found, "final")["leak"] in (
        "core",
        "plus",
    ), "the served model's training bars hold the leak, so there it must be found"


def test_what_comes_after_the_training_bars_changes_no_choice():
    training, labels, entries = market(
        3, strength=0.1, extra={"knows": lambda label, rng: label + 2 * rng.standard_normal(label.shape)}
    )
    calendar, folds = folds_of(training)
    before = choose((training, labels, entries))
    for fold in folds[:3]:
        known = int(fold.early_stopping[0])
        assert known >= int(fold.train[-1]) + HORIZON + 1
        rng, later = np.random.default_rng(9), from_bar(training, known)
        inputs = [entry.column for entry in entries]
        changed = training.with_columns(
            pl.when(later)
            .then(pl.Series(rng.standard_normal(len(training)).astype(np.float32)))
            .otherwise(pl.col(name))
            .alias(name)
            for name in inputs
        )
        after_train = labels["timestamp"] > calendar[int(fold.train[-1])]
        moved = labels.with_columns(
            pl.when(after_train & pl.col("label_end").is_not_null())
            .then(pl.Series(rng.standard_normal(len(labels))))
            .otherwise("sector_neutral_return")
            .alias("sector_neutral_return")
        )
        after = choose((changed, moved, entries))
        assert after.chosen.by_fold[fold.name] == before.chosen.by_fold[fold.name]
        assert after.evidence.filter(pl.col("fold") == fold.name).equals(
            before.evidence.filter(pl.col("fold") == fold.name)
        )
        assert not after.evidence.filter(pl.col("fold") == "final").equals(
            before.evidence.filter(pl.col("fold") == "final")
        ), "the change must reach the folds that may see it"


def test_one_label_inside_the_training_bars_does_change_the_evidence():
    training, labels, entries = market(3, strength=0.1)
    early = pl.int_range(pl.len()) < 40 * 200
    moved = labels.with_columns(
        pl.when(early)
        .then(-pl.col("sector_neutral_return"))
        .otherwise("sector_neutral_return")
        .alias("sector_neutral_return")
    )
    one, two = (
        choose(tables).evidence.filter(pl.col("fold") == "fold_00")
        for tables in ((training, labels, entries), (training, moved, entries))
    )
    assert not one.equals(two)


def test_in_a_market_without_alpha_nothing_is_core():
    counted, fits = Counter(), 0
    for seed in range(5):
        found = choose(market(100 + seed, bars=500, symbols=30, inputs=12))
        counted.update(found.evidence["decision"].to_list())
        fits += len(found.evidence)
        assert not found.overview.core
    # False discoveries are controlled at 10 % of what is discovered; without any truth a fold should hold one
    # in at most ten folds.
    assert counted["core"] <= 0.1 * fits / 12
    assert counted["plus"] <= 1.5 * SETTINGS.plus_chance * fits


def test_the_simulators_planted_signals_are_found():
    from components.features.build import build_factors
    from components.features.catalog import catalog as feature_catalog
    from components.features.config import Groups
    from components.features.config import Settings as Features
    from components.labels.build import build_labels
    from components.labels.config import Settings as Labels
    from components.market.config import Settings as Market
    from components.market.simulator import simulate
    from components.market.simulator_config import SimulatorSettings

    simulated = simulate(
        Market(
            planted_ic=0.15, simulator=SimulatorSettings(symbols=60, bars=650, planted={"reversal_5": 1.0})
        ),
        5,
    )
    groups = {name: name in ("mean_reversion", "volatility") for name in Groups.model_fields}
    features = Features(groups=Groups(**groups))
    panel = simulated.panel.sort("timestamp", "symbol")
    factors = build_factors(panel, features)
    entries = [entry for entry in feature_catalog(features, "1d") if entry.column in factors.columns]
    inputs = [entry.column for entry in entries if entry.role == "input"]
    training = factors.join(
        panel.select("timestamp", "symbol", "sector"), on=("timestamp", "symbol"), maintain_order="left"
    ).select("timestamp", "symbol", "sector", *inputs, "regime_state", "volatility_20")
    labels = build_labels(panel, Labels(horizons=(HORIZON,), primary_horizon=HORIZON))
    found = choose((training.with_columns(pl.col(inputs).cast(pl.Float32)), labels, entries))
    # What is planted is the reversal against the sector; its relatives carry a part of it and are not more
    # than plus.
    for fold in ("fold_00", "final"):
        assert [name for name, decision in decisions(found, fold).items() if decision == "core"] == [
            "sector_relative_reversal_5_rank"
        ]
    assert found.overview.core[0].factor == "sector_relative_reversal_5_rank"
    assert found.overview.forward[-1].subset > 0.05


def test_copies_share_a_cluster_and_one_of_them_stays():
    training, labels, entries = market(4, strength=0.15)
    copied = training.with_columns(
        (-pl.col("noise_00")).alias("turned"), (pl.col("noise_00") * 2 + 1).alias("scaled")
    )
    found = choose((copied, labels, [*entries, *catalog(["turned", "scaled"])]))
    for fold in found.chosen.by_fold:
        rows = found.evidence.filter(
            (pl.col("fold") == fold) & pl.col("factor").is_in(["noise_00", "turned", "scaled"])
        )
        assert rows["cluster"].n_unique() == 1
        assert sorted(rows["decision"].to_list()) == ["core", "duplicate", "duplicate"]


def test_constant_empty_and_sparse_columns_are_dropped_with_the_reason():
    training, labels, entries = market(5, inputs=10)
    spoiled = training.with_columns(
        pl.lit(2.5, dtype=pl.Float32).alias("constant"),
        pl.lit(None, dtype=pl.Float32).alias("empty"),
        pl.when(pl.int_range(pl.len()) % 3 == 0).then("noise_00").alias("sparse"),
        pl.lit(float("inf"), dtype=pl.Float32).alias("infinite"),
    )
    bad = ["constant", "empty", "sparse", "infinite"]
    found = choose((spoiled, labels, [*entries, *catalog(bad)]))
    assert {decisions(found, "fold_00")[name] for name in bad} == {"no data"}
    assert not {name for names in found.chosen.by_fold.values() for name in names} & set(bad)
    reasons = dict(found.evidence.filter(pl.col("fold") == "fold_00").select("factor", "reason").iter_rows())
    assert "33% of rows hold a value" in reasons["sparse"]
    assert "does not vary" in reasons["constant"]


def test_fewer_usable_inputs_than_wanted_are_all_returned_but_none_at_all_is_an_error():
    training, labels, entries = market(6, inputs=2)
    assert {len(names) for names in choose((training, labels, entries)).chosen.by_fold.values()} == {2}
    flat = training.with_columns(
        pl.lit(1.0, dtype=pl.Float32).alias(name) for name in ("noise_00", "noise_01")
    )
    with pytest.raises(SelectionError, match="none of the 2 inputs varies"):
        choose((flat, labels, entries))


@pytest.mark.parametrize("family", ["tree", "linear"])
def test_full_mode_finds_the_planted_factor_with_every_method(family):
    effort = FULL.model_copy(
        update={
            "rounds": 12,
            "shap_rows": 200,
            "permutation_repeats": 2,
            "boruta_rows": 1_000,
            "boruta_rounds": 10,
            "genetic_seeds": 2,
            "usual_windows": 1,
            "flips": 4,
        }
    )
    settings = SETTINGS.model_copy(update={"mode": "full", "full": effort})
    tables = market(7, bars=450, symbols=30, strength=0.25)
    found = choose(tables, settings, family=family)
    row = found.evidence.filter((pl.col("fold") == "final") & (pl.col("factor") == "noise_00")).row(
        0, named=True
    )
    assert row["decision"] == "core"
    for method in (
        "rolling_ic",
        "mutual_information",
        "importance",
        "shap",
        "linear_path",
        "permutation",
        "boruta",
        "elimination",
        "genetic",
    ):
        assert row[f"votes_{method}"] > 0.4, method
    others = found.evidence.filter((pl.col("fold") == "final") & (pl.col("factor") != "noise_00"))
    assert others.select(pl.col("^votes_.*$").mean()).transpose().to_series().drop_nulls().max() < 0.4
    assert row["permutation_low"] > 0
    assert len(found.overview.adversarial) == len(found.chosen.by_fold)
    again = choose(tables, settings, family=family)
    assert again.evidence.equals(found.evidence)


def test_the_forward_comparison_meets_validation_bars_only():
    training, labels, entries = market(9, strength=0.15)
    calendar, folds = folds_of(training)
    before = choose((training, labels, entries))
    test_begins = int(folds[2].predict[0])
    assert [one.fold for one in before.overview.forward] == ["fold_00", "fold_01", "all"]
    rng = np.random.default_rng(0)
    later = labels["timestamp"] >= calendar[test_begins]
    moved = labels.with_columns(
        pl.when(later & pl.col("label_end").is_not_null())
        .then(pl.Series(rng.standard_normal(len(labels))))
        .otherwise("sector_neutral_return")
        .alias("sector_neutral_return")
    )
    assert choose((training, moved, entries)).overview.forward == before.overview.forward
    worse = before.overview.forward[0]
    assert worse.low <= worse.difference <= worse.high


def test_a_rolling_window_counts_its_own_eras_only():
    timeline = TIMELINE.model_copy(update={"train_bars": 330})
    training, labels, entries = market(10, bars=700, strength=0.15)
    before = choose((training, labels, entries), timeline=timeline)
    _, folds = (
        training["timestamp"].unique().sort(),
        walk_forward(
            resolve_windows(training["timestamp"].unique().sort(), timeline),
            timeline,
            longest_horizon=HORIZON,
        ),
    )
    last = folds[-1]
    assert int(last.train[0]) > 0
    old = ~from_bar(training, int(last.train[0]))
    changed = training.with_columns(
        pl.when(old).then(-(pl.col(entry.column) ** 3)).otherwise(pl.col(entry.column)).alias(entry.column)
        for entry in entries
    )
    after = choose((changed, labels, entries), timeline=timeline)
    assert after.evidence.filter(pl.col("fold") == "final").equals(
        before.evidence.filter(pl.col("fold") == "final")
    )
    assert not after.evidence.filter(pl.col("fold") == "fold_00").equals(
        before.evidence.filter(pl.col("fold") == "fold_00")
    )


def test_kind_errors_say_what_to_do():
    training, labels, entries = market(11, bars=300, symbols=30)
    with pytest.raises(SelectionError, match="mode is off"):
        choose((training, labels, entries), SETTINGS.model_copy(update={"mode": "off"}))
    with pytest.raises(ContractError, match="no target 'profit'"):
        choose((training, labels, entries), target="profit")
    with pytest.raises(ContractError, match="no rows of horizon 3"):
        choose((training, labels, entries), horizon=3)
    with pytest.raises(ContractError, match="no such column"):
        choose((training.drop("noise_01"), labels, entries))
    with pytest.raises(ContractError, match="not sorted"):
        choose((training.reverse(), labels, entries))
    few = training.filter(pl.col("symbol").is_in(["S00", "S01", "S02"]))
    with pytest.raises(SelectionError, match="holds 3 symbols; at least 5"):
        choose((few, labels, entries))
    with pytest.raises(SelectionError, match="The shortest training window holds"):
        choose(market(11, bars=180, symbols=10))


def test_a_label_that_became_known_late_is_refused():
    training, labels, entries = market(12, bars=500, symbols=20)
    calendar, folds = folds_of(training)
    late = labels.with_columns(
        pl.when((pl.col("timestamp") == calendar[100]) & (pl.col("symbol") == "S01"))
        .then(pl.lit(calendar[int(folds[0].early_stopping[0]) + 3]))
        .otherwise("label_end")
        .alias("label_end")
    )
    with pytest.raises(TimelineError, match="became known after"):
        choose((training, late, entries))


def test_rich_inputs_are_seen_by_rich_experts_only():
    training, labels, entries = market(13, bars=500, symbols=20, inputs=3)
    rich = [*entries[:2], entries[2].__class__(**{**entries[2].__dict__, "modality": "rich"})]
    assert read_rows(training, labels, rich, Purpose("tree", HORIZON, "log_return", 0, "base")).names == (
        "noise_00",
        "noise_01",
    )
    assert read_rows(training, labels, rich, Purpose("tree", HORIZON, "log_return", 0, "rich")).names == (
        "noise_00",
        "noise_01",
        "noise_02",
    )


def test_eras_shrink_until_the_shortest_window_holds_enough():
    _, folds = folds_of(market(1, inputs=1)[0])
    assert era_length(folds, SETTINGS, HORIZON, 8) == TRAIN_END // SETTINGS.fewest_eras
    assert callable(select_inputs)
    assert Timeline().purge_bars == 11


CROSSED = TIMELINE.model_copy(update={"scheme": "combinatorial", "groups": 4, "test_groups": 2})
FEW = SETTINGS.model_copy(update={"fewest_inputs": 1})
# The second of four groups of the bars before the test window.
SECOND = (159, 318)


def right_in_the_second_group(label, rng):
    """Noise, but for the bars of one group, in which it all but knows the label."""
    values = noise(rng, *label.shape)
    values[slice(*SECOND)] = (label + 0.5 * rng.standard_normal(label.shape))[slice(*SECOND)]
    return values


@pytest.fixture(scope="module")
def in_splits():
    """Tables, and what was chosen in six splits, each of which tests two of the four groups."""
    tables = market(
        5, bars=800, symbols=20, inputs=5, strength=0.2, extra={"local": right_in_the_second_group}
    )
    return tables, choose(tables, FEW, CROSSED)


def test_inputs_of_a_split_are_chosen_without_the_groups_that_it_tests(in_splits):
    """Planted: other labels in the second group, and in the bars that are left out beside it: what is chosen
    for the splits that test it stays, for the others it moves.
    """
    (training_set, labels, entries), found = in_splits
    calendar = training_set["timestamp"].unique().sort()
    splits = cross_validated_splits(resolve_windows(calendar, CROSSED), CROSSED, longest_horizon=HORIZON)
    assert splits.groups[1] == SECOND
    beside = pl.col("timestamp").is_between(calendar[SECOND[0] - 6], calendar[SECOND[1] + 6 + 2 - 1])
    turned = labels.with_columns(
        pl.when(beside).then(pl.col(name).shuffle(1)).otherwise(name).alias(name)
        for name in ("log_return", "sector_neutral_return")
    )
    other = choose((training_set, turned, entries), FEW, CROSSED)
    names = [fold.name for fold in splits.folds]
    testing = {name for name, paths in zip(names, splits.path_of, strict=True) if paths[1] >= 0}
    same = {name for name in names if found.chosen.of(name) == other.chosen.of(name)}
    assert len(testing) == 3
    assert testing <= same
    assert {name for name in names if "local" in found.chosen.of(name)} - same


def test_folds_are_chosen_for_and_shown_as_without_a_cross_validation(in_splits):
    tables, both = in_splits
    plain = choose(tables, FEW)
    assert {name: both.chosen.of(name) for name in plain.chosen.by_fold} == plain.chosen.by_fold
    assert both.evidence.equals(plain.evidence)
    assert both.overview.core == plain.overview.core


def test_stretches_too_short_for_eras_are_refused_with_their_numbers():
    timeline = CROSSED.model_copy(update={"groups": 6})
    with pytest.raises(SelectionError, match=r"learns from \d+ bars in a row .* need 40. Lower"):
        choose(market(5, bars=600, symbols=10, inputs=4), timeline=timeline)
