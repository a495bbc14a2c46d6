"""Order flow of one simulated symbol, compiled: zero-intelligence orders around a mid that walks by itself.

Events come as a Hawkes process with an exponential kernel (Ogata's thinning), times the regime's activity.
Each is one of: a move of the mid by a tick; an order or a cancel at the touch, of several levels behind it,
or far away (by a power law of the distance: Zovko and Farmer, 2002; zero-intelligence flow: Smith, Farmer et
al., 2003; Cont, Stoikov, Talreja, 2010); a market order; a change of the spread, equal on both sides.

No flow but a move shifts the mid: market orders leave the touch its last lot, and the quantities that are
drawn after a move know nothing of it. With nothing planted, moves go up as often as down whatever came
before: the mid is a martingale given all that can be seen, and imbalance says nothing. What is planted is a
drift in ticks a second, which tilts the odds of a move: Ornstein-Uhlenbeck states, one of which shows in the
quantities at the touch, and two, whose product is the drift, in the levels behind it and in the aggressors'
side.
"""

from typing import NamedTuple

import numpy as np

from components.compiling import compiled
from components.contracts.tick_schemas import BUY, DEPTH, HALT, QUOTE, RESUME, SELL, SNAPSHOT, TRADE

LEVELS = 20
# Columns of a row that the kernel tells: nanoseconds since the session's start on the exchange's clock,
# number of the message and of the event that it belongs to, and the columns of TICKS.
TIME, MESSAGE, EVENT, KIND, SIDE, PRICE, QUANTITY, UPDATE, PREVIOUS = range(9)
FIRST_UPDATE = 1_000_000
# A row of states, at each moment of a grid: what the drift is made of, and twice the mid in ticks.
LINEAR, PRODUCT, TREND, SCALE, TWICE_MID = range(5)
# Kinds of event other than moves, by their share of what is not a move.
AT_TOUCH, BEHIND, FAR, MARKET = 0.42, 0.20, 0.06, 0.30
SHARES = np.cumsum([AT_TOUCH, BEHIND, FAR, MARKET])
# Speed at which excitation dies away, a second.
DECAY = 5.0
# Moves that a market order brings about; the others are quotes that go away.
SWEPT = 0.3
# Levels behind the touch that one event sets anew.
BEHIND_LEVELS = 4
MEAN_ORDER = 5.0
DEEPEST_POWER = 1.5
# How far quantities lean with the state that they show.
LEAN = 0.5
# Rows that one event tells at most: a snapshot tells all levels.
MOST_ROWS = 2 * LEVELS + 8
NANOSECONDS = 1e9


class Flow(NamedTuple):
    """Rates a second (in a calm market), the planted drift in ticks a second, and how it shows."""

    base_rate: float
    branching: float
    move_share: float
    linear: float
    product: float
    trend: float
    linear_speed: float
    product_speed: float
    noise: float


class Plan(NamedTuple):
    """What is settled beforehand, times in seconds since the session's start, each list ending in infinity:
    regimes by their start with activity, direction of the trend (0: none) and odds of a wide spread; when the
    collector asks for the whole book; halts by start and end.
    """

    seconds: float
    regime_starts: np.ndarray
    activity: np.ndarray
    trend: np.ndarray
    wide: np.ndarray
    snapshots: np.ndarray
    halts: np.ndarray


