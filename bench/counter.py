#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the counter of guest instructions is worth, on things whose cost is known.

A loop of 100 million instructions, which timer interrupts add a little to; a sleep of
100 ms, which should cost next to nothing; and idle guests for 3 s, whose differences are
the noise of all that is measured by such a window.
"""
from measure import Bench, conditions
from vms import PlainVM, counts, insn

WINDOW_MS = 3000


def main():
    bench = Bench(__doc__, runs=5, quick_runs=2)
    known = conditions()
    with PlainVM() as m:
        lines = []
        for _ in range(bench.runs):
            lines += insn(m.guest, "verify")
        windows = [m.window(WINDOW_MS) for _ in range(bench.runs)]
    loops = [counted / expected for counted, expected in
             zip(counts(lines, "loop"), counts(lines, "loop", "expected"))]
    bench.add("counter_loop_over_known", loops, "ratio", ("<=", 1.005), **known)
    bench.add("counter_sleep_100ms", counts(lines, "sleep"), "insn", ("<=", 50000), **known)
    bench.add("counter_idle_3s", windows, "insn", ("<=", 1000000), **known)
    bench.end()


if __name__ == "__main__":
    main()
