#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long the device takes for reports, against the bare system calls.

1 GiB in ranges of 2 MiB and of 4 KiB, none beside another one, on a memfd, and on a tmpfs
with huge=always (needs root to mount it). The guest is the front end of the unit tests:
real rings, 256 ranges a report, four reports at a time. Time from the first report to
the last answer, next to that of one fallocate(PUNCH_HOLE) for each of the same ranges,
in turns, in one process (bench/host/report.c), at real-time priority where it may have that.
"""
import os
import pathlib
import subprocess

from measure import Bench, conditions
from return_speed import huge_tmpfs

REPORT = pathlib.Path(os.environ["CZONE_MICROVM"]).parent.parent / "bench/host/report"


def measure(bench, known, kib, name, *where):
    bench.say(f"1 GiB in ranges of {kib} KiB on {known['backing']}")
    # the first one of all is warming up
    out = subprocess.run([REPORT, str(kib), str(bench.runs + 1), *where], check=True,
                         stdout=subprocess.PIPE, text=True, timeout=600).stdout
    device, bare = zip(*([int(x) / 1000 for x in line.split()] for line in out.splitlines()[1:]))
    bench.add(f"{name}_ms", list(device), "ms", **known)
    bench.add(f"{name}_punch_ms", list(bare), "ms", **known)
    bench.add(f"{name}_over_punch", [a / b for a, b in zip(device, bare)], "ratio", ("<=", 1.15),
              **known)


def main():
    bench = Bench(__doc__, runs=9, quick_runs=2)
    known = conditions()
    memfd = dict(known, backing="memfd")
    measure(bench, memfd, 2048, "report_1gib_2mib")
    measure(bench, memfd, 4, "report_1gib_4kib")
    with huge_tmpfs() as pool_dir:
        if pool_dir:
            measure(bench, dict(known, backing="tmpfs, huge=always"), 2048,
                    "report_1gib_2mib_huge", pool_dir)
        else:
            bench.say("no tmpfs with huge pages: only root can mount one")
    bench.end()


if __name__ == "__main__":
    main()
