"""Runs the tasks of a graph that do not wait for each other side by side; `kfp.local` runs them one after
the other.

Each task is still run by kfp itself, with its cache and its rules for failures: what needed a task that
failed is skipped, the rest goes on, and tasks of an exit handler come last.
"""

import logging
import os
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.local import graph_utils, io, logging_utils, status
from kfp.local.orchestrator import enhanced_dag_orchestrator as kfp_graphs
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.pipeline_spec import pipeline_spec_pb2

from components.memory.limits import limit

# Artifacts that a task reads, in bytes as they lie, up to which it runs beside others: what it makes of them
# was measured to be 10 to 20 times as large in memory. Larger ones have the machine to themselves.
SMALL_BYTES = 64 * 2**20
# What a small task holds at most, its libraries with it: so much has to be free for one beside others.
ROOM_BYTES = 2 * 2**30
# More would hold more imported libraries in memory than they save time: tasks use several cores themselves.
MOST_TASKS = 4
WITH_UPSTREAM_ENDED = (
    pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
)


@dataclass(frozen=True)
class Graph:
    """A graph of tasks in work, and what kfp tells each of its tasks."""

    tasks: Mapping[str, Any]
    store: io.IOStore
    fail_stack: list[str]
    told: Mapping[str, Any]

    def may_start(self, name: str, running: Collection[str], most: int) -> bool:
        """Whether a task may run beside those that run: all of them read little, memory is left for one more,
        and of those that no cache answers, which act on what lies outside the artifacts (registry, store,
        page), one runs at a time.
        """
        if not running:
            return True
        uncached = [one for one in (name, *running) if not self.tasks[one].caching_options.enable_cache]
        small = all(self._bytes_read(one) <= SMALL_BYTES for one in (name, *running))
        return len(running) < most and len(uncached) < 2 and small and _memory_is_left()

    def _bytes_read(self, name: str) -> int:
        arguments = OrchestratorUtils.make_task_arguments(self.tasks[name].inputs, self.store)
        return sum(_bytes_of(Path(one.path)) for one in arguments.values() if isinstance(one, dsl.Artifact))

    def is_wanted(self, name: str) -> bool:
        condition = self.tasks[name].trigger_policy.condition
        return not condition or kfp_graphs.ConditionEvaluator.evaluate_condition(condition, self.store)

    def run(self, name: str) -> bool:
        """Run a task to its end; returns whether it came through."""
        outputs, ended = kfp_graphs.execute_task(
            task_name=name,
            task_spec=self.tasks[name],
            io_store=self.store,
            fail_stack=self.fail_stack,
            **self.told,
        )
        succeeded = ended == status.Status.SUCCESS
        for key, output in outputs.items():
            self.store.put_task_output(name, key, output)
        self.end(name, succeeded=succeeded)
        return succeeded

    def end(self, name: str, *, succeeded: bool) -> None:
        self.store.put_task_status(name, "SUCCEEDED" if succeeded else "FAILED")
        if not succeeded:
            self.fail_stack.append(name)


def run_side_by_side(most: int) -> None:
    """Have kfp run `most` tasks of a graph at a time where they are small, in this process from now on."""
    one_after_the_other = kfp_graphs.run_enhanced_dag

    def run_graph(*, dag_component_spec, dag_arguments, fail_stack, parent_io_store=None, **told):
        """What takes the place of kfp's `run_enhanced_dag`; graphs with loops are left to that."""
        tasks = dag_component_spec.dag.tasks
        if any(task.WhichOneof("iterator") for task in tasks.values()):
            return one_after_the_other(
                dag_component_spec=dag_component_spec,
                dag_arguments=dag_arguments,
                fail_stack=fail_stack,
                parent_io_store=parent_io_store,
                **told,
            )
        store = io.IOStore(parent=parent_io_store)
        given = OrchestratorUtils.join_user_inputs_and_defaults(
            dag_arguments, dag_component_spec.input_definitions
        )
        for name, value in given.items():
            store.put_parent_input(name, value)
        if not _run_tasks(Graph(tasks, store, fail_stack, told), most):
            return {}, status.Status.FAILURE
        outputs = OrchestratorUtils.get_dag_outputs(dag_component_spec.dag.outputs, store)
        return outputs, status.Status.SUCCESS

    kfp_graphs.run_enhanced_dag = run_graph
    _log_from_many_threads()


def tasks_at_a_time() -> int:
    """How many tasks run side by side on this machine."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MOST_TASKS)


def _run_tasks(graph: Graph, most: int) -> bool:
    """Run all tasks of a graph, those of its exit handlers last; returns whether all came through."""
    closing = [name for name, task in graph.tasks.items() if _is_closing(task)]
    order = graph_utils.topological_sort_tasks(graph.tasks)[::-1]
    waiting = [name for name in order if name not in closing]
    failed: set[str] = set()
    running: dict[Future, str] = {}
    with ThreadPoolExecutor(most) as pool:
        while waiting or running:
            for name in list(waiting):
                needed = set(graph.tasks[name].dependent_tasks)
                if needed & {*waiting, *running.values()}:
                    continue
                if needed & failed and not _runs_anyway(graph.tasks[name]):
                    logging.info("Skipping task %s: %s failed.", name, sorted(needed & failed))
                    graph.store.put_task_status(name, "FAILED")
                    failed.add(name)
                elif not graph.is_wanted(name):
                    logging.info("Skipping task %s: its condition is false.", name)
                elif graph.may_start(name, running.values(), most):
                    running[pool.submit(graph.run, name)] = name
                else:
                    continue
                waiting.remove(name)
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(ended)
                failed |= set() if ended.result() else {name}
    closed = [graph.run(name) for name in closing]
    return all(closed) and not failed


def _runs_anyway(task: Any) -> bool:
    return task.trigger_policy.strategy == WITH_UPSTREAM_ENDED


def _is_closing(task: Any) -> bool:
    """Whether a task is that of an exit handler, which is told how the others ended."""
    told = task.inputs.parameters.values()
    return _runs_anyway(task) and any(one.HasField("task_final_status") for one in told)


def _memory_is_left() -> bool:
    bound = limit()
    return bound is None or bound.bytes - bound.used >= ROOM_BYTES


def _bytes_of(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


def _log_from_many_threads() -> None:
    """Log to the standard output throughout: kfp exchanges the handlers of logging, and `print` itself,
    around each task, which threads would undo for each other.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging_utils.MillisecondFormatter("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S.%f")
    )
    logging.getLogger().addHandler(handler)
    logging_utils.local_logger_context = nullcontext
    logging_utils.indented_print = nullcontext
