# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs a function in its container, as a platform's runtime does.

usage: serve.py FUNCTION [ARGUMENT]

Imports the function, is ready and says so ('r' on /io/marks), then calls it once for each line that
comes from /io/in, and answers on /io/out with one line of JSON: the result, and what the
process has of memory.
"""
import importlib
import json
import os
import sys
import time


def memory():
    """Bytes: private (this process alone has them), resident, and the highest resident yet."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as f:
        rollup = {line.split(":")[0]: int(line.split()[1]) << 10 for line in f if "kB" in line}
    with open("/proc/self/status", encoding="ascii") as f:
        peak = next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))
    return {"private": rollup["Private_Clean"] + rollup["Private_Dirty"],
            "anonymous": rollup["Anonymous"], "resident": rollup["Rss"], "peak": peak}


def mark(byte):
    fd = os.open("/io/marks", os.O_WRONLY)
    os.write(fd, byte)
    os.close(fd)


def main():
    module = importlib.import_module(sys.argv[1])
    argument = int(sys.argv[2]) if len(sys.argv) > 2 else module.SIZE
    mark(b"r")
    requests = open(os.open("/io/in", os.O_RDWR), encoding="ascii")     # never at its end
    for line in requests:
        if line.strip() == "first":     # whoever asks wants to know when it begins
            mark(b"w")
            continue
        if line.strip().isdigit():      # another argument from now on
            argument = int(line)
        start = time.monotonic()
        result = module.handler(argument)
        answer = dict(memory(), result=str(result), ms=(time.monotonic() - start) * 1e3)
        with open("/io/out", "w", encoding="ascii") as out:
            out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
