"""Opens a run's tables with pandas and with polars: python tables.py RUN_DIRECTORY

Needs `pip install pandas pyarrow polars`. Prints what it finds; fails if the two disagree.
"""

import math
import sys
from pathlib import Path

import pandas as pd
import polars as pl

run = Path(sys.argv[1])
QUANTILES = [0.5, 0.9, 0.99]

deliveries = pd.read_parquet(run / "deliveries.parquet")
jobs = pd.read_parquet(run / "jobs.parquet")
latency_ms = [float(deliveries["latency_ms"].quantile(q)) for q in QUANTILES]
success = (jobs["verdict"] == "completed").groupby(jobs["cargo"]).mean().sort_index().to_dict()

deliveries = pl.read_parquet(run / "deliveries.parquet")
jobs = pl.read_parquet(run / "jobs.parquet")
# The default of polars is the nearest value.
same_latency_ms = [deliveries["latency_ms"].quantile(q, "linear") for q in QUANTILES]
by_cargo = jobs.group_by("cargo").agg((pl.col("verdict") == "completed").mean()).sort("cargo")
same_success = dict(by_cargo.iter_rows())

print(f"{len(deliveries)} deliveries, {len(jobs)} jobs")
for q, value, same in zip(QUANTILES, latency_ms, same_latency_ms):
    print(f"delivery p{q * 100:g}: {value:.1f} ms")
    # A table without rows has no quantiles: not a number in pandas, None in polars.
    assert math.isnan(value) if same is None else math.isclose(value, same), (value, same)
for cargo, share in success.items():
    print(f"{cargo!r}: {share:.1%} of its jobs completed")
assert success.keys() == same_success.keys(), (success, same_success)
assert all(math.isclose(success[cargo], same_success[cargo]) for cargo in success)
