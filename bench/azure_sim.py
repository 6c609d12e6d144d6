#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A day of the Azure Functions Trace, simulated: host memory under four policies.

The 2019 sample of azure/data/ (or the official files, or the 2021 format), and fleets of up
to 100,000 functions from the published fits. The cost model is what azure_replay measured
on real VMs (azure/model.json, or --model). On this machine's processors, or on the cluster of
a dask.distributed scheduler (--scheduler HOST:PORT).

`..._area` is the area under the curve of host memory above what live functions hold; a
container lives from its first invocation until --keep-alive minutes after its last.
"""
import os
import pathlib

from azure import trace
from azure.model import Model
from azure.simulate import POLICIES, add_up, area, reductions, run
from measure import Bench, conditions_of_host

HERE = pathlib.Path(__file__).resolve().parent
SHARD = 1000        # functions that share VMs


def model_file():
    """Of the same run of script/bench, or else the one that is kept here."""
    path = os.environ.get("CZONE_AZURE_MODEL", "")
    return path if os.path.exists(path) else str(HERE / "azure/model.json")


def sizes_of(text):
    return [int(n) for n in text.split(",")]


def simulate(bench, name, jobs, until, known):
    parts = run(jobs, bench.args.scheduler,
                lambda done: bench.say(f"{name}: {done} of {len(jobs)} parts"))
    series = add_up([part for part, _ in parts])
    known = dict(known, containers=sum(n for _, n in parts))
    hours = until / 3600
    for policy in POLICIES:
        points = [[round(t / 3600, 3), round(row[policy])] for t, row in series[::5]]
        mean = sum(row[policy] for _, row in series) / len(series)
        plotted = dict(series=points, time_unit=f"hours of {hours:.0f}") if name == "azure_sim" else {}
        bench.add(f"{name}_memory_{policy}", [mean], "bytes", **known, **plotted)
        if policy != "live":
            bench.add(f"{name}_area_{policy}", [area(series, policy) / (1 << 30) / 3600], "GiB h",
                      **known)
    totals = {row["name"]: row["value"] for row in bench.results}
    bench.add(f"{name}_total_reduction_vs_scpv",
              [1 - totals[f"{name}_memory_czone"] / totals[f"{name}_memory_scpv"]], "share", **known)
    bench.add(f"{name}_total_reduction_vs_virtio_mem",
              [1 - totals[f"{name}_memory_czone"] / totals[f"{name}_memory_virtio_mem"]], "share",
              **known)
    for what, value in zip(("virtio_mem", "scpv"), reductions(series, "ideal")):
        bench.add(f"{name}_area_reduction_ideal_vs_{what}", [value], "share", **known)
    return reductions(series)


def main():
    bench = Bench(
        __doc__, (["--invocations"], dict(help="official 2019 file, for one day")),
        (["--durations"], dict(help="official 2019 file")),
        (["--memory"], dict(help="official 2019 file")),
        (["--trace-2021"], dict(help="official 2021 file")),
        (["--fleet"], dict(type=sizes_of, help="sizes of generated fleets; default 1000,10000,100000")),
        (["--model"], dict(default=model_file(), help="what azure_replay wrote")),
        (["--keep-alive"], dict(type=float, default=10, help="minutes, default 10")),
        (["--scheduler"], dict(metavar="HOST:PORT", help="of a dask.distributed cluster")))
    args = bench.args
    model = Model.read(args.model)
    known = dict(conditions_of_host(), model=vars(model), keep_alive_min=args.keep_alive)
    if args.trace_2021:
        functions = trace.read_2021(args.trace_2021)
    elif args.invocations:
        functions = trace.read_2019(args.invocations, args.durations, args.memory)
    else:
        functions = trace.read_2019(**trace.SAMPLE)
    last = max(m for f in functions for m in f.per_minute) * 60 + args.keep_alive * 60
    until = min(86400.0, last) if args.trace_2021 else 86400.0
    bench.say(f"{len(functions)} functions, {sum(f.invocations for f in functions)} invocations")
    jobs = [(functions[i:i + SHARD], model, until, 60.0, args.keep_alive)
            for i in range(0, len(functions), SHARD)]
    vs_mem, vs_scpv = simulate(bench, "azure_sim", jobs, until, dict(known, functions=len(functions)))
    for size in args.fleet or ([1000] if args.quick else [1000, 10000, 100000]):
        jobs = [(range(i, min(size, i + SHARD)), model, 86400.0, 60.0, args.keep_alive)
                for i in range(0, size, SHARD)]
        rows = simulate(bench, f"azure_fleet_{size}", jobs, 86400.0, dict(known, functions=size))
        for what, value in zip(("virtio_mem", "scpv"), rows):
            bench.add(f"azure_fleet_{size}_area_reduction_vs_{what}", [value], "share", **known)
    bench.add("azure_area_reduction_vs_virtio_mem", [vs_mem], "share", (">=", 0.6), **known)
    bench.add("azure_area_reduction_vs_scpv", [vs_scpv], "share", (">=", 0.85), **known)
    bench.end()


if __name__ == "__main__":
    main()
