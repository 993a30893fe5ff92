"""Reads a recording and its exports with pyarrow, polars and DuckDB, and compares what they find with what observer says.

Arguments: the recording; the folder with its exports (trace.parquet, trace.jsonl, trace.csv), with what `observer trace info
--format json` says of it (info.json), and with the lines of `observer watch --from-trace --format json` (watch.jsonl)."""

import json
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet

SPAN = 10  # seconds

trace, folder = sys.argv[1], Path(sys.argv[2])
parquet, jsonl, csv = (str(folder / f"trace.{kind}") for kind in ("parquet", "jsonl", "csv"))


def expected():
    """Counts by kind, and failures by ten seconds, cause and upstream, as observer tells them."""
    info = json.loads((folder / "info.json").read_text())
    failures = Counter()
    for line in (folder / "watch.jsonl").read_text().splitlines():
        said = json.loads(line)
        if said["type"] == "verdict":
            time = datetime.fromisoformat(said["time"].replace("Z", "+00:00"))
            span = int(time.timestamp()) // SPAN * SPAN
            failures[datetime.fromtimestamp(span, timezone.utc), said["cause"], said["upstream"]] += 1
    kinds = {kind: count for kind, count in info["rows"].items() if kind != "checkpoint"}
    return kinds, dict(failures)


def by_pyarrow(table):
    # pyarrow compares no string views.
    plain = [(f.name, pa.string() if pa.types.is_string_view(f.type) else f.type) for f in table.schema]
    table = table.cast(pa.schema(plain))
    kinds = {row["values"].as_py(): row["counts"].as_py() for row in table["kind"].value_counts()}
    verdicts = table.filter(pa.compute.field("kind") == "verdict")
    times = verdicts["time"].cast(pa.timestamp("ns", "UTC"))
    spans = pa.compute.floor_temporal(times, SPAN, "second").cast(pa.timestamp("s", "UTC"))
    failures = Counter()
    for span, cause, ip, port in zip(spans, verdicts["cause"], verdicts["remote_ip"], verdicts["remote_port"]):
        failures[span.as_py(), cause.as_py(), f"{ip}:{port}"] += 1
    return kinds, dict(failures)


def by_polars(frame):
    kinds = dict(frame.group_by("kind").len().iter_rows())
    # In text formats times are text.
    if frame.schema["time"] == pl.String:
        frame = frame.with_columns(pl.col("time").str.to_datetime(time_unit="ns", time_zone="UTC"))
    failures = (
        frame.filter(pl.col("kind") == "verdict")
        .group_by(
            pl.col("time").dt.truncate(f"{SPAN}s").dt.cast_time_unit("us"),
            "cause",
            pl.format("{}:{}", "remote_ip", "remote_port"),
        )
        .len()
    )
    return kinds, {(span, cause, upstream): count for span, cause, upstream, count in failures.iter_rows()}


def by_duckdb(source, **tables):
    connection = duckdb.connect()
    connection.execute("SET timezone = 'UTC'")
    for name, table in tables.items():
        connection.register(name, table)
    kinds = dict(connection.sql(f"SELECT kind, count(*) FROM {source} GROUP BY kind").fetchall())
    failures = connection.sql(
        f"""SELECT epoch(time_bucket(INTERVAL {SPAN} seconds, time::TIMESTAMPTZ)) AS span, cause,
                   remote_ip || ':' || remote_port AS upstream, count(*)
            FROM {source} WHERE kind = 'verdict' GROUP BY ALL"""
    ).fetchall()
    utc = timezone.utc
    return kinds, {(datetime.fromtimestamp(span, utc), cause, to): count for span, cause, to, count in failures}


def stream():
    """The recording as it is: an Arrow stream, compressed by zstd."""
    return pa.ipc.open_stream(pa.input_stream(trace, compression="zstd")).read_all()


# Types that cannot be guessed from the first rows of a text.
texts = {name: pa.string() for name in stream().schema.names if pa.types.is_string_view(stream().schema.field(name).type)}
readers = {
    "pyarrow, the recording": lambda: by_pyarrow(stream()),
    "pyarrow, Parquet": lambda: by_pyarrow(pa.parquet.read_table(parquet)),
    "pyarrow, JSON lines": lambda: by_pyarrow(pa.json.read_json(jsonl)),
    "pyarrow, CSV": lambda: by_pyarrow(
        pa.csv.read_csv(csv, convert_options=pa.csv.ConvertOptions(column_types=texts))
    ),
    "polars, the recording": lambda: by_polars(
        pl.read_ipc_stream(pa.input_stream(trace, compression="zstd").read())
    ),
    "polars, Parquet": lambda: by_polars(pl.read_parquet(parquet)),
    "polars, JSON lines": lambda: by_polars(pl.read_ndjson(jsonl, infer_schema_length=None)),
    "polars, CSV": lambda: by_polars(pl.read_csv(csv, infer_schema_length=None)),
    "DuckDB, the recording": lambda: by_duckdb("recording", recording=stream()),
    "DuckDB, Parquet": lambda: by_duckdb(f"'{parquet}'"),
    "DuckDB, JSON lines": lambda: by_duckdb(f"'{jsonl}'"),
    "DuckDB, CSV": lambda: by_duckdb(f"'{csv}'"),
}
kinds, failures = expected()
if not failures:
    sys.exit("the recording has no verdicts to compare")
wrong = 0
for name, read in readers.items():
    found = read()
    agrees = found == (kinds, failures)
    print(f"{'pass' if agrees else 'FAIL'} {name}: {sum(found[0].values())} rows, {sum(found[1].values())} failures")
    if not agrees:
        print(f"     found    {found}\n     expected {(kinds, failures)}")
        wrong += 1
sys.exit(f"{wrong} of {len(readers)} do not agree with observer" if wrong else 0)
