# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of bench/ that need no guest: readers of traces, simulator, report."""
import contextlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from azure import simulate, trace   # noqa: E402  pylint: disable=wrong-import-position
from azure.model import Model       # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20
MODEL = Model(scpv_overhead=40 * MIB, base=100 * MIB, per_container=1 * MIB, czone_base=100 * MIB,
              czone_per_container=2 * MIB, czone_residue=0.5 * MIB, czone_share=1.0,
              virtio_mem_base=100 * MIB, virtio_mem_per_container=1 * MIB,
              virtio_mem_slack=10 * MIB, virtio_mem_share=0.5, virtio_mem_seconds_per_gib=0.0,
              containers_per_vm=2)


class Readers(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def file(self, text, encoding="utf-8"):
        path = pathlib.Path(self.directory.name) / "trace.csv"
        path.write_bytes(text.encode(encoding))
        return path

    def day(self, rows):
        head = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(str(m + 1) for m in range(1440))
        return head + "\n" + "".join(
            f"{name},http," + ",".join(str(counts.get(m, 0)) for m in range(1440)) + "\n"
            for name, counts in rows)

    def test_the_sample_of_2019(self):
        functions = trace.read_2019(**trace.SAMPLE)
        lines = trace.SAMPLE["invocations"].read_text("utf-8").splitlines()
        self.assertEqual(len(functions), len(lines) - 1)
        self.assertEqual(sum(f.invocations for f in functions),
                         sum(int(n) for line in lines[1:] for n in line.split(",")[4:]))
        first = functions[0]
        self.assertEqual((first.duration_ms, first.memory_mb), (2613, 191))

    def test_the_sample_of_2021(self):
        functions = trace.read_2021(trace.SAMPLE_2021)
        calls = len(trace.SAMPLE_2021.read_text("utf-8").split()) - 1
        self.assertEqual(sum(f.invocations for f in functions), calls)

    def test_what_the_official_files_leave_out_gets_the_median(self):
        [f] = trace.read_2019(self.file(self.day([("o,a,f", {3: 2})])))
        self.assertEqual((f.duration_ms, f.memory_mb), (trace.MEDIAN_MS, trace.MEDIAN_MB))
        self.assertEqual(f.per_minute, {3: 2})

    def test_bad_files_are_named_with_line_and_reason(self):
        for text, expected in (
                ("a,b\n1,2\n", "no column 'HashOwner'"),
                (self.day([("o,a,f", {})]) + "o,a,g,http,1\n", "line 3: not as many fields"),
                (self.day([("o,a,f", {7: "x"})]), "line 2: 8 is 'x'"),
                (self.day([("o,a,f", {7: -1})]), "line 2: 8 is '-1'"),
                (self.day([("o,a,f", {7: "nan"})]), "line 2: 8 is 'nan'"),
                ("", "no column")):
            with self.assertRaisesRegex(trace.TraceError, re.escape(expected)):
                trace.read_2019(self.file(text))
        with self.assertRaisesRegex(trace.TraceError, "not text"):
            trace.read_2019(self.file("HashOwner,ä\n", "latin-1"))
        with self.assertRaises(FileNotFoundError):
            trace.read_2021("/nowhere")

    def test_generated_fleets_follow_the_published_fits(self):
        fleet = trace.generate(range(1000))
        self.assertEqual(trace.generate(range(7, 8)), fleet[7:8])
        daily = sorted(f.invocations for f in fleet)
        self.assertLess(abs(sum(n <= 24 for n in daily) / 1000 - 0.45), 0.05)
        self.assertLess(abs(sum(n <= 1440 for n in daily) / 1000 - 0.81), 0.05)
        memory = sorted(f.memory_mb for f in fleet)[500]
        self.assertTrue(100 < memory < 250, memory)


class Lives(unittest.TestCase):
    def lives(self, per_minute, ms):
        return trace.lives(trace.Function("a", "f", ms, 100, per_minute), 10)

    def test_one_invocation_is_one_container_and_its_keep_alive(self):
        self.assertEqual(self.lives({5: 1}, 2000), [(300, 300 + 2 + 600)])

    def test_a_warm_container_serves_the_next_one(self):
        self.assertEqual(self.lives({0: 1, 9: 1}, 1000), [(0, 540 + 1 + 600)])

    def test_after_the_keep_alive_there_is_a_new_one(self):
        self.assertEqual(self.lives({0: 1, 11: 1}, 1000), [(0, 601), (660, 1261)])

    def test_load_makes_several_at_once(self):
        self.assertEqual(len(self.lives({0: 30}, 10000)), 5)    # 300 s of work in a minute

    def test_none_without_invocations(self):
        self.assertEqual(self.lives({}, 1000), [])


class Simulator(unittest.TestCase):
    def at(self, time, containers, model=MODEL):
        series = simulate.simulate(containers, model, 100, 1.0)
        return {p: round(v / MIB, 6) for p, v in dict(series)[time].items()}

    def test_each_policy_by_hand(self):
        containers = [(10.5, 40.5, 100 * MIB), (20.5, 60.5, 50 * MIB)]
        self.assertEqual(self.at(15, containers), {
            "live": 100, "ideal": 201, "scpv": 140, "none": 201, "virtio_mem": 201, "czone": 202})
        self.assertEqual(self.at(30, containers), {
            "live": 150, "ideal": 252, "scpv": 230, "none": 252, "virtio_mem": 252, "czone": 254})
        # the first one has gone: of 101 MiB that are free, 91 are asked for, and half of it comes
        self.assertEqual(self.at(50, containers), {
            "live": 50, "ideal": 151, "scpv": 90, "none": 252, "virtio_mem": 206.5, "czone": 152.5})
        self.assertEqual(self.at(80, containers), {
            "live": 0, "ideal": 100, "scpv": 0, "none": 252, "virtio_mem": 158.25, "czone": 101})

    def test_full_vms_are_not_filled_further_and_empty_ones_are_used_again(self):
        three = [(1.5, 90, MIB), (2.5, 10, MIB), (3.5, 90, MIB), (20.5, 90, MIB)]
        self.assertEqual(self.at(5, three)["czone"], 2 * 100 + 3 * 3)
        self.assertEqual(self.at(15, three)["czone"], 2 * 100 + 2 * 3 + 0.5)
        # the fourth goes where there was room first, and the first VM keeps what was left
        self.assertEqual(self.at(30, three)["czone"], 2 * 100 + 3 * 3 + 0.5)

    def test_what_stays_stays(self):
        lossy = Model(**dict(vars(MODEL), czone_share=0.9))
        self.assertEqual(self.at(50, [(1.5, 10, 100 * MIB)], lossy)["czone"], 110.5)

    def test_area_and_reductions(self):
        series = simulate.simulate([(10.5, 60.5, 100 * MIB)], MODEL, 100, 1.0)
        self.assertAlmostEqual(simulate.area(series, "scpv") / MIB, 50 * 40)
        self.assertAlmostEqual(simulate.reductions(series)[1],
                               1 - simulate.area(series, "czone") / (50 * 40 * MIB))

    def test_shards_add_up_in_processes_and_on_a_cluster(self):
        jobs = [(range(i, i + 5), MODEL, 86400.0, 600.0, 10) for i in (0, 5)]
        here = [simulate.shard(job) for job in jobs]
        self.assertGreater(sum(n for _, n in here), 0)
        self.assertEqual(simulate.run(jobs), here)
        import distributed      # pylint: disable=import-outside-toplevel
        with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                                      dashboard_address=None) as cluster:
            self.assertEqual(simulate.run(jobs, cluster.scheduler_address), here)
        total = simulate.add_up([part for part, _ in here])
        self.assertAlmostEqual(total[70][1]["live"],
                               sum(part[70][1]["live"] for part, _ in here))

    def test_a_model_must_be_whole(self):
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "model.json"
            MODEL.write(path)
            self.assertEqual(Model.read(path), MODEL)
            path.write_text('{"base": 1}')
            with self.assertRaisesRegex(ValueError, "wanted are"):
                Model.read(path)
        Model.read(BENCH / "azure/model.json")


