# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several measurements, one after another, and their results in one list.

One that fails or takes too long loses what it had not measured yet, and nothing of the
others: the results are written after each, and the exit status says whether all went well.
"""
import argparse
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from measure import conditions_of_host

HERE = pathlib.Path(__file__).resolve().parent

# In this order: first what others are judged by, and what is short. Seconds that each takes on 2
# idle cores, full and quick: the time left comes from them, and the limit (LIMIT times as much).
SECONDS = {
    "counter": (30, 20), "destroy_insn": (100, 45), "create_insn": (90, 45), "fault_insn": (60, 30),
    "return_speed": (60, 30), "report_speed": (60, 20), "flood": (20, 10),
    "returned_share": (100, 45), "neighbours": (300, 90), "startup": (750, 150),
    "azure_replay": (540, 160), "azure_sim": (180, 20), "return_methods": (600, 60),
    "scale": (120, 40), "functions": (150, 60), "many_vms": (60, 40), "vm_cost": (30, 20)}
OTHER = 60, 30
LIMIT = 6
TERM_S = 20     # until a measurement that was told to end is killed
PR_SET_CHILD_SUBREAPER = 36


def expected(name, quick):
    return SECONDS.get(name, OTHER)[bool(quick)]


def order(names):
    known = list(SECONDS)
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def measure(name, options, limit):
    """(its results, why it failed or None)"""
    with tempfile.TemporaryDirectory(prefix="czone-bench.") as d:
        out = pathlib.Path(d) / "results.json"
        # each in a process of its own: libvirt's embedded driver lives as long as that; and in
        # a session of its own: with all that it started, should it have to be ended
        own = children()
        process = subprocess.Popen([sys.executable, "-B", HERE / f"{name}.py", "--json", out, *options],
                                   start_new_session=True)
        why = None
        try:
            status = process.wait(limit)
            if status:
                why = f"exit status {status}"
        except subprocess.TimeoutExpired:
            why = f"not done in {limit / 60:.0f} min"
        finally:
            end(process, own)
        try:
            results = json.loads(out.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            results = []
    for row in results:
        row["conditions"]["measurement"] = name
    return results, why


def versions():
    """Of what the measurements do not name themselves."""
    def first_line(*command):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True, check=False, timeout=20)
        except OSError:
            return "unknown"
        return (done.stdout.splitlines() or ["unknown"])[0]
    return {"libczone": first_line("git", "-C", HERE, "describe", "--always", "--dirty"),
            "libvirt": first_line("dpkg-query", "-Wf", "${Version}\n", "libvirt0"),
            "linux-source-6.12": first_line("dpkg-query", "-Wf", "${Version}\n", "linux-source-6.12"),
            "Host kernel": os.uname().release}


def children():
    me = os.getpid()
    return set(map(int, pathlib.Path(f"/proc/{me}/task/{me}/children").read_text("ascii").split()))


def end(process, own):
    """It, and all that it has started: also libvirt's VMs, which have left its session. But for own children."""
    try:
        end_session(process)
    finally:
        for pid in children() - own:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def end_session(process):
    for signal_, seconds in (signal.SIGTERM, TERM_S if process.poll() is None else 0), \
                            (signal.SIGKILL, TERM_S):
        try:
            os.killpg(process.pid, signal_)
        except ProcessLookupError:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="+")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--html", metavar="FILE", help="a report with plots")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--minutes", type=float, metavar="N",
                        help="end then: what is not done by then has failed")
    args = parser.parse_args()
    options = ["--quick"] if args.quick else []
    if args.runs:
        options += ["--runs", str(args.runs)]

    # whose parent has died is our child from then on
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    failed, took, start = [], {}, time.monotonic()
    of_run = {"name": "bench_minutes", "unit": "min", "runs": 1, "conditions": dict(
        conditions_of_host(),
        # where its files lie is nobody's business
        command=re.sub(r"/\S*/", "", os.environ.get("CZONE_BENCH", "")), versions=versions(),
        date=time.strftime("%Y-%m-%d"), failed=failed, seconds=took)}
    results = [of_run]
    names = order(args.name)
    weights = [expected(name, args.quick) for name in names]
    for i, name in enumerate(names):
        spent = time.monotonic() - start
        done, left = sum(weights[:i]), sum(weights[i:])
        # what is left takes as much longer than usual as what is done did
        slower = min(4, max(0.5, spent / done)) if done else 1
        print(f"== {name} ({i + 1} of {len(names)}; {spent / 60:.0f} min so far, "
              f"about {left * slower / 60:.0f} left)", flush=True)
        limit = max(600, LIMIT * weights[i])
        if args.minutes:
            limit = max(0, min(limit, args.minutes * 60 - spent))
        rows, why = measure(name, options, limit)
        took[name] = round(time.monotonic() - start - spent)
        results += rows
        if why:
            failed.append(name)
            print(f"== {name} failed ({why}); {len(rows)} results are kept", flush=True)
        of_run["value"] = (time.monotonic() - start) / 60
        of_run["spread"] = [of_run["value"]] * 2
        if args.json:       # what there is, should a later one be interrupted
            pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n",
                                               encoding="utf-8")
    if args.html:
        import report       # pylint: disable=import-outside-toplevel
        text, plots = report.page(results)
        pathlib.Path(args.html).write_text(text, encoding="utf-8")
        print(f"{args.html}: {len(plots)} plots, {len(results)} results")
    print("== seconds: " + ", ".join(f"{name} {s}" for name, s in took.items()))
    print(f"== {len(names) - len(failed)} of {len(names)} in "
          f"{(time.monotonic() - start) / 60:.0f} min, {len(results)} results")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
