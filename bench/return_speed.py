#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long until the host has the memory back, against the bare system call.

A container dirties memory; then its zone is destroyed (dead) or the half that it
freed is reclaimed (idle). The yardstick is one fallocate(PUNCH_HOLE) over as many
resident bytes of a file of the same kind on this machine. Host work runs natively
even where the guest is emulated; the ratio holds the guest's part as well.

usage: script/bench return_speed [--mib N] [--runs N] [--pool-dir DIR] [--json FILE]
"""
import argparse
import ctypes
import json
import mmap
import os
import statistics
import time

from microvm import MIB, Container, MicroVM

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
PUNCH_HOLE_KEEP_SIZE = 3


def bare_punch(size, pool_dir):
    """Seconds that one punch of this many resident bytes takes."""
    if pool_dir:
        path = os.path.join(pool_dir, "yardstick")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)
    else:
        fd = os.memfd_create("yardstick")
    try:
        os.ftruncate(fd, size)
        with mmap.mmap(fd, size) as m:      # mapped, as guest memory is
            for at in range(0, size, MIB):
                n = min(MIB, size - at)
                m[at:at + n] = b"\x5a" * n
            resident = os.fstat(fd).st_blocks * 512
            start = time.monotonic()
            if LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, 0, size):
                raise OSError(ctypes.get_errno(), "fallocate")
            seconds = time.monotonic() - start
        assert resident >= size and os.fstat(fd).st_blocks == 0
        return seconds
    finally:
        os.close(fd)


def one_run(m, n, mib):
    """(seconds, bytes) of an idle reclaim and of a destroy."""
    c = Container(m, f"bench{n}", (mib + 16) * MIB).workload(anon=mib, free=50, seed=n)
    c.wait("ready")
    c.idle()
    before = m.pool()
    start = time.monotonic()
    c.zone.reclaim()
    idle = time.monotonic() - start
    middle = m.pool()
    c.stop()
    c.remove()
    start = time.monotonic()
    c.zone.destroy()
    dead = time.monotonic() - start
    return (idle, before - middle), (dead, middle - m.pool())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="memory that the container dirties")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pool-dir", help="a directory on tmpfs; with huge=always: 2 MiB pages")
    parser.add_argument("--json")
    args = parser.parse_args()

    rows = {"idle reclaim": [], "destroy": []}
    with MicroVM(pool_dir=args.pool_dir) as m:
        for n in range(args.runs):
            for name, (seconds, size) in zip(rows, one_run(m, n, args.mib)):
                rows[name].append((seconds, size, bare_punch(size, args.pool_dir)))
    print(f"{args.mib} MiB dirtied, {args.runs} runs, pool: {args.pool_dir or 'memfd'}; medians")
    print(f"{'':14}{'MiB back':>10}{'ms':>9}{'bare punch ms':>15}{'ratio':>8}")
    figures = {}
    for name, runs in rows.items():
        seconds, size, bare = (statistics.median(r[i] for r in runs) for i in range(3))
        ratio = statistics.median(r[0] / r[2] for r in runs)
        print(f"{name:14}{size / MIB:10.1f}{seconds * 1e3:9.1f}{bare * 1e3:15.1f}{ratio:8.2f}")
        figures[name] = {"bytes": size, "s": seconds, "bare_punch_s": bare, "ratio": ratio}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=2)


if __name__ == "__main__":
    main()
