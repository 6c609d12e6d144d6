# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several measurements, one after another, and their results in one list."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

# Seconds that each takes on 2 idle cores, full and quick; only the time left depends on them.
SECONDS = {"startup": (900, 150), "return_methods": (900, 120), "functions": (200, 90),
           "azure_replay": (420, 140), "azure_sim": (240, 20), "neighbours": (150, 60),
           "scale": (150, 40), "return_speed": (60, 30), "returned_share": (120, 50)}


def expected(name, quick):
    return SECONDS.get(name, (60, 25))[bool(quick)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="+")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--html", metavar="FILE", help="a report with plots")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    args = parser.parse_args()
    options = ["--quick"] if args.quick else []
    if args.runs:
        options += ["--runs", str(args.runs)]

    results, failed, start = [], [], time.monotonic()
    weights = [expected(name, args.quick) for name in args.name]
    for i, name in enumerate(args.name):
        spent = time.monotonic() - start
        done, left = sum(weights[:i]), sum(weights[i:])
        # what is left takes as much longer than usual as what is done did
        left *= max(0.2, spent / done) if done else 1
        print(f"== {name} ({i + 1} of {len(args.name)}; {spent / 60:.0f} min so far, "
              f"about {left / 60:.0f} left)", flush=True)
        with tempfile.NamedTemporaryFile("r", suffix=".json") as f:
            # each in a process of its own: libvirt's embedded driver lives as long as that
            if subprocess.run([sys.executable, "-B", HERE / f"{name}.py", "--json", f.name,
                               *options], check=False).returncode:
                failed.append(name)
            else:
                results += json.load(f)
        if args.json:       # what there is, should a later one be interrupted
            pathlib.Path(args.json).write_text(json.dumps(results, indent=1) + "\n",
                                               encoding="utf-8")
    if args.html:
        import report       # pylint: disable=import-outside-toplevel
        text, plots = report.page(results)
        pathlib.Path(args.html).write_text(text, encoding="utf-8")
        print(f"{args.html}: {len(plots)} plots, {len(results)} results")
    print(f"== {len(args.name) - len(failed)} of {len(args.name)} in "
          f"{(time.monotonic() - start) / 60:.0f} min")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
