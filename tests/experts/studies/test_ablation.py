"""Ablation: the same folds and days for every variant, honest differences, and the pages of it and of what a
network attends to.
"""

import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from components.contracts import ContractError
from components.contracts.classes import CLASS_COLUMNS
from components.contracts.documents.experts import EXPLAIN as EXPLAIN_FILE
from components.contracts.documents.experts import Difference, Explanation, Weights, read_left
from components.experts import leaves
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf, list_leaves, load_leaf
from components.experts.studies import judging
from components.experts.studies.ablation import ablate, read_variants, table_rows
from components.experts.studies.ablation_page import ablation_page
from components.experts.studies.evidence import Evidence
from components.experts.studies.evidence_page import closed_gates, explain_page
from components.experts.studies.judging import daily_brier_skill
from components.settings import ConfigError
from components.spread import engines
from components.spread.choice import ENGINE_VARIABLE
from components.spread.piece import Piece, make
from pipelines.config import LEAVES
from tests.experts.studies import tunable
from tests.experts.studies.tables_on_disk import ruin_the_test_window, write_inputs

TUNABLE = Leaf(
    expert="tunable",
    period="1d",
    module="tests.experts.studies.tunable",
    settings=tunable.Settings().model_dump(),
)
VARIANTS = "full: {}\nnoisy: {inner: {noise: 1.0}}\nsame: {inner: {kind: b}}\nbroken: {fails: true}\n"
EXPLAIN = {
    "weights": {
        "feature_gate": {
            "columns": ["a", "b", "c"],
            "mean": [0.9, 0.01, 0.04],
            "by_regime": {"bull": [0.9, 0.02, 0.0], "high_volatility": [0.8, 0.0, 0.1]},
        },
        "regime_gate": {"columns": ["trend", "other"], "mean": [0.99, 0.01], "by_regime": {}},
        "variable_selection": {"columns": ["x<y", "z"], "mean": [0.3, 0.7], "by_regime": {}},
    },
    "rows": {"bull": 12, "high_volatility": 3},
    "tasks": [{"target": "log_return", "horizon": 5, "rank_correlation": 0.05}],
    "parameters": 1234,
    "student": [{"loss": 0.7}],
    "training": [
        {"loss": 0.9, "monitor": 0.01, "windows": 10},
        {"loss": 0.8, "monitor": 0.02, "windows": 10},
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("tables"), bars=160)


def variants(tmp_path, text=VARIANTS):
    path = tmp_path / "ablations.yaml"
    path.write_text(text)
    return read_variants(path, TUNABLE)


@pytest.fixture(scope="module")
def result(inputs, tmp_path_factory):
    place = tmp_path_factory.mktemp("ablation")
    return ablate(inputs, variants(place), seeds=3, window="validation", folder=place / "work")


def test_seeds_and_folds_of_a_variant_go_to_ray_together_and_give_the_same(
    inputs, result, tmp_path, monkeypatch
):
    """Played by a map that makes each piece here, from its paths and numbers alone; a variant that fails is
    left out as ever, and what is finished is not asked for again.
    """
    asked = []

    def nodes(function, pieces, **needs):
        asked.append([piece.arguments["seed"] for piece in pieces])
        for piece in pieces:
            make(function, Piece.from_json(piece.to_json()))

    monkeypatch.setenv(ENGINE_VARIABLE, "ray")
    monkeypatch.setattr(engines, "map", nodes)
    found = ablate(inputs, variants(tmp_path), seeds=3, window="validation", folder=tmp_path / "work")
    assert [set(seeds) for seeds in asked] == [set(result.seeds)] * 4
    assert len(asked[0]) > 3
    timeless = [
        [one.model_copy(update={"seconds": 0}) for one in each.variants[:3]] for each in (found, result)
    ]
    assert timeless[0] == timeless[1]
    assert found.variants[3].failed == result.variants[3].failed
    del asked[:]
    ablate(inputs, variants(tmp_path), seeds=3, window="validation", folder=tmp_path / "work")
    assert [len(seeds) for seeds in asked[:3]] == [0, 0, 0]


def test_shipped_variants_fit_every_leaf_of_their_expert(monkeypatch):
    monkeypatch.setattr(leaves, "known_experts", cache(leaves.known_experts))
    seen = set()
    for name in list_leaves(LEAVES):
        path = LEAVES / name.split("/")[0] / "ablations.yaml"
        if path.exists():
            leaf = load_leaf(LEAVES / f"{name}.yaml")
            found = read_variants(path, leaf)
            assert found["full"].settings == leaf.settings
            assert len({str(one.settings) for one in found.values()}) == len(found)
            seen.add(leaf.expert)
    assert "patchtst" in seen


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("noisy: {}\n", ("must hold `full`",)),
        ("full: {}\n", ("at least one more",)),
        ("full: {}\nnoisy: 3\n", ("line 2", "noisy is 3")),
        (
            "full: {}\nnoisy: {inner: {nose: 1}}\n",
            ("line 2", "unknown key 'inner.nose'", "Did you mean 'noise'?"),
        ),
        ("full: {}\nnoisy: {direction: 7}\n", ("line 2", "direction", "less than or equal to 1")),
        ("full: {}\n../../../evil: {}\n", ("line 2", "'../../../evil' can't be that of a folder")),
        ("full: {}\n/evil: {}\n", ("'/evil'",)),
        ("full: {}\n..: {}\n", ("'..'",)),
        ("full: {}\n.: {}\n", ("'.'",)),
        ("full: {}\n'a b': {}\n", ("'a b'",)),
        ("full: {}\n'': {}\n", ("''",)),
    ],
)
def test_a_wrong_variant_is_named(text, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        variants(tmp_path, text)
    for word in ("ablations.yaml", *words):
        assert word in str(caught.value)


def test_a_variant_may_be_named_with_dots_dashes_and_digits(tmp_path):
    assert list(variants(tmp_path, "full: {}\n0.5-of_B: {direction: 0.5}\n")) == ["full", "0.5-of_B"]


def test_a_worse_variant_is_found_worse_and_an_equal_one_equal(result):
    rows = {one.name: one for one in result.variants}
    assert list(rows) == ["full", "noisy", "same", "broken"]
    assert rows["noisy"].difference.mean == pytest.approx(
        rows["noisy"].rank_ic.mean - rows["full"].rank_ic.mean
    )
    assert rows["noisy"].difference.t < -2.5
    assert rows["same"].difference == Difference(mean=0.0, error=None, t=None)
    assert rows["full"].difference is None
    assert "was told to fail" in rows["broken"].failed
    # Only noise depends on the seed.
    assert rows["full"].rank_ic.spread < 1e-12 < rows["noisy"].rank_ic.spread
    assert rows["noisy"].rank_ic.spread == pytest.approx(np.std(rows["noisy"].rank_ic.by_seed, ddof=1))
    assert (result.days, result.seeds) == (37, (3, 4, 5))


def test_nothing_of_the_test_window_moves_the_ablation_of_the_validation_window(
    result, tmp_path, monkeypatch
):
    ruined = write_inputs(tmp_path / "tables", bars=160, change=ruin_the_test_window)

    def figures(found):
        return json.dumps([one.model_dump(exclude={"seconds"}) for one in found.variants])

    assert figures(
        ablate(ruined, variants(tmp_path), seeds=3, window="validation", folder=tmp_path / "work")
    ) == figures(result)
    monkeypatch.setattr(judging, "blind", lambda training_set, labels, _: (training_set, labels))
    assert figures(
        ablate(ruined, variants(tmp_path), seeds=3, window="validation", folder=tmp_path / "seeing")
    ) != figures(result)


def test_the_test_window_is_judged_only_when_asked_and_the_page_says_so(inputs, result, tmp_path):
    found = ablate(
        inputs,
        variants(tmp_path, "full: {}\nnoisy: {inner: {noise: 1.0}}\n"),
        seeds=1,
        window="test",
        folder=tmp_path / "work",
    )
    assert found.first > result.last
    assert found.days == 37
    assert (tmp_path / "work" / "full" / "seed_3" / "fold_03" / "predictions.parquet").exists()
    assert found.variants[0].rank_ic.spread is None
    assert not list((tmp_path / "work").glob("*/*/final"))
    assert "judged on the test window" in ablation_page(found)
    assert "judged on the test window" not in ablation_page(result)
    assert "The test window was not touched" in ablation_page(result)


def test_finished_folds_are_kept_and_a_failing_full_model_stops_all(inputs, tmp_path, monkeypatch):
    two = "full: {}\nnoisy: {inner: {noise: 1.0}}\n"
    first = ablate(inputs, variants(tmp_path, two), seeds=1, window="validation", folder=tmp_path / "work")
    monkeypatch.setattr(
        tunable.Expert, "fit", lambda *_, **__: pytest.fail("a finished fold was fitted again")
    )
    assert (
        ablate(inputs, variants(tmp_path, two), seeds=1, window="validation", folder=tmp_path / "work")
        == first
    )
    monkeypatch.undo()
    with pytest.raises(ExpertError, match="was told to fail"):
        ablate(
            inputs,
            variants(tmp_path, "full: {fails: true}\nother: {}\n"),
            seeds=1,
            window="validation",
            folder=tmp_path / "broken",
        )


def test_the_page_shows_every_variant_and_what_it_changes(result):
    page = ablation_page(result)
    for words in ("noisy", "inner.noise: 1.0", "inner.kind: b", "failed: Expert tunable", "3 seeds"):
        assert words in page


def test_closed_gates_are_listed_most_closed_first():
    assert closed_gates(Weights.model_validate(EXPLAIN["weights"]["feature_gate"])) == [
        ("b", 0.01),
        ("c", 0.04),
    ]
    page = page_of(EXPLAIN, "What <it> attends to", "fold_00")
    for words in (
        "2 of 3",
        "Closed gates: 2",
        "regime gate",
        "1,234",
        "12 rows",
        "Student",
        "0.0500",
        "What &lt;it&gt; attends to",
        "high volatility",
        "heatmap",
        "variable selection",
        "monitor",
    ):
        assert words in page
    open_gates = {
        "weights": {"feature_gate": {"columns": ["a"], "mean": [0.5], "by_regime": {}}},
        "training": [],
    }
    assert "No gate is closed" in page_of(open_gates, "x")
    assert "was not kept" in page_of(open_gates, "x")


def test_weights_of_another_length_than_their_columns_are_refused(tmp_path):
    path = tmp_path / EXPLAIN_FILE
    path.write_text(json.dumps({"weights": {"gate": {"columns": ["a", "b"], "mean": [1.0]}}, "training": []}))
    with pytest.raises(ContractError, match=r"weights\.gate: .*2 columns are named"):
        read_left(Explanation, path)


def page_of(explain: dict, title: str, about: str = "") -> str:
    return explain_page(Evidence(Explanation.model_validate(explain), "2020"), title, about)


def figures_of(page: str) -> dict[str, dict]:
    """The figures of a page by title."""
    return {
        title: json.loads(figure)
        for title, figure in re.findall(
            r"<h3>([^<]*)</h3>(?:<p class=\"soft\">[^<]*</p>)?\s*<div"
            r" class=\"plot[^>]*></div><script[^>]*>(.*?)</script>",
            page,
        )
    }


def test_the_bands_are_drawn_and_what_was_measured_once_stands_in_a_table():
    bands = [{"monitor": -0.31}, {"loss": 0.4, "monitor": -0.29, "seconds": 1.0}]
    page = page_of({"weights": {}, "training": [{"loss": 0.25, "monitor": 0.125}], "bands": bands}, "x")
    figures = figures_of(page)
    assert list(figures) == ["monitor"]
    assert (figures["monitor"]["data"][0]["x"], figures["monitor"]["data"][0]["y"]) == (
        [0, 1],
        [-0.31, -0.29],
    )
    assert "minus the mean pinball loss" in page
    for cells in (
        "loss</td><td>1</td><td>0.2500",
        "monitor</td><td>1</td><td>0.1250",
        "loss</td><td>1</td><td>0.4000",
    ):
        assert cells in page
    assert list(figures_of(page_of({**EXPLAIN, "weights": {}}, "x"))) == ["loss", "monitor"]


def test_parameters_and_energies_are_named_as_what_they_are():
    one = {"columns": ["a", "b"], "mean": [0.7, 1.2], "by_regime": {"bull": [0.7, 1.2], "bear": [0.7, 1.2]}}
    page = page_of({"weights": dict.fromkeys(("temperature", "edge", "frequency", "attention"), one)}, "x")
    assert list(figures_of(page)) == [
        "temperature: attention temperature",
        "edge: learned weight of the edge feature",
        "frequency: share of energy",
        "frequency by regime",
        "attention: mean weight",
        "attention by regime",
    ]
    assert page.count("How much each part counts") == 1


def test_colours_do_not_make_structure_out_of_nothing():
    one = {
        "columns": ["a", "b"],
        "mean": [0.73, 0.7305],
        "by_regime": {"bull": [0.73, 0.7301], "bear": [0.7302, 0.7305]},
    }
    figures = figures_of(page_of({"weights": {"feature_gate": one, "attention": one}}, "x"))
    limits = {
        name: [(trace["zmin"], trace["zmax"]) for trace in figures[f"{name} by regime"]["data"]]
        for name in ("feature gate", "attention")
    }
    assert limits == {"feature gate": [(0, 1)], "attention": [(0, 0.7305)]}
    assert figures["feature gate: mean opening"]["layout"]["xaxis"]["range"] == [0, 1]


def test_many_inputs_show_their_largest_and_long_windows_their_newest():
    columns = [f"input_{number}" for number in range(50)]
    bars = [f"{ago}_bars_ago" for ago in reversed(range(50))]
    weights = {
        "selection": {"columns": columns, "mean": list(range(50)), "by_regime": {}},
        "attention": {"columns": bars, "mean": [1.0] * 50, "by_regime": {}},
    }
    page = page_of({"weights": weights, "training": []}, "x")
    assert '"input_49"' in page
    assert '"input_19"' not in page
    assert '"0_bars_ago"' in page
    assert '"30_bars_ago"' not in page


def test_classes_are_judged_by_a_proper_score_and_numbers_by_the_rank_correlation(inputs, tmp_path):
    """Noise costs Brier skill; RankIC, average precision and calibration error are told beside it."""
    of_classes = replace(inputs, target="direction")
    found = ablate(of_classes, variants(tmp_path), seeds=2, window="validation", folder=tmp_path / "work")
    rows = {one.name: one for one in found.variants}
    full, noisy = rows["full"], rows["noisy"]
    assert found.judged_by == "Brier skill"
    skill = [one.classes.brier_skill.mean for one in (full, noisy)]
    assert skill[0] > 0 > skill[1]
    assert noisy.difference.mean == pytest.approx(skill[1] - skill[0])
    assert noisy.difference.t < -2.5
    assert rows["same"].difference.mean == 0
    assert full.classes.average_precision.mean > noisy.classes.average_precision.mean > 0
    assert full.classes.calibration_error.mean < noisy.classes.calibration_error.mean
    assert full.rank_ic.mean > noisy.rank_ic.mean
    header, cells = table_rows(found, lambda value, digits: "–" if value is None else f"{value:.{digits}f}")
    assert header[:5] == ["variant", "Brier skill", "PR-AUC", "ECE", "RankIC"]
    assert {len(row) for row in cells} == {len(header)}
    assert "Difference in Brier skill by bar" in ablation_page(found)
    assert "Difference in RankIC by bar" in ablation_page(replace_judged(found))


def replace_judged(found):
    """The same without anything of classes."""
    plain = [one.model_copy(update={"classes": None}) for one in found.variants if hasattr(one, "rank_ic")]
    return found.model_copy(update={"judged_by": "RankIC", "variants": tuple(plain)})


def test_brier_skill_is_that_of_its_definition_and_largest_for_the_true_chances():
    """Written out row by row; what says the shares has 0, what is sure and right 1."""
    random = np.random.default_rng(0)
    bars, names = 60, 30
    key = pl.DataFrame({"timestamp": np.repeat(np.arange(bars), names), "symbol": list(range(names)) * bars})
    true = random.dirichlet((2.0, 1.0, 3.0), len(key))
    label = np.array([random.choice((-1, 0, 1), p=row) for row in true])
    wanted = key.with_columns(label=pl.Series(label))

    def skill(chances):
        said = dict(zip(CLASS_COLUMNS, np.broadcast_to(chances, true.shape).T, strict=True))
        return daily_brier_skill(key.with_columns(**said), wanted, (-1, 0, 1))["quality"].to_numpy()

    shares = np.array([(label == value).mean() for value in (-1, 0, 1)])
    happened = np.stack([label == value for value in (-1, 0, 1)], axis=1)
    brier = ((true - happened) ** 2).sum(axis=1).reshape(bars, names).mean(axis=1)
    np.testing.assert_allclose(skill(true), 1 - brier / (shares * (1 - shares)).sum())
    assert skill(shares).mean() == pytest.approx(0)
    np.testing.assert_allclose(skill(happened.astype(float)), 1)
    sharp = true**2 / (true**2).sum(axis=1, keepdims=True)
    assert max(skill(sharp).mean(), skill((true + shares) / 2).mean()) < skill(true).mean()
    with pytest.raises(ContractError, match="are of one class"):
        daily_brier_skill(key, wanted.with_columns(label=pl.lit(1)), (-1, 0, 1))