def result(name, value, unit="ms", **conditions):
    return {"name": name, "value": value, "unit": unit, "spread": [value, value], "runs": 1,
            "conditions": dict({"kernel": "k", "qemu": "q", "host": "h", "load": 1}, **conditions)}


def some_results():
    rows = [result("startup_reduction_vs_template", 0.95, "share", goal=">= 0.9"),
            result("overhead_reduction_at_32", 0.5, "share", goal=">= 0.92"),
            result("neighbour_p99_ratio", 1.01, "ratio"),
            result("<script>alert(1)</script>", 1)]
    for n in 1, 32:
        for way in "cold", "template", "czone":
            rows.append(result(f"startup_{way}_ms_{n}", 10))
            for mib in 10, 50:
                rows += [result(f"memory_{way}_{mib}mib_{n}", 90 * MIB, "bytes"),
                         result(f"overhead_{way}_{mib}mib_{n}", 40 * MIB, "bytes")]
                rows.append(result(f"memory_split_{way}_vmm_{mib}mib_{n}", 2 * MIB, "bytes"))
    for method in "destroy", "balloon":
        for key in "ms", "insn", "host_ms", "share":
            rows.append(result(f"return_{method}_128mib_clean_{key}", 0.5))
    rows += [result("function_aes_private", 9 * MIB), result("function_aes_host_resident", 9 * MIB),
             result("scale_create_insn_1", 5), result("scale_destroy_insn_1", 5),
             result("scale_zone_bytes_1", 5)]
    for prefix in "azure_sim", "azure_replay":
        rows.append(result(f"{prefix}_memory_czone", 1, series=[[0, 1 << 30], [1, 1 << 31]]))
    return rows


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import report           # pylint: disable=import-outside-toplevel
        cls.report = report
        cls.html, cls.names = report.page(some_results())

    def test_it_has_a_plot_for_each_kind_of_result(self):
        self.assertEqual(self.names, [name for name, *_ in self.report.SECTIONS])
        self.assertEqual(self.html.count("<svg "), len(self.names))

    def test_it_needs_nothing_from_outside(self):
        self.assertEqual(re.findall(r"<(?:script|link|img|iframe|object)\b", self.html), [])
        self.assertEqual(re.findall(r"""(?:src|href)=["'](?!#)[^"']*""", self.html), [])
        self.assertNotIn("<script>", self.html)

    def test_it_stands_without_results_that_plots_want(self):
        text, names = self.report.page([result("flood_delay_ms", 3, goal="<= 10")])
        self.assertEqual(names, [])
        self.assertIn("flood_delay_ms", text)
        self.assertIn("met", text)

    def test_a_browser_shows_it(self):
        chromium = shutil.which("chromium")
        self.assertTrue(chromium, "chromium is not installed: run script/bootstrap")
        with tempfile.TemporaryDirectory() as d:
            page = pathlib.Path(d) / "report.html"
            page.write_text(self.html, encoding="utf-8")
            done = subprocess.run(
                [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", f"--user-data-dir={d}/profile", "--window-size=1100,1400",
                 f"--screenshot={d}/shot.png", "--dump-dom", page.as_uri()],
                check=True, timeout=100, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                encoding="utf-8")
            # what it has parsed: nothing was lost, and every picture has its text
            for name in [*self.names, "goals", "all"]:
                self.assertIn(f'<section id="{name}">', done.stdout)
            self.assertEqual(done.stdout.count("<svg"), len(self.names))
            self.assertIn("startup latency, ms", done.stdout)
            shot = pathlib.Path(d) / "shot.png"
            if shot.exists():       # some versions do only one of both
                from PIL import Image       # pylint: disable=import-outside-toplevel
                colours = Image.open(shot).convert("RGB").getcolors(1 << 24)
                self.assertGreater(len(colours), 50, "the page is empty")


