# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the files of bench/ share: options, results, and how they are shown."""
import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import sys

MIB = 1 << 20


def median(values):
    return statistics.median(values)


class Bench:
    """Options of one benchmark, and its results.

    A result is {name, value, unit, spread, runs, conditions}: value is a median,
    spread the least and the greatest of the runs. Of a ratio both sides were measured
    `runs` times, and spread is what their extremes can make of it.
    """

    def __init__(self, doc, *arguments, runs=5, quick_runs=2):
        parser = argparse.ArgumentParser(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--runs", type=int, help=f"default {runs}, with --quick {quick_runs}")
        parser.add_argument("--quick", action="store_true", help="fewer runs")
        parser.add_argument("--json", metavar="FILE", help="write the results there")
        parser.add_argument("--html", metavar="FILE", help="and a report with plots there")
        for names, options in arguments:
            parser.add_argument(*names, **options)
        self.args = parser.parse_args()
        self.runs = self.args.runs or (quick_runs if self.args.quick else runs)
        if self.runs < 1:
            parser.error("at least one run")
        self.results = []
        # so that its VMs go with it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))

    @staticmethod
    def say(text):
        print(f"-- {text}", file=sys.stderr, flush=True)

    def add(self, name, values, unit, goal=None, **conditions):
        """A result of several runs, or (lists) the ratio of two of them."""
        if isinstance(values, tuple):
            a, b = values
            value, runs = median(a) / median(b), min(len(a), len(b))
            spread = [min(a) / max(b), max(a) / min(b)]
        else:
            value, runs, spread = median(values), len(values), [min(values), max(values)]
        if goal is not None:
            conditions["goal"] = f"{goal[0]} {goal[1]:.10g}"
        self.results.append({"name": name, "value": value, "unit": unit, "spread": spread,
                             "runs": runs, "conditions": conditions})
        verdict = ""
        if goal is not None:
            relation, limit = goal
            met = value <= limit if relation == "<=" else value >= limit
            verdict = f"   goal {relation} {limit:.4g}: {'met' if met else 'MISSED'}"
        print(f"{name:46} {value:14.6g} {unit:6} [{spread[0]:.6g}, {spread[1]:.6g}] "
              f"n={runs}{verdict}", flush=True)
        self._write()
        return value

    def _write(self):
        """After each result, should a later one be interrupted."""
        if self.args.json:
            with open(self.args.json, "w", encoding="utf-8") as f:
                json.dump(self.results, f, indent=1)
                f.write("\n")

    def end(self):
        self._write()
        if self.args.html:
            import report       # pylint: disable=import-outside-toplevel
            pathlib.Path(self.args.html).write_text(report.page(self.results)[0], encoding="utf-8")


def conditions_of_host():
    """The same for what boots no guest."""
    cpu = re.search(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text("ascii"), re.M)
    return {"host": f"{os.cpu_count()} x {cpu[1] if cpu else os.uname().machine}",
            "load": round(os.getloadavg()[0], 1)}


def conditions():
    """What was measured where, for the results."""
    def version(path):
        return pathlib.Path(path).resolve().parent.name
    return {"kernel": version(os.environ["CZONE_KERNEL"]),
            "qemu": version(os.environ["CZONE_QEMU"]), **conditions_of_host()}
