#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python package, as far as it goes without zones. Needs CZONE_HEADER."""

import asyncio
import dataclasses
import errno
import gc
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import unittest

import czone
from czone import _czone

with open(os.environ["CZONE_HEADER"], encoding="utf-8") as file:
    HEADER = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)

# A capsule has one reference for as long as it lives: nobody calls these from Python.
REFERENCES = {"czone_ref", "czone_unref", "czone_vm_ref", "czone_vm_unref",
              "czone_test_exit", "czone_op_unref",
              # who cancels a coroutine stops waiting
              "czone_op_cancel"}


def members(struct):
    """Names of the members of a struct in the header, but its size."""
    body = re.search(r"struct %s \{(.*?)\};" % struct, HEADER, re.DOTALL).group(1)
    return [m for m in re.findall(r"(\w+);", body) if m != "struct_size"]


def names(dataclass):
    return [field.name for field in dataclasses.fields(dataclass)]


class Coverage(unittest.TestCase):
    def test_every_function_of_the_header_is_bound(self):
        functions = set(re.findall(r"CZONE_API[^;(]*?\b(czone_\w+)\(", HEADER))
        self.assertGreater(len(functions), 20)
        unbound = {name for name in functions if not hasattr(_czone, name)}
        asynchronous = {name for name in functions if name.endswith("_async")}
        self.assertEqual(unbound, REFERENCES | asynchronous)
        # coroutines stand for these
        other_names = {"create": "create", "list": "zones", "lookup": "lookup",
                       "pool_grow": "grow_pool", "set_target": "set_target",
                       "audit": "audit"}
        for name in asynchronous:
            call = name[len("czone_"):-len("_async")]
            cls = czone.VM if call.startswith("vm_") or call in other_names else czone.Zone
            method = other_names.get(call, call[3:] if call.startswith("vm_") else call) + "_async"
            self.assertTrue(inspect.iscoroutinefunction(getattr(cls, method)), name)

    def test_every_function_is_used_by_the_package(self):
        source = inspect.getsource(czone)
        bound = {name for name in dir(_czone) if name.startswith("czone_")}
        self.assertEqual({name for name in bound if "_czone." + name not in source}, set())

    def test_every_constant_of_the_header_is_bound(self):
        constants = set(re.findall(r"^\s*#define (CZONE_[A-Z_]+) ", HEADER, re.MULTILINE))
        constants |= set(re.findall(r"^\s*(CZONE_[A-Z_]+) = \d", HEADER, re.MULTILINE))
        constants -= {"CZONE_H", "CZONE_API", "CZONE_ENUM"}
        self.assertIn("CZONE_POOL_FILE", constants)
        self.assertEqual({name for name in constants if not hasattr(_czone, name)}, set())

    def test_every_statistic_has_a_field(self):
        other_names = {"flags": "spill", "idle_delay_ms": "idle_delay"}
        self.assertEqual(names(czone.ZoneStats),
                         [other_names.get(m, m) for m in members("czone_zone_stats")])
        self.assertEqual(names(czone.VMStats), members("czone_vm_stats"))
        self.assertEqual(names(czone.AuditReport), members("czone_audit_report"))
        self.assertEqual(names(czone.DestroyReport), members("czone_destroy_report"))

    def test_every_option_is_accepted(self):
        # A wrong type is refused only for an option that exists.
        for member in members("czone_vm_opts"):
            with self.assertRaises(TypeError) as caught:
                _czone.czone_vm_start({member: object()})
            self.assertNotIn("is no option", str(caught.exception), member)

    def test_the_stubs_name_what_the_package_has(self):
        stubs = os.path.join(os.path.dirname(czone.__file__), "__init__.pyi")
        with open(stubs, encoding="utf-8") as file:
            text = file.read()
        for name in czone.__all__:
            self.assertRegex(text, r"(?m)^(class|def) %s\b|^%s:" % (name, name))
        for cls in (czone.VM, czone.Zone, czone.Task, czone.Process):
            for name in vars(cls):
                if not name.startswith("_"):
                    self.assertRegex(text, r"    (async )?def %s\(" % name)
        self.assertTrue(os.path.exists(os.path.join(os.path.dirname(stubs), "py.typed")))