class Document(unittest.TestCase):
    """Tables in the documentation."""

    @classmethod
    def setUpClass(cls):
        import document         # pylint: disable=import-outside-toplevel
        cls.document = document

    def test_a_table_takes_the_place_of_the_last_one(self):
        text = "before\n<!-- results neighbour* startup* !*nothing -->\nstale\n<!-- end -->\nafter\n"
        filled = self.document.fill(text, some_results())
        self.assertIn("| `neighbour_p99_ratio` | 1.01 |", filled)
        self.assertIn("95.00 % |", filled)
        self.assertIn("met", filled)
        self.assertNotIn("stale", filled)
        self.assertTrue(filled.startswith("before\n") and filled.endswith("<!-- end -->\nafter\n"))
        self.assertEqual(self.document.fill(filled, some_results()), filled)

    def test_all_kinds_stand_with_and_without_results(self):
        names = "run", "goals", "startup", "memory", "split", "functions", "returns insn", "returns ms"
        text = "\n".join(f"<!-- {name} -->\n<!-- end -->" for name in names) + "\n"
        for rows in some_results(), []:
            self.assertEqual(self.document.fill(text, rows).count("\n|---"), len(names))
        filled = self.document.fill(text, some_results())
        self.assertIn("| 128 MiB, clean | 0.5 | 0.5 | - |", filled)
        self.assertIn("| 10 MiB function, zone: total | 90.00 | 90.00 |", filled)
        self.assertIn("Not measured in this run: destroy_1gib_over_punch", filled)

    def test_what_it_does_not_know_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "'rows'"):
            self.document.fill("<!-- rows -->\n<!-- end -->\n", [])


    def test_the_tables_are_those_of_the_run_that_is_kept(self):
        docs = BENCH.parent / "docs"
        text = (docs / "results.md").read_text("utf-8")
        rows = json.loads((docs / "results.json").read_text("utf-8"))
        self.assertEqual(self.document.fill(text, rows), text, "run script/bench --document")
        self.assertGreater(len(rows), 100)
        for name in re.findall(r"\]\((plots/[^)]+)\)", text):
            self.assertTrue((docs / name).exists(), name)


