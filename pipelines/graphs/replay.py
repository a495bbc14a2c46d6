"""The replay pipeline: the newest bars once more through what answers live, held against what a backtest of
the same bars says and against the answers that were given.
"""

from collections.abc import Callable

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.feature_store.component import live_rows
from components.registry.component import fetch_bundle, read_champion
from components.replay.component import replay, require_same
from components.retraining.component import collect_served
from pipelines.code_version import code_version
from pipelines.config import Config, section_json
from pipelines.graphs.arrange import Arrange, Pods, arranger, closing_task
from pipelines.graphs.data import FactorData, Source, source_to_factors
from pipelines.lasting import lasting_folder


def replay_pipeline(
    config: Config, *, source: Source | None, folder: str, pods: Pods | None = None
) -> Callable:
    """The `replay` pipeline of one configuration; parameters as in `training_pipeline`."""
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-replay-{config.run.name}",
        description="The newest bars again by the live path, against their backtest.",
    )
    def replay_of_newest():
        closing = closing_task(config, arrange, folder, "replay verdict")
        with dsl.ExitHandler(closing, name="replay"):
            factors = source_to_factors(config, arrange, source, folder, trained=False)
            found = _replayed(config, arrange, factors, folder)
            arrange(require_same(found=found), "replay verdict", cached=False)

    return replay_of_newest


def _replayed(config: Config, arrange: Arrange, factors: FactorData, folder: str) -> PipelineChannel:
    """Tasks from the factors to the replay's report; returns it."""
    registry = {
        "settings": section_json(config.registry),
        "name": config.run.name,
        "folder": f"{folder}/registry",
    }
    champion = arrange(read_champion(**registry), "champion in service", cached=False).outputs["champion"]
    bundle = arrange(fetch_bundle(champion=champion, **registry), "bundle", cached=False).outputs["bundle"]
    live = arrange(
        live_rows(
            factors=factors.factors,
            catalog=factors.catalog,
            settings=section_json(config.feature_store),
            bars=config.replay.bars,
            code=code_version(live_rows),
        ),
        "live rows",
    ).outputs["rows"]
    answered = arrange(
        collect_served(
            champion=champion,
            window_bars=config.replay.bars,
            folder=lasting_folder(config, folder),
            code=code_version(collect_served),
        ),
        "served",
        cached=False,
    ).outputs["current"]
    return arrange(
        replay(
            bundle=bundle,
            champion=champion,
            live=live,
            factors=factors.factors,
            answered=answered,
            settings=section_json(config.replay),
            folder=lasting_folder(config, folder),
        ),
        "replay",
        cached=False,
    ).outputs["found"]
