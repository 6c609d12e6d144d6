#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long until the host has the memory back, against the bare system call.

A container dirties memory; then the half that it freed is reclaimed while it lives,
and then, after it died, its zone is destroyed. The yardstick is one
fallocate(PUNCH_HOLE) over as many resident bytes of a file of the same kind, measured
right after. On a memfd (4 KiB pages) and on a tmpfs with huge=always (2 MiB pages; needs
root to mount it).

Two times stand side by side. `..._over_punch` takes the call, from its beginning to its
return, and so has the guest's part in it, which under TCG is tens of times slower than
on a CPU. `..._host_over_punch` takes the host's part only: from the moment that memory
begins to come back to the last page, as fstat() of the pool's file sees it from outside.
"""
import contextlib
import ctypes
import mmap
import os
import subprocess
import tempfile
import threading
import time

from measure import MIB, Bench, conditions
from microvm import Container, MicroVM

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
PUNCH_HOLE_KEEP_SIZE = 3


@contextlib.contextmanager
def huge_tmpfs():
    """A directory whose files have 2 MiB pages, or None where that takes more rights."""
    with tempfile.TemporaryDirectory(prefix="czone-huge.") as d:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always,mode=700", "bench", d],
                          check=False).returncode:
            yield None
            return
        try:
            yield d
        finally:
            subprocess.run(["umount", "-l", d], check=True)


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


class PoolFile:
    """The file behind a VM's pool, watched from outside."""

    def __init__(self, m, pool_dir):
        fds = f"/proc/{m.vm.stats().pid}/fd"
        link = pool_dir or "/memfd:"
        found = [os.path.join(fds, fd) for fd in os.listdir(fds)
                 if os.readlink(os.path.join(fds, fd)).startswith(link)]
        self.fd = os.open(max(found, key=lambda path: os.stat(path).st_size), os.O_RDONLY)

    def resident(self):
        return os.fstat(self.fd).st_blocks * 512

    def watch(self, action):
        """(seconds of the call, seconds while memory came back, bytes that did)."""
        levels, ended = [], threading.Event()

        def look():
            while not ended.is_set():
                levels.append((time.monotonic(), self.resident()))
                time.sleep(2e-5)

        before = self.resident()
        watcher = threading.Thread(target=look)
        watcher.start()
        start = time.monotonic()
        action()
        seconds = time.monotonic() - start
        ended.set()
        watcher.join()
        after = self.resident()
        falling = [t for (t, level), (_, next_level) in zip(levels, levels[1:])
                   if next_level < level]
        last = next((t for t, level in levels if level <= after), start + seconds)
        return seconds, last - falling[0] if falling else seconds, before - after

    def close(self):
        os.close(self.fd)


def steps(m, n, mib):
    """A container's life: what gives memory back, each ready to be called."""
    c = Container(m, f"idle{n}", (mib + 16) * MIB).workload(anon=mib, free=50, seed=n)
    c.wait("ready")
    c.idle()
    yield "reclaim_half", c.zone.reclaim
    c.stop()
    c.remove()
    c.zone.destroy()
    c = Container(m, f"dead{n}", (mib + 16) * MIB).workload(anon=mib, seed=n)
    c.wait("ready")
    c.stop()
    c.remove()
    yield "destroy", c.zone.destroy


def measure(bench, known, pool_dir, suffix):
    mib = bench.args.mib
    size = f"{mib // 1024}gib" if mib % 1024 == 0 else f"{mib}mib"
    runs = {"destroy": [], "reclaim_half": []}
    with MicroVM(pool_dir=pool_dir) as m:
        pool = PoolFile(m, pool_dir)
        for n in range(bench.runs):
            bench.say(f"{mib} MiB on {known['backing']}, run {n + 1} of {bench.runs}")
            for what, action in steps(m, n, mib):
                call, host, back = pool.watch(action)
                expected = mib * MIB // (1 if what == "destroy" else 2)
                if back < 0.99 * expected:
                    raise RuntimeError(f"{what} returned {back} bytes of {expected}")
                runs[what].append((call, host, bare_punch(back, pool_dir)))
        pool.close()
    for what, rows in runs.items():
        name = f"{what}_{size}"
        call, host, bare = ([row[i] for row in rows] for i in range(3))
        bench.add(f"{name}_ms{suffix}", [s * 1e3 for s in call], "ms", **known)
        bench.add(f"{name}_host_ms{suffix}", [s * 1e3 for s in host], "ms", **known)
        bench.add(f"{name}_punch_ms{suffix}", [s * 1e3 for s in bare], "ms", **known)
        bench.add(f"{name}_over_punch{suffix}", [a / b for a, b in zip(call, bare)], "ratio",
                  ("<=", 1.25), **known)
        bench.add(f"{name}_host_over_punch{suffix}", [a / b for a, b in zip(host, bare)],
                  "ratio", ("<=", 1.25), **known)


def main():
    bench = Bench(__doc__, (["--mib"], dict(type=int, default=1024,
                                            help="memory that the container dirties")),
                  runs=5, quick_runs=2)
    known = conditions()
    measure(bench, dict(known, backing="memfd"), None, "")
    with huge_tmpfs() as pool_dir:
        if pool_dir:
            measure(bench, dict(known, backing="tmpfs, huge=always"), pool_dir, "_huge")
        else:
            bench.say("no tmpfs with huge pages: only root can mount one")
    bench.end()


if __name__ == "__main__":
    main()
