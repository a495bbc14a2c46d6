"""All features of ticks once more, slowly: dictionaries for the book, lists for the past, sums written out.

It reads the declarations of the features for their windows and names, and nothing of the kernel.
"""

import math
import statistics
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HALT,
    HIDDEN,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    SNAPSHOT,
    TRADE,
)
from components.tick_features.config import Settings

NAN = math.nan


@dataclass
class Seen:
    """A message as it was over: the book after it, and what it counted."""

    ingest: int
    delay: int | None
    levels: dict
    touch: dict
    halted: bool
    whole: bool
    quoted: dict
    counts: dict = field(default_factory=dict)
    trades: list = field(default_factory=list)  # (sign, price, lots)


def seen_messages(ticks: pl.DataFrame) -> list[Seen]:
    levels, quotes, halted, whole, depth_told = {BUY: {}, SELL: {}}, {}, False, False, False
    before, found = {BUY: None, SELL: None}, []
    for rows in ticks.partition_by("message", maintain_order=True):
        count, trades, cleared = dict.fromkeys(("new", "cancelled"), 0), [], False
        for row in rows.iter_rows(named=True):
            kind, side, price, lots = (row[name] for name in ("kind", "side", "price", "quantity"))
            own = levels.get(side, {})
            if kind == SNAPSHOT:
                if not cleared:
                    levels = {BUY: {}, SELL: {}}
                    own, cleared, whole = levels[side], True, True
                levels[side][price] = lots
            elif kind == DEPTH:
                more = lots - own.get(price, 0)
                count["new" if more > 0 else "cancelled"] += abs(more)
                depth_told = True
                own[price] = lots
            elif kind == ADD:
                count["new"] += lots
                own[price] = own.get(price, 0) + lots
            elif kind in (REDUCE, DELETE, EXECUTE):
                own[price] -= lots
                if kind == EXECUTE:
                    trades.append((-side, price, lots))
                else:
                    count["cancelled"] += lots
            elif kind == HIDDEN:
                trades.append((-side, price, lots))
            elif kind == TRADE:
                trades.append((side, price, lots))
                count["cancelled"] -= lots if depth_told else 0
            elif kind == QUOTE:
                quotes[side] = (price, lots)
            elif kind in (HALT, RESUME):
                halted = kind == HALT
        levels = {side: {p: q for p, q in own.items() if q} for side, own in levels.items()}
        touch = {side: _touch(side, levels[side], quotes.get(side)) for side in (BUY, SELL)}
        last = rows.row(-1, named=True)
        standing = {side: dict(own) for side, own in levels.items()}
        one = Seen(last["ingest_ts"], last["delay_ns"], standing, touch, halted, whole, dict(quotes))
        flows = {side: 0 if cleared else _flow(side, before[side], touch[side]) for side in (BUY, SELL)}
        one.counts = {
            **count,
            "flow": flows[BUY] - flows[SELL],
            "turnover": abs(flows[BUY]) + abs(flows[SELL]),
            "touches": int(before != touch),
            "snapshot": int(cleared),
        }
        one.trades, before = trades, touch
        found.append(one)
    return found


def _touch(side, own, quote):
    if quote is not None:
        return quote if quote[1] else None
    return max(own.items(), key=lambda level: level[0] * side) if own else None


def _flow(side, old, new):
    """Lots that a side gained, by Cont, Kukanov and Stoikov."""
    gained = new[1] if new and (not old or new[0] * side >= old[0] * side) else 0
    lost = old[1] if old and (not new or new[0] * side <= old[0] * side) else 0
    return gained - lost


def crossed_or_empty(one: Seen) -> bool:
    bid, ask = one.touch[BUY], one.touch[SELL]
    return not bid or not ask or bid[0] >= ask[0]


def _best_levels(one: Seen, side: int, n: int):
    """The best n levels of a side, None where not so many are known."""
    found = [one.touch[side]]
    behind = sorted((p for p in one.levels[side] if p * side < found[0][0] * side), key=lambda p: -p * side)
    if side in one.quoted and not one.whole:
        behind = []
    found += [(price, one.levels[side][price]) for price in behind[: n - 1]]
    return found if len(found) == n else None


