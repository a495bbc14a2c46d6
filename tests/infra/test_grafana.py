"""The Grafana dashboard: it is what Grafana's published schema says, and every panel's query is answered by a
real Prometheus.
"""

import copy
import inspect
import json
import re
import sys
import types
import typing
from enum import Enum

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.infra.observed import ROOT
from tests.infra.test_prometheus import declared

FOLDER = ROOT / "infra" / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboards" / "service.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = {"$instance": ".*", "$__rate_interval": "1m"}

register_default_plugins()


def schema_faults(dashboard: dict) -> list[str]:
    """Where a dashboard departs from Grafana's schema, as Grafana's own typed model (generated from that
    schema) has it.

    A key that the model does not know is lost when the dashboard passes through it; a value of a wrong type
    differs from the model's annotation.
    """
    try:
        model = Dashboard.from_json(dashboard)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return [f"not a dashboard: {error!r}"]
    return [*_type_faults(model, "dashboard"), *_lost(dashboard, _plain(model), "dashboard")]


def _plain(value: typing.Any) -> typing.Any:
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return (
        [_plain(item) for item in value]
        if isinstance(value, list)
        else value.value
        if isinstance(value, Enum)
        else value
    )


def _lost(given: typing.Any, kept: typing.Any, place: str) -> list[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            fault
            for key, item in given.items()
            for fault in (
                _lost(item, kept[key], f"{place}.{key}")
                if key in kept
                else [f"{place}.{key} is not in the schema"]
            )
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [
            fault
            for k, (a, b) in enumerate(zip(given, kept, strict=True))
            for fault in _lost(a, b, f"{place}[{k}]")
        ]
    return [] if given == kept else [f"{place} was {given!r}, the schema makes it {kept!r}"]


def _type_faults(model: typing.Any, place: str) -> list[str]:
    hints = typing.get_type_hints(type(model), vars(sys.modules[type(model).__module__]))
    return [
        fault
        for name, hint in hints.items()
        if hasattr(model, name)
        for fault in _value_faults(getattr(model, name), hint, f"{place}.{name}")
    ]


def _value_faults(value: typing.Any, hint: typing.Any, place: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object):
        return (
            _type_faults(value, place) if type(value).__module__.startswith("grafana_foundation_sdk") else []
        )
    if origin in (typing.Union, types.UnionType):
        tried = [_value_faults(value, one, place) for one in arguments]
        return [] if [] in tried else max(tried, key=len)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{place} is {value!r}, allowed are {arguments}"]
    if origin is list:
        return (
            [
                fault
                for k, item in enumerate(value)
                for fault in _value_faults(item, arguments[0], f"{place}[{k}]")
            ]
            if isinstance(value, list)
            else [f"{place} is no list"]
        )
    if origin is dict:
        return (
            [
                fault
                for key, item in value.items()
                for fault in _value_faults(item, arguments[1], f"{place}.{key}")
            ]
            if isinstance(value, dict)
            else [f"{place} is no object"]
        )
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return (
            []
            if value in [one.value for one in hint] or isinstance(value, hint)
            else [f"{place} is {value!r}, allowed are {[one.value for one in hint]}"]
        )
    if inspect.isclass(hint):
        wanted = (int, float) if hint is float else hint
        if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
            return [f"{place} is {value!r}, expected {hint.__name__}"]
        return _type_faults(value, place) if hasattr(value, "to_json") else []
    return []


def test_the_dashboard_is_what_the_published_schema_says():
    assert schema_faults(DASHBOARD) == []


def _planted(change) -> dict:
    dashboard = copy.deepcopy(DASHBOARD)
    change(dashboard, next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries"))
    return dashboard


@pytest.mark.parametrize(
    "change",
    [
        lambda board, panel: board.update(colour="red"),
        lambda board, panel: board.update(schemaVersion="39"),
        lambda board, panel: board.update(graphTooltip=7),
        lambda board, panel: board.update(panels=3),
        lambda board, panel: panel.pop("type"),
        lambda board, panel: panel.update(titel="x"),
        lambda board, panel: panel["gridPos"].update(w="12"),
        lambda board, panel: panel["targets"][0].update(query="x"),
        lambda board, panel: panel["targets"][0].update(expr=3),
        lambda board, panel: panel["options"]["legend"].update(placement="middle"),
        lambda board, panel: panel["fieldConfig"]["defaults"]["custom"].update(showPoints="sometimes"),
        lambda board, panel: panel["fieldConfig"]["defaults"].update(
            thresholds={"mode": "absolute", "steps": 1}
        ),
        lambda board, panel: board["templating"]["list"][0].update(type="data source"),
    ],
)
def test_a_planted_departure_from_the_schema_is_found(change):
    assert schema_faults(_planted(change)) != []


def test_panels_have_their_own_numbers_and_do_not_overlap():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for p in [panel["gridPos"]]
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) == 23


def test_every_panel_says_what_it_shows_and_asks_the_chosen_datasource():
    for panel in PANELS:
        assert panel["description"].strip(), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, panel[
            "title"
        ]


def test_panels_name_only_metrics_that_the_service_declares():
    queries = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    used = set(re.findall(r"alphaloop_\w+", queries))
    assert used <= declared()
    # What the service declares and no panel shows would be looked for in vain during an incident.
    rules = (ROOT / "infra" / "prometheus" / "rules.yml").read_text()
    bases = {
        re.sub(r"_(bucket|sum|count|created)$", "", name)
        for name in declared()
        if not name.endswith("_created")
    }
    assert {name for name in bases if name not in queries and name not in rules} == set()


@pytest.mark.parametrize("expression", QUERIES)
def test_a_real_prometheus_answers_each_query(observed, expression):
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    assert observed.query(expression), "no data"


def test_variables_find_the_service(observed):
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    assert len(observed.query("group by (instance) (alphaloop_ready)")) == 1


def test_provisioning_loads_the_dashboard_and_the_datasource_from_the_environment():
    dashboards = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "alphaloop.yaml").read_text())
    sources = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    assert dashboards["apiVersion"] == sources["apiVersion"] == 1
    assert dashboards["providers"][0]["options"]["path"] == "${ALPHALOOP_GRAFANA_DASHBOARDS}"
    assert (sources["datasources"][0]["type"], sources["datasources"][0]["url"]) == (
        "prometheus",
        "${ALPHALOOP_PROMETHEUS_URL}",
    )
