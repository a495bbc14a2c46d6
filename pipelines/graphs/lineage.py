"""What a task is made from, as a hash: its component, its arguments, and the same of each task whose outputs
it takes. What a cache's key holds, but known before anything ran.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel


def lineage(component: str, arguments: Mapping[str, Any]) -> str:
    """Hash of a task of `component` with these arguments. What a task hands over at run time, such as the
    content hash of data, is not in it.
    """
    return _hash(component, arguments, {})


def _hash(component: str, arguments: Mapping[str, Any], known: dict[str, str]) -> str:
    said = {
        name: _origin(value, known) if isinstance(value, PipelineChannel) else value
        for name, value in arguments.items()
    }
    return hashlib.sha256(json.dumps([component, said], sort_keys=True).encode()).hexdigest()


def _origin(channel: PipelineChannel, known: dict[str, str]) -> list[str]:
    """The output that a channel stands for, and the hash of its task; `known` holds those that were met."""
    task: dsl.PipelineTask = channel.task
    if task.name not in known:
        known[task.name] = _hash(task.component_spec.name, task.inputs, known)
    return [known[task.name], channel.name]
