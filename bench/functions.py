#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each function needs: memory, guest instructions, and how much of it comes back.

Each function of functions/ in a container of its own (Debian's Python 3, crun) in a zone of
its own, one after another in one VM; the page cache of the image lies in a zone that they
share. Counted in guest instructions: the container's first instruction, its initialisation
(interpreter and imports), and one invocation. Measured: what the process has for itself,
what its zone has, what the host has behind it, what a reclaim gives back while it idles, and
what comes back when it has ended.
"""
import pathlib

from function_vm import Function, Image, image, prepare
from measure import MIB, Bench, conditions
from vms import CountedVM, counts, insn

ZONE = 256 * MIB
NOT_FUNCTIONS = {"serve", "ballast"}


def names():
    files = pathlib.Path(__file__).resolve().parent.glob("functions/*.py")
    return sorted(f.stem for f in files if f.stem not in NOT_FUNCTIONS)


def life(m, shared, name, instance):
    f = Function(m.guest, f"{name}-{instance}", name)
    zone = m.vm.create(ZONE, cgroup=f.cgroup, file_zone=shared)
    started = f.start()
    lines = insn(m.guest, f"marks 1 {f.io}/out sh -c 'echo x >{f.io}/in'")
    answer = f.call()
    stats = zone.stats()
    idle = zone.reclaim()
    f.stop()
    report = zone.destroy()
    f.remove()
    return {"first_insn": started["f"]["insn"],
            "init_insn": started["r"]["insn"] - started["f"]["insn"],
            "call_insn": lines[0][1]["insn"],
            "private": answer["anonymous"], "peak": answer["peak"], "zone_used": stats.used,
            "host_resident": stats.host_resident, "kernel": stats.kernel,
            "reclaimed": idle, "returned": idle + report.returned, "migrated": report.migrated,
            "stuck": report.stuck_pinned + report.stuck_poisoned + report.stuck_other}


def main():
    bench = Bench(__doc__, (["--function"], dict(action="append", choices=names(),
                                                 help="only this one (repeatable)")),
                  runs=2, quick_runs=1)
    known = conditions()
    with CountedVM(pool=4 << 30, rootfs=image()) as m:
        prepare(m.guest)
        shared = Image(m.vm, m.guest).zone
        for name in bench.args.function or names():
            bench.say(name)
            rows = [life(m, shared, name, i) for i in range(bench.runs)]
            for key in rows[0]:
                unit = "insn" if key.endswith("insn") else "bytes"
                bench.add(f"function_{name}_{key}", [row[key] for row in rows], unit, **known)
        bench.add("functions_image_cache", [shared.stats().used], "bytes", **known)
    bench.end()


if __name__ == "__main__":
    main()
