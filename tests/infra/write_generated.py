"""Writes the manifests that say again what another file says: `python -m tests.infra.write_generated`.

Kustomize reads no file outside its folder, so the config of the service is a copy, and Prometheus' operator
wants the rules inside an object.
"""

from tests.infra.observed import ROOT

BASE = ROOT / "infra" / "kubernetes" / "base"
CONFIG = ROOT / "pipelines" / "configs" / "cluster.yaml"
RULES = ROOT / "infra" / "prometheus" / "rules.yml"
_RULES_HEAD = """\
# Made from infra/prometheus/rules.yml by `python -m tests.infra.write_generated`: change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: alphaloop
  labels:
    app.kubernetes.io/name: alphaloop
    app.kubernetes.io/component: serving
spec:
"""


def generated() -> dict[str, str]:
    """By file of the base: what it must hold."""
    lines = RULES.read_text().splitlines()
    body = "\n".join(f"  {line}" if line else "" for line in lines if not line.startswith("#"))
    return {"rules.yaml": f"{_RULES_HEAD}{body}\n", "config.yaml": CONFIG.read_text()}


if __name__ == "__main__":
    for name, text in generated().items():
        (BASE / name).write_text(text)