@compiled()
def simulate_flow(
    rng: np.random.Generator, flow: Flow, plan: Plan, price: int, grid_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One session of a symbol whose best bid starts at `price` ticks.

    Returns rows (int64, columns above), states on a grid of `grid_s` seconds, and the book at the end: prices
    of the touch (bid, ask) and quantities by side and level.
    """
    book = np.empty((2, LEVELS), np.int64)
    touch = np.array([price, price + 1])
    latent = np.empty(3)
    for number in range(3):
        latent[number] = rng.standard_normal()
    for side in range(2):
        for level in range(LEVELS):
            book[side, level] = _lots(rng, side, level, latent, flow.noise)
    rows = np.empty((1 << 16, 9), np.int64)
    states = np.empty((int(plan.seconds / grid_s) + 1, 5))
    # Counters: rows, messages, events, last update.
    count = np.array([0, 0, 0, FIRST_UPDATE])
    _tell_snapshot(rows, count, 0.0, touch, book)
    time = latent_time = excitation = 0.0
    grid = regime = asked = halted = 0
    while True:
        while plan.regime_starts[regime + 1] <= time:
            regime += 1
        activity = plan.activity[regime]
        bound = activity * flow.base_rate + excitation
        stop = min(plan.regime_starts[regime + 1], plan.snapshots[asked], plan.halts[halted, 0], plan.seconds)
        later = time + rng.standard_exponential() / bound
        until = max(min(later, stop), time)
        excitation *= np.exp(-DECAY * (until - time))
        while grid < len(states) and grid * grid_s <= until:
            _evolve(rng, latent, flow, grid * grid_s - latent_time)
            latent_time = grid * grid_s
            _keep_state(states[grid], latent, plan.trend[regime], activity, touch)
            grid += 1
        time = until
        if len(rows) - count[0] < MOST_ROWS:
            rows = _of_length(rows, 2 * len(rows))
        if time >= plan.seconds:
            break
        if later > stop:
            count[2] += 1
            if plan.halts[halted, 0] <= time:
                _tell(rows, count, time, HALT, 0, 0, 0, True)
                time = plan.halts[halted, 1]
                count[2] += 1
                _tell(rows, count, time, RESUME, 0, 0, 0, True)
                halted += 1
                excitation = 0.0
            elif plan.snapshots[asked] <= time:
                _tell_snapshot(rows, count, time, touch, book)
                asked += 1
            continue
        rate = activity * flow.base_rate + excitation
        if rng.random() * bound > rate:
            continue
        _evolve(rng, latent, flow, time - latent_time)
        latent_time = time
        excitation += flow.branching * DECAY
        count[2] += 1
        drawn = rng.random()
        if drawn < flow.move_share:
            drift = np.sqrt(activity) * (flow.linear * latent[0] + flow.product * latent[1] * latent[2])
            drift += flow.trend * plan.trend[regime]
            up = rng.random() < 0.5 * (1.0 + drift / (flow.move_share * rate))
            _move(rng, rows, count, time, up, touch, book, latent, flow.noise)
        else:
            drawn = (drawn - flow.move_share) / (1.0 - flow.move_share)
            _leave_mid(rng, rows, count, time, drawn, plan.wide[regime], touch, book, latent, flow.noise)
    return _of_length(rows, count[0]), states[:grid], touch, book


@compiled()
def _of_length(rows, length):
    """A copy with so many rows, what is there kept. Loops: assigning slices compiles slowly."""
    copy = np.empty((length, rows.shape[1]), np.int64)
    for row in range(min(length, len(rows))):
        for column in range(rows.shape[1]):
            copy[row, column] = rows[row, column]
    return copy


@compiled()
def _leave_mid(rng, rows, count, time, drawn, wide, touch, book, latent, noise):
    """An event that leaves the mid where it is, its kind by the uniform number `drawn`."""
    side = int(rng.random() < 0.5)
    if drawn < SHARES[0]:
        book[side, 0] = _lots(rng, side, 0, latent, noise)
        _tell_quotes(rows, count, time, touch, book)
        _tell_level(rows, count, time, side, 0, touch, book, True)
    elif drawn < SHARES[1]:
        for level in range(1, 1 + BEHIND_LEVELS):
            book[side, level] = _lots(rng, side, level, latent, noise)
            _tell_level(rows, count, time, side, level, touch, book, level == 1)
    elif drawn < SHARES[2]:
        _far_order(rng, rows, count, time, side, touch, book)
    elif drawn < SHARES[3]:
        _market_order(rng, rows, count, time, touch, book, latent, noise)
    else:
        _change_spread(rng, rows, count, time, wide, touch, book, latent, noise)


@compiled()
def _evolve(rng, latent, flow, seconds):
    """Ornstein-Uhlenbeck states of unit variance, `seconds` later; exact."""
    for number in range(3):
        speed = flow.linear_speed if number == 0 else flow.product_speed
        kept = np.exp(-speed * seconds)
        latent[number] = kept * latent[number] + np.sqrt(1.0 - kept * kept) * rng.standard_normal()


@compiled()
def _keep_state(state, latent, trend, activity, touch):
    state[LINEAR] = latent[0]
    state[PRODUCT] = latent[1] * latent[2]
    state[TREND] = trend
    state[SCALE] = np.sqrt(activity)
    state[TWICE_MID] = touch[0] + touch[1]


@compiled()
def _lots(rng, side, level, latent, noise):
    """What rests at a level: log-normal around a mean that grows with the distance, leaning to the side that
    the level's state says.
    """
    shown = latent[0] if level == 0 else latent[1]
    if level > BEHIND_LEVELS:
        shown = 0.0
    leans = LEAN * (1 - 2 * side) * (shown + noise * rng.standard_normal())
    return max(2, int(np.rint((40.0 + 10.0 * min(level, 10)) * np.exp(leans))))


@compiled()
def _tell(rows, count, time, kind, side, price, quantity, opens):
    """Tell one row, the first of a message where it `opens` one; depth messages are chained by update."""
    if opens:
        count[1] += 1
    row = rows[count[0]]
    row[TIME] = np.int64(time * NANOSECONDS)
    row[MESSAGE], row[EVENT] = count[1], count[2]
    row[KIND], row[SIDE], row[PRICE], row[QUANTITY] = kind, side, price, quantity
    row[UPDATE] = row[PREVIOUS] = 0
    if kind == DEPTH and opens:
        row[PREVIOUS] = count[3]
        count[3] += 1
        row[UPDATE] = count[3]
    elif kind == DEPTH:
        row[UPDATE], row[PREVIOUS] = rows[count[0] - 1, UPDATE], rows[count[0] - 1, PREVIOUS]
    elif kind == SNAPSHOT:
        row[UPDATE] = count[3]
    count[0] += 1


@compiled()
def _price(side, level, touch):
    return touch[side] + (2 * side - 1) * level


@compiled()
def _tell_level(rows, count, time, side, level, touch, book, opens):
    price = _price(side, level, touch)
    _tell(rows, count, time, DEPTH, 1 - 2 * side, price, book[side, level], opens)


@compiled()
def _tell_quotes(rows, count, time, touch, book):
    _tell(rows, count, time, QUOTE, BUY, touch[0], book[0, 0], True)
    _tell(rows, count, time, QUOTE, SELL, touch[1], book[1, 0], False)


@compiled()
def _tell_snapshot(rows, count, time, touch, book):
    """The whole book, and the touch after it."""
    for side in range(2):
        for level in range(LEVELS):
            opens = side == 0 and level == 0
            price = _price(side, level, touch)
            _tell(rows, count, time, SNAPSHOT, 1 - 2 * side, price, book[side, level], opens)
    _tell_quotes(rows, count, time, touch, book)


@compiled()
def _take_level(rng, rows, count, time, side, touch, book, latent, noise, opens):
    """The touch of a side goes away, and a level appears at the far end."""
    _tell(rows, count, time, DEPTH, 1 - 2 * side, touch[side], 0, opens)
    for level in range(LEVELS - 1):
        book[side, level] = book[side, level + 1]
    touch[side] += 2 * side - 1
    book[side, 0] = _lots(rng, side, 0, latent, noise)
    book[side, -1] = _lots(rng, side, LEVELS - 1, latent, noise)
    _tell_level(rows, count, time, side, 0, touch, book, False)
    _tell_level(rows, count, time, side, LEVELS - 1, touch, book, False)


@compiled()
def _give_level(rng, rows, count, time, side, touch, book, latent, noise, opens):
    """A side's touch comes a tick nearer, and its farthest level goes away."""
    _tell(rows, count, time, DEPTH, 1 - 2 * side, _price(side, LEVELS - 1, touch), 0, opens)
    for level in range(LEVELS - 1, 0, -1):
        book[side, level] = book[side, level - 1]
    touch[side] -= 2 * side - 1
    book[side, 0] = _lots(rng, side, 0, latent, noise)
    book[side, 1] = _lots(rng, side, 1, latent, noise)
    _tell_level(rows, count, time, side, 0, touch, book, False)
    _tell_level(rows, count, time, side, 1, touch, book, False)


@compiled()
def _move(rng, rows, count, time, up, touch, book, latent, noise):
    """Both touches a tick up or down; the quotes come first, so that no trade tells a move beforehand."""
    taken = 1 if up else 0
    price, quantity = touch[taken], book[taken, 0]
    quotes = count[0]
    _tell_quotes(rows, count, time, touch, book)
    if rng.random() < SWEPT:
        _tell(rows, count, time, TRADE, 1 if up else -1, price, quantity, True)
    _take_level(rng, rows, count, time, taken, touch, book, latent, noise, True)
    _give_level(rng, rows, count, time, 1 - taken, touch, book, latent, noise, False)
    for side in range(2):
        rows[quotes + side, PRICE], rows[quotes + side, QUANTITY] = touch[side], book[side, 0]


@compiled()
def _change_spread(rng, rows, count, time, wide, touch, book, latent, noise):
    """From one tick to three, or back; the mid stays."""
    narrow = touch[1] - touch[0] == 1
    if narrow and rng.random() > wide:
        return
    quotes = count[0]
    _tell_quotes(rows, count, time, touch, book)
    for side in range(2):
        if narrow:
            _take_level(rng, rows, count, time, side, touch, book, latent, noise, side == 0)
        else:
            _give_level(rng, rows, count, time, side, touch, book, latent, noise, side == 0)
    for side in range(2):
        rows[quotes + side, PRICE], rows[quotes + side, QUANTITY] = touch[side], book[side, 0]


@compiled()
def _market_order(rng, rows, count, time, touch, book, latent, noise):
    """Takes from the touch, all but its last lot; its side shows a factor of the planted product."""
    buys = rng.random() < 0.5 * (1.0 + np.tanh(1.5 * latent[2] / (0.5 + noise)))
    side = 1 if buys else 0
    size = min(1 + int(MEAN_ORDER * rng.standard_exponential()), book[side, 0] - 1)
    if size < 1:
        return
    book[side, 0] -= size
    _tell_quotes(rows, count, time, touch, book)
    _tell(rows, count, time, TRADE, 1 if buys else -1, touch[side], size, True)
    _tell_level(rows, count, time, side, 0, touch, book, True)


@compiled()
def _far_order(rng, rows, count, time, side, touch, book):
    """A limit order, or a cancel of a part, at a level behind those that are set together."""
    first = 1 + BEHIND_LEVELS
    level = min(int(first * rng.random() ** (-1.0 / DEEPEST_POWER)), LEVELS - 1)
    if rng.random() < 0.5:
        book[side, level] += 1 + int(2 * MEAN_ORDER * rng.standard_exponential())
    else:
        book[side, level] -= int(book[side, level] * 0.25 * rng.random())
    _tell_level(rows, count, time, side, level, touch, book, True)
