"""The training pipeline cut off after one expert, or before it: what `alphaloop experts` runs."""

from collections.abc import Callable

from kfp import dsl

from components.experts.studies.component import point_to_inputs
from pipelines.config import Config
from pipelines.graphs.arrange import arranger, closing_task
from pipelines.graphs.data import Source, source_to_factors, to_labels, to_training_set
from pipelines.graphs.experts import expert_tasks, to_expert_inputs
from pipelines.leaves import INPUTS, resolve_leaf, run_name


def expert_pipeline(
    config: Config,
    *,
    source: Source | None,
    leaf: str,
    folder: str,
    warm_from: str = "",
    cached: bool = True,
    train: bool = True,
) -> Callable:
    """Everything up to the training set, then one expert, or, without `train`, a file that says where its
    inputs lie.
    """
    arrange = arranger(config, pods=None)
    resolved = resolve_leaf(leaf, config)

    @dsl.pipeline(name=f"alphaloop-expert-{config.run.name}")
    def expert():
        closing = closing_task(config, arrange, folder)
        with dsl.ExitHandler(closing, name="expert"):
            factors = source_to_factors(config, arrange, source, folder)
            labels = to_labels(config, arrange, factors.market)
            data = to_training_set(config, arrange, factors, labels, folder)
            inputs = to_expert_inputs(config, arrange, data, [resolved])
            if train:
                expert_tasks(config, arrange, inputs, [resolved], folder, warm_from=warm_from, cached=cached)
            else:
                target = f"{folder}/experts/{run_name(resolved, config)}/{INPUTS}"
                tables = {
                    "training_set": data.training_set,
                    "labels": labels,
                    "catalog": data.catalog,
                    "panel": factors.market.panel,
                }
                # There is one leaf, so at most one selection and one table of learnable rows.
                chosen = {
                    name: found
                    for name, made in (("selection", inputs.selections), ("learnable", inputs.learnable))
                    for found in made.values()
                }
                arrange(point_to_inputs(target=target, **tables, **chosen), "inputs", cached=False)

    return expert
