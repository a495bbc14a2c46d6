"""The loop over bars of the backtest, compiled: how staggered books earn, trade, are stopped and pay.

Sums run over all books and symbols in the order of NumPy's pairwise summation, so that results are those of
the same arithmetic on arrays, to the bit. Imported late, for numba is slow to load.
"""

import numpy as np

from components.backtest.compiled import compiled, pairwise_sum

NEGLIGIBLE = 1e-12
# Columns of what `run_bars` returns.
FIGURES = (
    "gross_return",
    "cost",
    "net_return",
    "turnover",
    "exposure",
    "net_exposure",
    "n_long",
    "n_short",
    "impact",
)
EVENTS = ("stopped", "delisted", "pauses")
STOPPED, DELISTED, PAUSES = range(3)


@compiled
def _earn(books, change):
    """Let all positions earn; what it adds to the capital."""
    n_books, n_symbols = books.held.shape
    for book in range(n_books):
        held, earned = books.held[book], books.changed[book * n_symbols : (book + 1) * n_symbols]
        for n in range(n_symbols):
            gain = held[n] * change[n]
            earned[n] = gain
            held[n] += gain
    gained = pairwise_sum(books.changed, n_books * n_symbols)
    for n in range(n_symbols):
        books.room[n] = books.frozen[n] * change[n]
    return gained + pairwise_sum(books.room, n_symbols)


@compiled
def _fills(held, wanted, known, buyable, sellable):
    """Whether an order is filled; without branches, which nobody could foresee."""
    more, less = wanted > held, wanted < held
    return (more & buyable) | (less & sellable) | (known & (not (more | less)))


@compiled
def _want(books, market, bar, book, target, share):
    """Put the positions that a book whose turn it is wants into `books.wanted`: `target` times `share`, made
    smaller where what can't be reduced takes up the room of its side, so that capital is not spent twice.
    """
    held, stuck = books.held[book], books.filled
    known, buyable, sellable = market.known[bar], market.buyable[bar], market.sellable[bar]
    any_stuck = 0
    for n in range(len(held)):
        wanted = target[n] * share
        filled = _fills(held[n], wanted, known[n], buyable[n], sellable[n])
        books.wanted[n] = wanted
        stuck[n] = (abs(held[n]) > abs(wanted)) & (not filled)
        any_stuck += stuck[n]
    if any_stuck:
        long, short = _scale(books, held, 1.0), _scale(books, held, -1.0)
        for n in range(len(held)):
            books.wanted[n] *= 1.0 if stuck[n] else (long if books.wanted[n] > 0 else short)


@compiled
def _scale(books, held, sign):
    """What the free wanted positions of one side are multiplied by, beside those that are stuck."""
    values, stuck = books.room, books.filled
    for n in range(len(held)):
        values[n] = max(sign * books.wanted[n], 0.0)
    whole = pairwise_sum(values, len(held))
    taken = 0
    for n in range(len(held)):
        values[taken] = max(sign * held[n], 0.0)
        taken += stuck[n]
    room = max(whole - pairwise_sum(values, taken), 0.0)
    left = 0
    for n in range(len(held)):
        values[left] = max(sign * books.wanted[n], 0.0)
        left += not stuck[n]
    return min(room / max(pairwise_sum(values, left), NEGLIGIBLE), 1.0)


@compiled
def _write_off(books, gone, delisting_return):
    """Mark what is held of names that are gone; what their last return adds to the capital, and how many
    there are.
    """
    held, names, places = books.held, 0, 0
    for n in range(len(gone)):
        if gone[n]:
            any_held, rest = False, 0.0
            for book in range(len(held)):
                if held[book, n] != 0:
                    any_held = books.busy[book] = True
                    rest += held[book, n] * (1 + delisting_return)
            books.frozen[n] += rest
            names += any_held
    if names == 0:
        return 0.0, 0
    for book in range(len(held)):
        for n in range(len(gone)):
            if gone[n] and held[book, n] != 0:
                books.changed[places] = held[book, n] * delisting_return
                places += 1
    return pairwise_sum(books.changed, places), names


