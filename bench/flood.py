#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest that floods its queues costs another one in the same process.

A reclaim of 4 MiB in 16 ranges, with and without a guest beside it that keeps its report
queue full of single pages and its reply queue full of nonsense, and kicks without end, as
fast as the CPUs go (bench/host/flood.c). Both guests are the front end of the unit tests
on real rings, the flooding one is a process of its own. The delay is that of each
reclaim against the median of those without the flood.
"""
import os
import pathlib
import subprocess

from measure import Bench, conditions, median

FLOOD = pathlib.Path(os.environ["CZONE_MICROVM"]).parent.parent / "bench/host/flood"


def main():
    bench = Bench(__doc__, runs=50, quick_runs=10)
    out = subprocess.run([FLOOD, str(bench.runs)], check=True, stdout=subprocess.PIPE, text=True,
                         timeout=600).stdout
    rows = [[int(x) for x in line.split()] for line in out.splitlines()]
    quiet, flooded, rate = ([row[i] for row in rows] for i in range(3))
    known = conditions()
    delay = [(us - median(quiet)) / 1000 for us in flooded]
    bench.add("flood_reports_per_s", rate, "1/s", **known)
    bench.add("flood_reclaim_quiet_ms", [us / 1000 for us in quiet], "ms", **known)
    bench.add("flood_reclaim_ms", [us / 1000 for us in flooded], "ms", **known)
    bench.add("flood_delay_ms", delay, "ms", ("<=", 10), **known)
    bench.add("flood_delay_worst_ms", [max(delay)], "ms", ("<=", 10), **known)
    bench.end()


if __name__ == "__main__":
    main()
