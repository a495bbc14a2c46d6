"""The pass over ticks: rows go into the state of a symbol, and samples come out at their moments.

A sample of a moment t is taken before the first row with `ingest_ts` > t, so it knows exactly the messages
with `ingest_ts` <= t, wherever the rows were cut into chunks.
"""

from components.order_book.compiled import compiled
from components.order_book.state import apply
from components.tick_features.messages import close_message, count_row
from components.tick_features.sampling import take_sample
from components.tick_features.state import DELAY, FAULT, INGEST, MESSAGE, NEVER, NEXT, STEP


@compiled
def pass_over(state, rows, start, samples, taken):
    """Let `rows` from `start` on into the state, and the samples due before them into `samples`, of which
    `taken` are there.

    Returns
    -------
    The first row that was not let in (all were where it is the number of rows; else `samples` is full, or
    the row is earlier than the one before it, which `at[FAULT]` says) and how many samples are there.
    """
    at, book, counts, touch, depth = state.at, state.book, state.counts, state.touch, state.depth
    kinds, sides, prices, lots = rows.kind, rows.side, rows.price, rows.quantity
    orders, messages, ingests, delays = rows.order_id, rows.message, rows.ingest, rows.delay
    for row in range(start, len(ingests)):
        ingest, message = ingests[row], messages[row]
        if ingest < at[INGEST]:
            at[FAULT] = 1
            return row, taken
        if message != at[MESSAGE] or ingest > at[INGEST]:
            close_message(book, at, counts, touch, depth)
        if at[NEXT] < ingest:
            taken = sample_until(state, ingest - 1, samples, taken)
            if at[NEXT] < ingest:
                return row, taken
        at[INGEST], at[DELAY], at[MESSAGE] = ingest, delays[row], message
        count_row(book, at, counts, kinds[row], sides[row], prices[row], lots[row])
        apply(book, kinds[row], sides[row], prices[row], lots[row], orders[row], message)
    return len(ingests), taken


@compiled
def finish_until(state, moment, samples, taken):
    """`sample_until` where nothing more comes that is known by the moment: an open message is over."""
    close_message(state.book, state.at, state.counts, state.touch, state.depth)
    return sample_until(state, moment, samples, taken)


@compiled
def sample_until(state, moment, samples, taken):
    """Take the samples that are due up to a moment, this included, while there is room; how many are there
    then. All messages up to the moment must have been let in.
    """
    at = state.at
    while at[NEXT] <= moment and taken < len(samples.moments):
        due = at[NEXT]
        take_sample(state, due, samples.values[:, taken])
        samples.moments[taken], samples.known[taken] = due, at[INGEST]
        at[NEXT] = due + at[STEP] if at[STEP] > 0 else NEVER
        taken += 1
    return taken