@compiled
def _trade(books, market, bar, book):
    """Close what must go, and renew the book whose turn it is to `books.wanted`; the traded value.

    What can't be filled stays as it is held, until the book is renewed again or, where it must go, until the
    first bar that fills it.
    """
    held, leaving = books.held, books.leaving
    n_books, n_symbols = held.shape
    known, buyable, sellable = market.known[bar], market.buyable[bar], market.sellable[bar]
    books.ordered[:] = 0.0
    books.changed[:] = 0.0
    for k in range(n_books):
        if k != book and not books.busy[k]:
            continue
        busy = False
        for n in range(n_symbols):
            old = held[k, n]
            wanted = books.wanted[n] if k == book else (0.0 if leaving[k, n] else old)
            filled = _fills(old, wanted, known[n], buyable[n], sellable[n])
            if not filled:
                wanted = 0.0 if market.gone[bar, n] else old
            if k == book and filled:
                books.entered[k, n] = wanted
                leaving[k, n] = False
            leaving[k, n] &= wanted != 0
            busy |= leaving[k, n]
            held[k, n] = wanted
            size = abs(wanted - old)
            books.changed[k * n_symbols + n] = size
            books.ordered[n] += size
        books.busy[k] = busy
    return pairwise_sum(books.changed, n_books * n_symbols)


@compiled
def _spread(ordered, rates):
    """Half the spread of all orders of a bar, in units of the capital at the start."""
    cost = 0.0
    for n in range(len(ordered)):
        if ordered[n] > 0:
            cost += rates[n] * ordered[n]
    return cost


@compiled
def _impact(ordered, rates, before):
    """What moving the price costs, as a share of the capital `before` where that is one unit of money."""
    cost = 0.0
    for n in range(len(ordered)):
        if ordered[n] > 0:
            size = ordered[n] / before
            cost += rates[n] * size * np.sqrt(size)
    return cost


@compiled
def _borrowed(total, rates):
    """What the positions short at the close before cost to borrow."""
    fee = 0.0
    for n in range(len(total)):
        if total[n] < 0:
            fee -= total[n] * rates[n]
    return fee


@compiled
def _stop_losses(books, share):
    """Mark the positions that lost `share` since they were entered; how many."""
    hits = 0
    for book in range(len(books.held)):
        held, entered, leaving = books.held[book], books.entered[book], books.leaving[book]
        here = 0
        for n in range(len(held)):
            change = held[n] / entered[n] - 1
            loss = -change if held[n] > 0 else change
            here += (held[n] != 0) & (entered[n] != 0) & (not leaving[n]) & (loss >= share)
        if here:
            books.busy[book] = True
            for n in range(len(held)):
                change = held[n] / entered[n] - 1
                loss = -change if held[n] > 0 else change
                leaving[n] |= (held[n] != 0) & (entered[n] != 0) & (loss >= share)
        hits += here
    return hits


@compiled
def _too_deep(net, peak, drawdown):
    # Costs above the capital make `net` negative: there the product says nothing of a stop that is off.
    return not np.isinf(drawdown) and net <= peak * (1 - drawdown)


@compiled
def _leave_all(books):
    for book in range(len(books.held)):
        books.busy[book] = True
        for n in range(books.held.shape[1]):
            books.leaving[book, n] |= books.held[book, n] != 0


@compiled
def _exposure_factor(net_returns, count, rules):
    """1, or a half where the portfolio's own volatility, known at the signal, is above its ceiling."""
    bars = rules.volatility_bars
    if np.isinf(rules.volatility_ceiling) or count < bars:
        return 1.0
    newest = net_returns[count - bars : count].copy()
    newest -= pairwise_sum(newest, bars) / bars
    newest *= newest
    realised = np.sqrt(pairwise_sum(newest, bars) / (bars - 1)) * rules.root_of_year
    return 0.5 if realised > rules.volatility_ceiling else 1.0


