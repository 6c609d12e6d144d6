# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a chosen size that the function keeps; no work. For measurements, not one of the functions."""
import mmap

SIZE = 50       # MiB that the process has for itself, Python included
KEPT = []


def anonymous():
    with open("/proc/self/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:")) << 10


def handler(mib):
    missing = (mib << 20) - anonymous()
    if missing > 0:
        m = mmap.mmap(-1, missing, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, missing, 4096):
            m[at] = 1
        KEPT.append(m)
    return anonymous()
