# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers of the Azure Functions traces in their official formats, and a generator.

All give the same: functions with their invocations per minute, mean run time and memory.
"""
import csv
import dataclasses
import math
import pathlib
import random

DATA = pathlib.Path(__file__).with_name("data")
SAMPLE = {"invocations": DATA / "azure_functions_2019_day1_invocations.csv",
          "durations": DATA / "azure_functions_2019_day1_durations.csv",
          "memory": DATA / "azure_functions_2019_day1_app_memory.csv"}
SAMPLE_2021 = DATA / "azure_functions_2021_sample.csv"
MINUTES = 1440
# Where a trace does not say: the medians of the 2019 trace (Shahrad et al., sections 3.4, 3.5).
MEDIAN_MS, MEDIAN_MB = 700.0, 170.0


class TraceError(ValueError):
    """A file is not what it should be: which one, which line, and why."""


@dataclasses.dataclass
class Function:
    """One function of a trace."""
    app: str
    name: str
    duration_ms: float          # mean run time
    memory_mb: float            # of a container of its application
    per_minute: dict            # {minute: invocations}, without zeroes

    @property
    def invocations(self):
        return sum(self.per_minute.values())


def _rows(path, wanted):
    """Rows as dicts, checked for these columns: (line, row)."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f)
            missing = [c for c in wanted if c not in (reader.fieldnames or [])]
            if missing:
                raise TraceError(f"{path}: no column '{missing[0]}'; it has "
                                 f"{', '.join((reader.fieldnames or ['none'])[:6])} ...")
            for row in reader:
                if None in row or None in row.values():
                    raise TraceError(f"{path}, line {reader.line_num}: not as many fields as columns")
                yield reader.line_num, row
    except UnicodeDecodeError as e:
        raise TraceError(f"{path}: not text: {e}") from e


def _number(path, line, row, column, least=0.0):
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not least <= value < 1e15:
        raise TraceError(f"{path}, line {line}: {column} is '{row[column]}'")
    return value


def read_2019(invocations, durations=None, memory=None):
    """A day: invocations_per_function_md, function_durations_percentiles, app_memory_percentiles.

    Functions without a duration and applications without memory, of which the official files
    have many, get the trace's median.
    """
    ms, mb = {}, {}
    if durations:
        for line, row in _rows(durations, ["HashOwner", "HashApp", "HashFunction", "Average"]):
            key = row["HashOwner"], row["HashApp"], row["HashFunction"]
            # the trace has some of -1 and less: a clock that was set back
            ms[key] = max(0.0, _number(durations, line, row, "Average", -1e12))
    if memory:
        for line, row in _rows(memory, ["HashOwner", "HashApp", "AverageAllocatedMb"]):
            mb[row["HashOwner"], row["HashApp"]] = _number(memory, line, row, "AverageAllocatedMb")
    functions, minutes = [], [str(m + 1) for m in range(MINUTES)]
    for line, row in _rows(invocations, ["HashOwner", "HashApp", "HashFunction", "Trigger", *minutes]):
        app = row["HashOwner"], row["HashApp"]
        counts = {}
        for minute, column in enumerate(minutes):
            if row[column] != "0":
                n = int(_number(invocations, line, row, column))
                if n:
                    counts[minute] = n
        functions.append(Function(row["HashApp"], row["HashFunction"],
                                  ms.get((*app, row["HashFunction"]), MEDIAN_MS),
                                  mb.get(app, MEDIAN_MB), counts))
    return functions


def read_2021(path):
    """Single invocations: app, func, end_timestamp, duration (seconds). It says nothing of memory."""
    found = {}
    for line, row in _rows(path, ["app", "func", "end_timestamp", "duration"]):
        end = _number(path, line, row, "end_timestamp", -1e9)
        seconds = _number(path, line, row, "duration")
        found.setdefault((row["app"], row["func"]), []).append((max(0.0, end - seconds), seconds))
    functions = []
    for (app, name), calls in found.items():
        counts = {}
        for start, _ in calls:
            counts[int(start // 60)] = counts.get(int(start // 60), 0) + 1
        functions.append(Function(app, name, 1e3 * sum(s for _, s in calls) / len(calls),
                                  MEDIAN_MB, counts))
    return functions


# Shahrad et al.: mean run times are log-normal (log-mean -0.38, sigma 2.36, seconds), memory is
# Burr (c 11.652, k 0.221, lambda 107.083, MB). Of the rates they print the distribution
# (figure 5): 45 % are invoked at most once an hour, 81 % at most once a minute.
RATES = [(0.0, 1.0), (0.20, 3.0), (0.45, 24.0), (0.81, 1440.0), (0.95, 20e3), (0.996, 86400.0),
         (1.0, 1e6)]    # share of functions, invocations a day


def _rate(u):
    for (p, low), (q, high) in zip(RATES, RATES[1:]):
        if u <= q:
            return low * (high / low) ** ((u - p) / (q - p))
    return RATES[-1][1]


def _poisson(rng, mean):
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    n, p, limit = 0, rng.random(), math.exp(-mean)
    while p > limit:
        n, p = n + 1, p * rng.random()
    return n


def generate(which, seed=1):
    """A day of the functions with these numbers, from the published fits.

    Arrivals are Poisson, with a day's wave. Number 7 is the same in every fleet.
    """
    functions = []
    for i in which:
        rng = random.Random(f"{seed}/{i}")
        ms = min(600e3, 1e3 * rng.lognormvariate(-0.38, 2.36))
        u = rng.random()
        mb = min(1536.0, 107.083 * ((1 - u) ** (-1 / 0.221) - 1) ** (1 / 11.652))
        daily, counts = _rate(rng.random()), {}
        if daily < 4 * MINUTES:     # few: draw them one by one, not minute by minute
            for _ in range(_poisson(rng, daily)):
                while True:
                    minute = rng.randrange(MINUTES)
                    if rng.random() < _wave(minute) / 1.25:
                        break
                counts[minute] = counts.get(minute, 0) + 1
        else:
            for minute in range(MINUTES):
                n = _poisson(rng, daily / MINUTES * _wave(minute))
                if n:
                    counts[minute] = n
        functions.append(Function(f"app{i}", f"f{i}", ms, mb, counts))
    return functions


def _wave(minute):
    """The trace's load swings by a quarter about its mean over a day."""
    return 1 + 0.25 * math.sin(2 * math.pi * (minute / MINUTES - 0.3))


def lives(function, keep_alive_min=10):
    """When its containers live: [(start, end)] in seconds, with a fixed keep-alive.

    In a minute with n invocations as many containers run at once as their run time asks for
    (n * duration / 60 s, at least one); each lives on for keep_alive_min after its last one.
    """
    seconds = function.duration_ms / 1e3
    open_, done = [], []        # [start, busy until] of each container that lives
    for minute in sorted(function.per_minute):
        at = minute * 60.0
        still = []
        for life in open_:
            if life[1] + keep_alive_min * 60 < at:
                done.append((life[0], life[1] + keep_alive_min * 60))
            else:
                still.append(life)
        open_ = still
        wanted = max(1, math.ceil(function.per_minute[minute] * seconds / 60))
        while len(open_) < wanted:
            open_.append([at, at])
        for life in open_[:wanted]:
            life[1] = at + max(seconds, 60.0 if wanted > 1 else seconds)
    done += [(start, busy + keep_alive_min * 60) for start, busy in open_]
    return sorted(done)