@compiled
def _sums(books, scale, out):
    """Exposure and names at the close, into the columns of FIGURES from `exposure` on."""
    n_books, n_symbols = books.held.shape
    total = books.total
    total[:] = 0.0
    for book in range(n_books):
        held = books.held[book]
        for n in range(n_symbols):
            total[n] += held[n]
    long, short = 0, 0
    for n in range(n_symbols):
        books.room[n] = abs(total[n])
        long += total[n] > NEGLIGIBLE
        short += total[n] < -NEGLIGIBLE
    out[4] = pairwise_sum(books.room, n_symbols) / scale
    out[5] = pairwise_sum(total, n_symbols) / scale
    out[6], out[7] = long, short


@compiled
def _grown(books, capital):
    """The capital; what lost everything stays in cash."""
    if capital > 0:
        return capital
    books.held[:] = 0.0
    books.frozen[:] = 0.0
    return 0.0


@compiled
def run_bars(market, targets, charges, rules, books, first):
    """Move the books through the bars from `first` on, each traded by the targets of the bar before.

    Parameters
    ----------
    targets : (bars, symbols), weights of a new book as a share of the capital of all books
    books : from `empty_books`; changed in place

    Returns
    -------
    (bars - first, FIGURES): shares of the capital before each bar, exposures of that after it; `impact` is
    its part of the cost at a capital of one unit of money. And the counts of EVENTS.
    """
    n_books, n_bars = len(books.held), len(market.overnight)
    rows, events = np.zeros((n_bars - first, len(FIGURES))), np.zeros(3, dtype=np.int64)
    spreads, impacts, borrows = len(charges.spread) > 0, len(charges.impact) > 0, len(charges.borrow) > 0
    capital = net = peak = 1.0
    losses, paused_until = 0, 0
    for bar in range(first, n_bars):
        row, book, before = bar - first, (bar - first) % n_books, capital
        cost = impact = 0.0
        if borrows and before > 0:
            cost += _borrowed(books.total, charges.borrow[bar - 1]) / before
        capital = _grown(books, capital + _earn(books, market.overnight[bar]))
        if rules.at_close:
            capital = _grown(books, capital + _earn(books, market.intraday[bar]))
        factor = _exposure_factor(rows[:, 2], row, rules)
        if bar < paused_until:
            factor = 0.0
        for n in range(len(books.frozen)):
            if market.known[bar, n]:
                books.frozen[n] = 0.0
            books.room[n] = targets[bar - 1, n] / n_books * factor
        _want(books, market, bar, book, books.room.copy(), capital)
        lost, names = _write_off(books, market.gone[bar], rules.delisting_return)
        capital += lost
        events[DELISTED] += names
        traded = _trade(books, market, bar, book)
        if not rules.at_close:
            capital = _grown(books, capital + _earn(books, market.intraday[bar]))
        gross = max(capital / before - 1, -1.0) if before > 0 else 0.0
        turnover = traded / before if before > 0 else 0.0
        cost += turnover * rules.cost_bps / 1e4
        if spreads and turnover > 0:
            cost += _spread(books.ordered, charges.spread[bar - 1]) / before
        if impacts and turnover > 0:
            impact = _impact(books.ordered, charges.impact[bar - 1], before)
            if rules.root_of_capital > 0:
                cost += impact * rules.root_of_capital
        rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3] = gross, cost, gross - cost, turnover
        rows[row, 8] = impact
        _sums(books, capital if capital > 0 else 1.0, rows[row])
        net *= 1 + rows[row, 2]
        peak, losses = max(peak, net), losses + 1 if rows[row, 2] < 0 else 0
        if not np.isinf(rules.stop_loss):
            events[STOPPED] += _stop_losses(books, rules.stop_loss)
        if bar < paused_until:
            peak, losses = net, 0
        elif _too_deep(net, peak, rules.drawdown) or losses >= rules.losses_in_row:
            _leave_all(books)
            paused_until = bar + 1 + rules.pause_bars
            events[PAUSES] += 1
    return rows, events
