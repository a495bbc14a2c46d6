"""More than 2,000 requests that schemathesis makes from the service's own description: no 5xx, no hang,
nothing that the description does not say.

python -m tests.benchmarks.bench_fuzz [--examples 600]
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from tests.serving.fuzz import KEY, KEY_VARIABLE, LONGEST_ANSWER_S, fuzz
from tests.serving.live_service import live_service
from tests.serving.small_champion import crown, make_run


def main() -> int:
    """Print what was sent and found; returns 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--examples", type=int, default=600, help="requests drawn at random, at most, for each operation"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(Path(scratch) / "run", seeds=(1,))
        crown(run.folder, run.bundles[0], 1)
        settings = {"api_key_variable": KEY_VARIABLE, "requests_per_second": 1e6, "burst": 1_000_000}
        with live_service(
            run.plan(settings), environment={KEY_VARIABLE: KEY}, headers={"Authorization": f"Bearer {KEY}"}
        ) as live:
            found = fuzz(live, arguments.examples)
            text = live.client.get("/metrics").text
            counts = re.findall(r'alphaloop_requests_total\{endpoint="(\w+)",result="(\w+)"\} (\S+)', text)
        results: dict[str, float] = {}
        for _, result, count in counts:
            results[result] = results.get(result, 0) + float(count)
        print(
            f"{found.requests:,} requests in {found.seconds:.0f} s, none longer than {LONGEST_ANSWER_S} s"
            f" unless said below; {len(found.failures)} findings"
        )
        print(
            ", ".join(
                f"{result} {count:.0f}"
                for result, count in sorted(results.items(), key=lambda item: -item[1])
            )
        )
        print(
            "the service's log: "
            + ("clean" if "Traceback" not in live.log.read_text() else live.log.read_text()[-2000:])
        )
        if found.failures:
            print(found.text[-6000:])
    return int(bool(found.failures))


if __name__ == "__main__":
    sys.exit(main())
