-- Where ClickHouse (18.16 or newer) keeps ticks and bars of what was traded. components/tick_stores/clickhouse.py
-- writes and reads them. A second time it changes nothing.
--   clickhouse-client --query "CREATE DATABASE alphaloop"
--   clickhouse-client --database alphaloop --multiquery < infra/clickhouse/ticks.sql
-- Writers need INSERT and SELECT. Times are nanoseconds since 1970 (UTC), days too: no server's time zone counts.

-- Ticks as components/contracts/tick_schemas.py has them. A row counts once `batches` names its batch: what a
-- writer left that was killed, or could not know that it had been heard, stays without meaning.
CREATE TABLE IF NOT EXISTS ticks
(
    symbol String,
    session String,
    sequence Int64,
    message Int64,
    exchange_ts Int64,
    ingest_ts Int64,
    kind Int8,
    side Int8,
    price Int64,
    quantity Int64,
    order_id Int64,
    update_id Int64,
    previous_update_id Int64,
    batch Int64
)
ENGINE = MergeTree()
PARTITION BY toDate(toUInt16(intDiv(ingest_ts, 86400000000000)))
ORDER BY (symbol, ingest_ts, sequence);

-- What has been written: a line a batch, the last thing that its writer does. `traded` counts its trades and executions.
CREATE TABLE IF NOT EXISTS batches
(
    symbol String,
    session String,
    batch Int64,
    first_sequence Int64,
    last_sequence Int64,
    first_ts Int64,
    last_ts Int64,
    rows Int64,
    traded Int64
)
ENGINE = MergeTree()
ORDER BY (symbol, session, first_sequence);

-- Bars by batch. To be read with -Merge and GROUP BY, of batches that count alone: a view fires at each block that
-- is inserted, also at one that comes twice. `printed` says whether a bar is of trades (kind 3), or of executions
-- of orders (7, 8), which count where a session has no trades. `most` is a sum that has no 64 bits to leave.
CREATE MATERIALIZED VIEW IF NOT EXISTS bars_1s
ENGINE = AggregatingMergeTree()
PARTITION BY toDate(toUInt16(intDiv(start_ts, 86400000000000)))
ORDER BY (symbol, start_ts, session, printed, batch)
AS SELECT
    symbol,
    session,
    intDiv(ingest_ts, 1000000000) * 1000000000 AS start_ts,
    kind = 3 AS printed,
    batch,
    argMinState(price, sequence) AS open,
    maxState(price) AS high,
    minState(price) AS low,
    argMaxState(price, sequence) AS close,
    sumState(quantity) AS volume,
    sumState(price * quantity) AS value,
    countState() AS trades,
    sumState(greatest(abs(toFloat64(price)), 1.) * toFloat64(quantity)) AS most
FROM ticks
WHERE kind IN (3, 7, 8)
GROUP BY symbol, session, start_ts, printed, batch;

CREATE MATERIALIZED VIEW IF NOT EXISTS bars_1m
ENGINE = AggregatingMergeTree()
PARTITION BY toDate(toUInt16(intDiv(start_ts, 86400000000000)))
ORDER BY (symbol, start_ts, session, printed, batch)
AS SELECT
    symbol,
    session,
    intDiv(ingest_ts, 60000000000) * 60000000000 AS start_ts,
    kind = 3 AS printed,
    batch,
    argMinState(price, sequence) AS open,
    maxState(price) AS high,
    minState(price) AS low,
    argMaxState(price, sequence) AS close,
    sumState(quantity) AS volume,
    sumState(price * quantity) AS value,
    countState() AS trades,
    sumState(greatest(abs(toFloat64(price)), 1.) * toFloat64(quantity)) AS most
FROM ticks
WHERE kind IN (3, 7, 8)
GROUP BY symbol, session, start_ts, printed, batch;

-- Which of these files made the tables, made last.
CREATE VIEW IF NOT EXISTS tick_store AS SELECT 1 AS version;
