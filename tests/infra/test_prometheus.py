"""Prometheus' config and rules: its own tools accept them, alerts fire when they must, and a real server
evaluates every one of them.
"""

import re
import subprocess
import sys

import pytest
import yaml

from tests.infra.observed import FOLDER, PROMTOOL, ROOT

pytestmark = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian package prometheus)"
)
RULES = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]


def promtool(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [PROMTOOL, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=300
    )


def declared() -> set[str]:
    """Every sample name that the service declares; its metrics are made in a process of their own, no service
    runs.
    """
    script = (
        "from serving.live.metrics import make_metrics; make_metrics(); from prometheus_client import"
        " generate_latest; print(generate_latest().decode())"
    )
    text = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = {
        line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE alphaloop_")
    }
    return {
        f"{name}{end}"
        for name, kind in names.items()
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }


def test_config_and_rules_pass_prometheus_own_checks():
    for arguments in (
        ("check", "config", FOLDER / "prometheus.yml"),
        ("check", "rules", FOLDER / "rules.yml"),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_must_and_is_silent_when_it_must_not():
    done = promtool("test", "rules", FOLDER / "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_an_alert_that_is_switched_off_fails_the_unit_tests(tmp_path, alert):
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())
    # Those that name the alert: all others take their time and say nothing of it.
    tests["tests"] = [
        one for one in tests["tests"] if one["name"] != "a quiet service" and alert in yaml.safe_dump(one)
    ]
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(tests))
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") == alert:
                rule["expr"] = "vector(1) < 0"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    done = promtool("test", "rules", tmp_path / "rules_test.yml")
    assert done.returncode != 0
    assert alert in done.stdout + done.stderr


def test_each_alert_says_what_is_wrong_what_to_do_and_how_urgent_it_is():
    for rule in ALERTS:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_rules_name_only_metrics_that_the_service_declares():
    used = {name for rule in RULES for name in re.findall(r"alphaloop_\w+", rule["expr"])}
    assert used <= declared()
    assert len(used) >= 9


def test_a_real_server_scrapes_the_service_and_evaluates_every_rule(observed):
    targets = observed.get("/api/v1/targets")["activeTargets"]
    assert [target["health"] for target in targets] == ["up"]
    groups = observed.get("/api/v1/rules")["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert len(found) == len(RULES)
    assert {rule["name"]: rule["health"] for rule in found if rule["health"] != "ok"} == {}
    for rule in RULES:
        if "record" in rule:
            assert observed.query(rule["record"]), rule["record"]


def test_the_recorded_numbers_are_those_of_the_traffic(observed):
    p95 = {
        series["metric"]["endpoint"]: float(series["value"][1]) for series in observed.query("infer_p95_ms")
    }
    assert set(p95) == {"signals", "score"}
    assert all(1 < value <= 1.5 for value in p95.values())
    assert {
        series["metric"]["over"]: float(series["value"][1]) for series in observed.query("feature_shift_ks")
    } == {"largest": 0.12, "mean": 0.03}
    assert float(observed.query("refused_share")[0]["value"][1]) == pytest.approx(1 / 3, abs=0.05)
    assert observed.query('ALERTS{alertstate="firing"}') == []
