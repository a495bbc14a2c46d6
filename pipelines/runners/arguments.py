"""What Kubeflow Pipelines' backend hands to its drivers and launchers as arguments of their command line:
measured from a compiled pipeline, and kept short by saying once what several tasks are told.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Linux starts no program with a longer argument; the last byte ends it (MAX_ARG_STRLEN).
LONGEST_ARGUMENT = 128 * 1024 - 1
# A constant that is shorter than what says where it comes from stays where it is.
WORTH_A_NAME = 100
# About what the launcher is told of one artifact: address, type and metadata.
ARTIFACT_BYTES = 1024
# JSON as Go writes it escapes what could end a script in a page.
ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Argument:
    """One argument of a driver or launcher: whose it is, and its size in bytes."""

    name: str
    bytes: int


def argument_bytes(documents: list[Mapping[str, Any]]) -> Argument:
    """The largest argument that the backend makes of a compiled pipeline, in UTF-8."""
    return max(arguments(documents), key=lambda one: one.bytes)


def arguments(documents: list[Mapping[str, Any]]) -> Iterator[Argument]:
    """Every argument that grows with the pipeline: a driver of the root, of each graph below and of each
    task is told of its component and task; that of a task of its container and Kubernetes settings too, and
    the task's launcher of the component and of what its inputs are.
    """
    spec = documents[0]
    components = {"root": spec["root"], **spec["components"]}
    containers = spec["deploymentSpec"]["executors"]
    platform = documents[1]["platforms"]["kubernetes"] if len(documents) > 1 else {}
    kubernetes = platform.get("deploymentSpec", {}).get("executors", {})
    for name, component in components.items():
        yield Argument(f"component of {name}", _bytes(component))
        for task, said in component.get("dag", {}).get("tasks", {}).items():
            yield Argument(f"task of {name}/{task}", _bytes(said))
    for name, executor in containers.items():
        yield Argument(f"container of {name}", _bytes(executor.get("container", {})))
        yield Argument(f"Kubernetes settings of {name}", _bytes(kubernetes.get(name, {})))
    for name, parameters, artifacts in _inputs(components, "root", {}):
        yield Argument(f"inputs of {name}", _bytes(parameters) + artifacts * ARTIFACT_BYTES)


def say_once(spec: dict[str, Any]) -> None:
    """Move each longer text that several tasks are told, such as the settings of the timeline, to the task of
    the outermost graph, from which it is handed down by name; a task is told the same as before.

    Otherwise the graph in which all tasks lie would say it as often as there are tasks, and that graph is one
    argument.
    """
    told = Counter(
        text
        for component in spec["components"].values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        for text in _texts(task).values()
        if len(text) >= WORTH_A_NAME
    )
    names: dict[str, str] = {}
    for component in spec["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            for parameter, text in _texts(task).items():
                if told[text] > 1 and text not in names:
                    number = sum(name.startswith(f"said--{parameter}-") for name in names.values()) + 1
                    names[text] = f"said--{parameter}-{number}"
    _hand_down({"root": spec["root"], **spec["components"]}, "root", names)


def _hand_down(components: Mapping[str, Any], within: str, names: Mapping[str, str]) -> dict[str, str]:
    """Let the tasks of a graph, and of those below it, take named texts from its inputs; returns which, text
    by name.
    """
    needed: dict[str, str] = {}
    for task in components[within]["dag"]["tasks"].values():
        inner = task["componentRef"]["name"]
        if "dag" in components[inner]:
            below = _hand_down(components, inner, names)
            given = {
                name: _constant(text) if within == "root" else {"componentInputParameter": name}
                for name, text in below.items()
            }
        elif within == "root":
            continue
        else:
            told = {key: text for key, text in _texts(task).items() if text in names}
            below = {names[text]: text for text in told.values()}
            given = {key: {"componentInputParameter": names[text]} for key, text in told.items()}
        if given:
            task.setdefault("inputs", {}).setdefault("parameters", {}).update(given)
            needed.update(below)
    if needed and within != "root":
        inputs = components[within].setdefault("inputDefinitions", {}).setdefault("parameters", {})
        inputs.update({name: {"parameterType": "STRING"} for name in needed})
    return needed


def _inputs(
    components: Mapping[str, Any], within: str, given: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Of every task that runs a container: its name, its constant parameters, and its number of artifacts;
    `given` are the inputs of the graph that it lies in.
    """
    for name, task in components[within].get("dag", {}).get("tasks", {}).items():
        inner = task["componentRef"]["name"]
        parameters = {
            key: given.get(source["componentInputParameter"])
            if "componentInputParameter" in source
            else source.get("runtimeValue", {}).get("constant")
            for key, source in task.get("inputs", {}).get("parameters", {}).items()
        }
        if "dag" in components[inner]:
            yield from _inputs(components, inner, parameters)
            continue
        made = components[inner].get("outputDefinitions", {}).get("artifacts", {})
        yield f"{within}/{name}", parameters, len(task["inputs"].get("artifacts", {})) + len(made)


def _texts(task: Mapping[str, Any]) -> dict[str, str]:
    """The constants of a task that are text, by parameter."""
    found = {
        name: source.get("runtimeValue", {}).get("constant")
        for name, source in task.get("inputs", {}).get("parameters", {}).items()
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _constant(text: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": text}}


def _bytes(message: Any) -> int:
    """Bytes of a message in the JSON that the backend writes: sorted, without spaces, some signs escaped."""
    text = json.dumps(message, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for sign, escaped in ESCAPED.items():
        text = text.replace(sign, escaped)
    return len(text.encode())