def _book_values(one: Seen) -> dict:
    names = ["spread", "microprice_gap", "depth_slope", "slope_imbalance", "micro"]
    names += [f"imbalance_{n}" for n in (1, 5, 10)] + [f"queue_imbalance_{n}" for n in (5, 10)]
    values = dict.fromkeys(names, NAN)
    if crossed_or_empty(one):
        return values
    (bid, bid_lots), (ask, ask_lots) = one.touch[BUY], one.touch[SELL]
    mid, micro = (bid + ask) / 2, (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)
    values |= {"spread": 1e4 * (ask - bid) / mid, "microprice_gap": 1e4 * (micro - mid) / mid, "micro": micro}
    for n in (1, 5, 10):
        bids, asks = _best_levels(one, BUY, n), _best_levels(one, SELL, n)
        if bids and asks:
            b, a = [lots for _, lots in bids], [lots for _, lots in asks]
            values[f"imbalance_{n}"] = (sum(b) - sum(a)) / (sum(b) + sum(a))
            values[f"queue_imbalance_{n}"] = statistics.mean(
                (x - y) / (x + y) for x, y in zip(b, a, strict=True)
            )
    bids, asks = _best_levels(one, BUY, 10), _best_levels(one, SELL, 10)
    slopes = [_slope(own, mid) if own else NAN for own in (bids, asks)]
    values["depth_slope"] = math.log1p((slopes[0] + slopes[1]) / 2)
    values["slope_imbalance"] = (slopes[0] - slopes[1]) / (slopes[0] + slopes[1])
    return values


def _slope(own, mid):
    distances = [abs(price - mid) for price, _ in own]
    together = np.cumsum([lots for _, lots in own])
    return sum(d * t for d, t in zip(distances, together, strict=True)) / sum(d * d for d in distances)


def raw_features(ticks: pl.DataFrame, moments: list[int], windows: dict[str, int]) -> list[dict]:
    """The features of each moment, NaN where not known; `windows` by name of feature."""
    seen, rows, samples = seen_messages(ticks), [], []
    for number, moment in enumerate(moments):
        heard = [one for one in seen if one.ingest <= moment]
        since = [one for one in heard if not number or one.ingest > moments[number - 1]]
        good = [one for one in heard if not crossed_or_empty(one)]
        if not good:
            rows.append(dict.fromkeys(windows, NAN))
            continue
        samples.append(_sample(heard, since, good[-1], samples))
        rows.append(_features(samples, heard, since, moment, windows))
    return rows


def _sample(heard, since, good, samples) -> dict:
    """What windows are made of, of one sample."""
    first = not samples
    mid2 = good.touch[BUY][0] + good.touch[SELL][0]
    total = {
        name: 0 if first else sum(one.counts[name] for one in since)
        for name in ("new", "cancelled", "flow", "turnover", "touches", "snapshot")
    }
    trades = [] if first else [trade for one in since for trade in one.trades]
    micro = _book_values(heard[-1])["micro"]
    known = [sample["micro"] for sample in samples[-1:]]
    return {
        **total,
        "mid2": mid2,
        "change": 0 if first else mid2 - samples[-1]["mid2"],
        "depth": 0 if first else good.touch[BUY][1] + good.touch[SELL][1],
        "messages": 0 if first else len(since),
        "trades": trades,
        "micro": micro if not math.isnan(micro) else (known or [NAN])[0],
        "last_depth": good.touch[BUY][1] + good.touch[SELL][1],
    }


