#!/usr/bin/env bash
# The closed loop on a simulated market, in one terminal: train, serve, ask; the market changes; the drift is seen, a new model is
# trained by itself and served without a restart. About ten minutes on two cores. Everything lies in runs/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${PORT:-3000}
url=http://127.0.0.1:$port
run=runs/demo
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
alphaloop() { .venv/bin/alphaloop "$@"; }

say "1. Train on the first 750 bars: make run"
make run

say "2. Serve the champion"
alphaloop serve --port "$port" &
service=$!
trap 'kill $service 2>/dev/null; wait $service 2>/dev/null' EXIT
for _ in $(seq 60); do
  curl -fs -o /dev/null "$url/readyz" && break
  kill -0 $service || exit 1
  sleep 1
done
curl -fs -o /dev/null "$url/readyz" || { echo "The service did not become ready; see $run/serving/service.log"; exit 1; }

say "3. Ask for signals"
alphaloop predict S01 S02 S03 --url "$url"
first_champion=$(curl -fs "$url/model" | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["version"])')

begin=2023-11-20
for end in 2024-02-23 2024-05-24 2024-08-23 2024-11-01; do
  say "4. The market goes on to $end: new bars to the store, each of them through the service, then a look for drift"
  alphaloop materialise --set market.end=$end
  alphaloop replay --from $begin --to $end --url "$url"
  sleep 12   # the log writer closes its segments every few seconds
  alphaloop watch --once --set market.end=$end
  begin=$end
done

say "5. Who answers now"
sleep 5
champion=$(curl -fs "$url/model" | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["version"])')
alphaloop predict S01 S02 S03 --url "$url"
alphaloop champions
alphaloop review
echo "Version $first_champion answered at first, version $champion answers now."
echo "Review page: $run/review/index.html, or $url/review/ while the service runs. Run report: $run/report.html"