SCRIPT = """
import json, pathlib, subprocess, sys, time
out = sys.argv[sys.argv.index("--json") + 1]
def add(*names):
    rows = [{"name": n, "value": 1, "unit": "ms", "spread": [1, 1], "runs": 1, "conditions": {}}
            for n in names]
    pathlib.Path(out).write_text(json.dumps(rows), "ascii")
"""


class Several(unittest.TestCase):
    """Measurements, one after another."""

    def setUp(self):
        import several          # pylint: disable=import-outside-toplevel
        self.several = several
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.here, self.file = pathlib.Path(directory.name), f"{directory.name}/out.json"

    options = ()

    def run_all(self, **scripts):
        for name, text in scripts.items():
            (self.here / f"{name}.py").write_text(SCRIPT + text, "ascii")
        with mock.patch.object(self.several, "HERE", self.here), \
                mock.patch.object(sys, "argv", ["several", *scripts, *self.options, "--json", self.file,
                                                "--html", self.file + ".html"]), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                self.several.main()
                status = None
            except SystemExit as e:
                status = e.code
        rows = json.loads(pathlib.Path(self.file).read_text("utf-8"))
        of_run = rows.pop(0)
        self.assertEqual(of_run["name"], "bench_minutes")
        self.assertEqual([f"failed: {n}" for n in of_run["conditions"]["failed"]],
                         [status] if status else [])
        return status, [(r["name"], r["conditions"]["measurement"]) for r in rows], said.getvalue()

    def test_one_that_fails_loses_nothing_of_the_others(self):
        status, rows, said = self.run_all(a="add('x')", b="add('y'); sys.exit('no')", c="add('z')")
        self.assertEqual(rows, [("x", "a"), ("y", "b"), ("z", "c")])
        self.assertEqual(status, "failed: b")
        self.assertIn("b failed (exit status 1); 1 results are kept", said)
        self.assertTrue(pathlib.Path(self.file + ".html").exists())

    def test_one_that_hangs_is_ended_with_all_that_it_started(self):
        pid, orphan = self.here / "pid", self.here / "orphan"
        self.options = "--minutes", "0.25"
        status, rows, _ = self.run_all(
            a=f"add('x'); p = subprocess.Popen(['sleep', '600']); "
              f"pathlib.Path('{pid}').write_text(str(p.pid)); "
              # as libvirt starts a VM: in a session of its own, and by a parent that ends
              f"subprocess.run(['setsid', '-f', 'sh', '-c', 'echo $$ >{orphan}; exec sleep 600']); "
              f"time.sleep(600)")
        self.assertEqual((status, rows), ("failed: a", [("x", "a")]))
        self.assertFalse(pathlib.Path(f"/proc/{orphan.read_text().strip()}").exists())
        stat = pathlib.Path(f"/proc/{pid.read_text()}/stat")
        # its new parent may not have waited for it yet
        self.assertTrue(not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")

    def test_all_well(self):
        status, rows, said = self.run_all(return_methods="add('x')", destroy_insn="add('y')")
        self.assertEqual(status, None)
        self.assertEqual([m for _, m in rows], ["destroy_insn", "return_methods"])  # short ones first
        self.assertIn("2 of 2", said)


if __name__ == "__main__":
    unittest.main()