def _features(samples, heard, since, moment, windows) -> dict:
    newest, values = heard[-1], _book_values(heard[-1])
    signs = [sign for one in heard for sign, _, _ in one.trades]
    run = 0
    for sign in reversed(signs):
        if sign != signs[-1]:
            break
        run += 1
    now, delay = samples[-1], newest.delay
    found = {
        **{name: values[name] for name in values if name != "micro"},
        "touch_depth": math.log1p(now["last_depth"]),
        "trade_sign": float(signs[-1]) if signs else 0.0,
        "trade_run": signs[-1] * math.log1p(run) if signs else 0.0,
        "delay": NAN if delay is None else math.log1p(delay / 1e6),
        "time_since_last_event": math.log1p((moment - newest.ingest) / 1e6),
        "traded": float(any(one.trades for one in since)),
        "touch_moved": float(now["change"] != 0),
        "resynced": float(any(one.counts["snapshot"] for one in since)),
        "silent": float(not since),
        "halted": float(newest.halted),
    }
    for name, window in windows.items():
        if window:
            found[name] = _windowed(name, samples, window) if len(samples) > window else NAN
    return {name: found[name] for name in windows}


def _windowed(name, samples, window):
    own, now = samples[-window:], samples[-1]
    mid2, before = now["mid2"], samples[-window - 1]
    trades = [trade for sample in own for trade in sample["trades"]]
    bought = sum(lots for sign, _, lots in trades if sign == BUY)
    sold = sum(lots for sign, _, lots in trades if sign == SELL)

    def total(what):
        return sum(sample[what] for sample in own)

    stem = name.rstrip("0123456789").rstrip("_")
    if stem == "vwap_gap":
        return 1e4 * math.log(mid2 / 2 / last_paid(samples, window))
    if stem == "micro_momentum":
        return 1e4 * (math.log(now["micro"]) - math.log(before["micro"]))
    changes = [sample["change"] for sample in own]
    return {
        "order_flow_imbalance": lambda: total("flow") / total("depth") if total("depth") else 0.0,
        "touch_churn": lambda: total("turnover") / total("depth") if total("depth") else 0.0,
        "touch_change_share": lambda: total("touches") / total("messages") if total("messages") else 0.0,
        "cancel_to_new": lambda: math.log((1 + max(total("cancelled"), 0)) / (1 + total("new"))),
        "trade_balance": lambda: (bought - sold) / (bought + sold) if trades else 0.0,
        "momentum": lambda: 1e4 * math.log(mid2 / before["mid2"]),
        "realised_volatility": lambda: 1e4 * math.sqrt(sum(x * x for x in changes)) / mid2,
        "volatility": lambda: max(np.std(changes, ddof=1), math.sqrt(1 / window)) / mid2,
        "message_rate": lambda: math.log1p(total("messages")),
    }[stem]()


def last_paid(samples, window):
    """What the last window paid in which something was traded."""
    for end in range(len(samples), window, -1):
        trades = [trade for sample in samples[end - window : end] for trade in sample["trades"]]
        if trades:
            return sum(price * lots for _, price, lots in trades) / sum(lots for _, _, lots in trades)
    return NAN


def scaled(rows: list[dict], name: str, method: str, settings: Settings) -> list[float]:
    """A feature against its own past; `rows` from the first sample with a whole book on."""
    result = []
    for number, row in enumerate(rows):
        past = past_of(rows, name, number, settings)
        value = row[name]
        if len(past) < settings.normalisation.least_values or math.isnan(value):
            result.append(NAN)
        elif method == "rank":
            below, equal = sum(x < value for x in past), sum(x == value for x in past)
            result.append((below + equal / 2) / len(past) - 0.5)
        else:
            result.append(_robust(value, past))
    return result


def past_of(rows, name, number, settings):
    """The values of the past that are looked at, the oldest first."""
    every, values = settings.normalisation.every_samples, settings.normalisation.values
    taken = [rows[i][name] for i in range(number) if i % every == 0 and not math.isnan(rows[i][name])]
    return taken[-values:]


def _robust(value, past):
    centre = statistics.median(past)
    spread = 1.4826 * statistics.median(abs(x - centre) for x in past)
    spread = spread or 1.2533 * sum(abs(x - centre) for x in past) / len(past)
    distance = value - centre
    if not spread:
        return math.copysign(8.0, distance) if distance else 0.0
    return min(max(distance / spread, -8.0), 8.0)