class Errors(unittest.TestCase):
    def test_are_oserrors_with_the_library_s_words(self):
        with self.assertRaises(OSError) as caught:
            czone.open("nonsense:")
        error = caught.exception
        self.assertIsInstance(error, czone.Error)
        self.assertEqual(error.errno, errno.EINVAL)
        self.assertIn("nonsense:", str(error))
        self.assertIsNone(error.report)

    def test_say_which_option_is_wrong(self):
        with self.assertRaisesRegex(czone.Error, "kernel is missing"):
            czone.VM.start(state_dir="/tmp/x", kernel="")
        with self.assertRaisesRegex(TypeError, "'colour' is no option"):
            czone.VM.start(state_dir="/tmp/x", kernel="x", colour="red")
        with self.assertRaisesRegex(czone.Error, "pool_bytes"):
            czone.VM.start(state_dir="/tmp/x", kernel="x", pool_bytes=1, disks=["a", "ro:b"])

    def test_numbers_out_of_range_are_refused(self):
        with self.assertRaises(OverflowError):
            czone.VM.start(state_dir="/tmp/x", kernel="x", kvm=1 << 32)
        with self.assertRaises(OverflowError):
            czone.VM.start(state_dir="/tmp/x", kernel="x", pool_bytes=-1)
        for timeout in (0, -1, float("nan")):
            with self.assertRaises(ValueError):
                czone.VM.start(state_dir="/tmp/x", kernel="x", timeout=timeout)

    def test_strings_with_null_are_refused(self):
        with self.assertRaises(ValueError):
            czone.VM.start(state_dir="/tmp/x\0y", kernel="x")
        with self.assertRaises(ValueError):
            czone.VM.start(state_dir="/tmp/x", kernel="x", disks=["a\0b"])

    def test_other_objects_are_no_handles(self):
        for handle in (None, 0, object(), "x"):
            with self.assertRaises((TypeError, ValueError)):
                _czone.czone_vm_stats(handle)
            with self.assertRaises((TypeError, ValueError)):
                _czone.czone_stats(handle)
            with self.assertRaises((TypeError, ValueError)):
                _czone.czone_test_fill(handle, 0, 1, 1)


class Processes(unittest.TestCase):
    """Zone.spawn() is for the guest side; what it returns works on any child."""

    @staticmethod
    def start(*argv):
        pid = os.posix_spawnp(argv[0], argv, os.environ)
        return czone.Process(os.pidfd_open(pid), pid)

    def test_spawn_is_for_the_guest_side(self):
        with czone.open("test:///default") as vm, vm.create(czone.BLOCK, cgroup="/a") as zone:
            with self.assertRaises(czone.Error) as caught:
                zone.spawn(["true"], env={"A": "b"}, directory="/", stdin=subprocess.DEVNULL,
                           stdout=sys.stdout, stderr=2, timeout=1)
            self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
            with self.assertRaisesRegex(czone.Error, "argv is missing"):
                zone.spawn([])
            for wrong in ({"argv": "true"}, {"argv": (1,)}, {"argv": ("a",), "fds": (0, "x")},
                          {"argv": ("a",), "fds": 3}):
                with self.assertRaises(TypeError):
                    _czone.czone_spawn(zone._handle, wrong)
            with self.assertRaises(OverflowError):
                _czone.czone_spawn(zone._handle, {"argv": ("a",), "fds": (1 << 40,)})

    def test_a_process_is_waited_for(self):
        process = self.start("sh", "-c", "exit 7")
        self.assertGreaterEqual(process.fileno(), 0)
        self.assertEqual(process.wait(20), 7)
        self.assertEqual(process.poll(), 7)
        with self.assertRaises(czone.ClosedError):
            process.fileno()
        self.assertIn("returncode 7", repr(process))

    def test_a_wait_has_a_limit(self):
        with self.start("sleep", "1000") as process:
            self.assertIsNone(process.poll())
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.01)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        process.kill()

    def test_coroutines_run_while_one_waits(self):
        async def both():
            with self.start("sh", "-c", "sleep 0.1; exit 3") as process:
                return await asyncio.gather(process.wait_async(), asyncio.sleep(0, "slept"))

        self.assertEqual(asyncio.run(both()), [3, "slept"])


class Kernel(unittest.TestCase):
    def test_open_works_or_says_what_is_missing(self):
        try:
            vm = czone.open()
        except czone.Error as error:
            self.assertEqual(error.errno, errno.EOPNOTSUPP)
            self.assertIn("CONFIG_CZONE", str(error))
            return
        with vm:
            self.assertIsNone(vm.stats().host_pss)
        with self.assertRaises(czone.ClosedError):
            vm.stats()


class Log(unittest.TestCase):
    def test_takes_callables_only(self):
        with self.assertRaises(TypeError):
            _czone.czone_set_log(3)

    def test_former_function_is_released(self):
        class Function:
            def __call__(self, level, message):
                pass

        function = Function()
        before = sys.getrefcount(function)
        for _ in range(3):
            czone.set_log(function)
        czone.set_log(None)
        gc.collect()
        self.assertEqual(sys.getrefcount(function), before)


class Interpreter(unittest.TestCase):
    def test_lock_is_released_during_calls(self):
        """Threads in the library do not hold up one another or this one."""
        done = []

        def ask():
            for _ in range(200):
                try:
                    czone.open().close()
                except czone.Error:
                    pass
            done.append(True)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(done), 4)

    def test_every_waiting_call_releases_the_lock(self):
        with open(os.environ["CZONE_WRAPPER"], encoding="utf-8") as file:
            source = file.read()
        for name in re.findall(r"\bczone_\w+", " ".join(dir(_czone))):
            body = re.search(r"PyObject \*_wrap_%s\(.*?\n}" % name, source, re.DOTALL).group(0)
            self.assertIn("Py_BEGIN_ALLOW_THREADS", body, name)

    def test_exit_is_silent(self):
        script = "import czone\nczone.set_log(print)\ntry: czone.open()\nexcept OSError: pass\n"
        result = subprocess.run([sys.executable, "-X", "dev", "-c", script],
                                capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(result.stdout + result.stderr, "")


if __name__ == "__main__":
    unittest.main()
