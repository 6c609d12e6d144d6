#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python package on a test VM: all that it does. Needs CZONE_README, and zone_life of tests/vm."""

import asyncio
import contextlib
import dataclasses
import errno
import gc
import io
import os
import re
import subprocess
import sys
import threading
import unittest

import czone
import zone_life

MIB = 1 << 20
URI = "test:///default"


class OnTestVM(unittest.TestCase):
    def setUp(self):
        self.vm = czone.open(URI)
        self.addCleanup(self.vm.close)

    def refused(self, number, word):
        @contextlib.contextmanager
        def check():
            with self.assertRaisesRegex(czone.Error, word) as caught:
                yield caught
            self.assertEqual(caught.exception.errno, number)
        return check()


class Readme(unittest.TestCase):
    def test_what_it_shows_works(self):
        with open(os.environ["CZONE_README"], encoding="utf-8") as file:
            code, = re.findall(r"^```python\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)
        said = re.search(r"# (\d+ MiB came back)", code).group(1)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "README.md", "exec"), {})    # pylint: disable=exec-used
        first, second = output.getvalue().splitlines()
        self.assertEqual(first, said)
        self.assertIn("used=%d," % (50 * MIB), second)


class Container:
    """A container for zone_life.live(), by a task."""

    cgroup = "/c/life"

    def __init__(self, vm):
        self.task = vm.start_task(self.cgroup)
        self.stop = self.task.exit

    def use(self):
        self.task.fill(0, zone_life.DIRTY, 7)

    def idle(self):
        self.task.discard(zone_life.KEEP, zone_life.DIRTY - zone_life.KEEP)

    def check(self):
        return len(self.task.read(0, zone_life.DIRTY).rstrip(b"\0"))


class Life(OnTestVM):
    def test_as_on_every_driver(self):
        zone_life.live(self.vm, Container(self.vm))

    def test_of_a_zone(self):
        with self.vm.create(64 * MIB, cgroup="/c/a") as zone:
            with self.vm.start_task("/c/a") as task:
                task.fill(0, 32 * MIB, 7)
                task.discard(8 * MIB, 24 * MIB)
                stats = zone.stats()
                self.assertEqual((stats.used, stats.free_backed), (8 * MIB, 24 * MIB))
                self.assertEqual(stats.size, stats.used + stats.free_backed + stats.free_unbacked)
                self.assertEqual(zone.reclaim(4 * MIB), 4 * MIB)
                self.assertEqual(zone.reclaim(), 20 * MIB)
                self.assertEqual(zone.stats().host_resident, 8 * MIB)
                self.assertEqual(task.read(8 * MIB - 2, 4), b"\7\7\0\0")
                with self.refused(errno.EBUSY, "tasks live") as caught:
                    zone.destroy()
                self.assertEqual(caught.exception.report.migrated, 0)
                report = zone.destroy(with_tasks=True)
                self.assertEqual((report.migrated, report.returned), (8 * MIB, 8 * MIB))
                self.assertEqual(task.read(0, 3), b"\7\7\7")
        with self.refused(errno.ENOENT, "destroyed"):
            zone.stats()
        self.assertEqual(self.vm.stats().zones, 0)

    def test_the_pool_grows(self):
        with czone.open("test:///default") as vm:
            size = vm.stats().pool_size
            vm.grow_pool(3 * czone.POOL_STEP)
            self.assertEqual(vm.stats().pool_size, size + 3 * czone.POOL_STEP)
            with self.assertRaises(czone.Error) as caught:
                vm.grow_pool(1)
            self.assertEqual(caught.exception.errno, errno.EINVAL)
            vm.fail_next("grow", errno.ENOSPC)
            with self.assertRaises(czone.Error) as caught:
                vm.grow_pool(czone.POOL_STEP)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_quota_and_audit(self):
        with czone.open("test:///default") as vm:
            vm.set_quota(pool=3 * czone.BLOCK, zone=2 * czone.BLOCK)
            zone = vm.create(2 * czone.BLOCK)
            for call in (lambda: vm.create(2 * czone.BLOCK), lambda: zone.resize(3 * czone.BLOCK)):
                with self.assertRaises(czone.Error) as caught:
                    call()
                self.assertEqual(caught.exception.errno, errno.EDQUOT)
            report = vm.audit(take=True)
            self.assertEqual((report.zones, report.held, report.stray, report.over_quota),
                             (1, 2 * czone.BLOCK, 0, 0))
            vm.set_quota(zone=czone.BLOCK)
            self.assertEqual(vm.audit().over_quota, czone.BLOCK)
            vm.fail_next("list", errno.ETIMEDOUT)
            with self.assertRaises(czone.Error) as caught:
                vm.audit(force=True, timeout=1)
            self.assertEqual(caught.exception.errno, errno.ETIMEDOUT)
            self.assertIsNone(caught.exception.report)
            self.assertEqual(vm.stats().stray, 0)

    def test_grows_and_shrinks(self):
        zone = self.vm.create(1)
        self.assertEqual(zone.stats().size, czone.BLOCK)
        zone.resize(3 * czone.BLOCK)
        self.assertEqual([r.size for r in zone.ranges()], [3 * czone.BLOCK])
        zone.attach_cgroup("/c/a")
        with self.refused(errno.EEXIST, "/c/a"):
            self.vm.create(1, cgroup="/c")
        with self.vm.start_task("/c/a") as task:
            task.fill(0, 2 * czone.BLOCK, 1)
            with self.refused(errno.EBUSY, "do not fit"):
                zone.resize(czone.BLOCK)

    def test_cache_is_dropped_on_demand(self):
        with self.vm.create(8 * MIB, cgroup="/c/a") as zone:
            with self.vm.start_task("/c/a") as task:
                task.cache(2 * MIB)
            self.assertEqual(zone.stats().file, 2 * MIB)
            self.assertEqual(zone.reclaim(), 0)
            self.assertEqual(zone.reclaim(with_cache=True), 2 * MIB)

    def test_spills(self):
        with self.vm.create(4 * MIB, cgroup="/c/a", spill=True) as zone:
            self.assertTrue(zone.stats().spill)
            with self.vm.start_task("/c/a") as task:
                task.fill(0, 5 * MIB, 1)
                self.assertEqual(zone.stats().spilled, MIB)
            self.assertEqual(self.vm.reclaim(), 5 * MIB)

    def test_lists(self):
        zones = [self.vm.create(1) for _ in range(70)]
        self.assertEqual([zone.id for zone in self.vm], [zone.id for zone in zones])
        self.assertEqual(self.vm.lookup(zones[3].id).id, zones[3].id)
        table = [dataclasses.asdict(zone.stats()) for zone in self.vm]
        self.assertEqual(sum(row["size"] for row in table), self.vm.stats().pool_used)


class Tasks(OnTestVM):
    def test_end_once_or_when_nobody_knows_them(self):
        zone = self.vm.create(8 * MIB, cgroup="/c/a")
        task = self.vm.start_task("/c/a")
        task.fill(0, MIB, 1)
        task.exit()
        task.exit()
        with self.assertRaises(czone.ClosedError):
            task.read(0, 1)
        self.assertEqual(zone.stats().used, 0)
        task = self.vm.start_task("/c/a")
        task.fill(0, MIB, 1)
        del task
        gc.collect()
        self.assertEqual(zone.stats().used, 0)

    def test_refuse_what_makes_no_sense(self):
        with self.vm.start_task("/c/a") as task:
            for value in (256, -1):
                with self.assertRaises(OverflowError):
                    task.fill(0, 1, value)
            with self.refused(errno.EINVAL, "16 GiB"):
                task.read(1 << 40, 1)
            with self.refused(errno.ENOMEM, "full"):
                task.fill(0, 1 << 30, 1)
            self.assertEqual(task.read(0, 0), b"")


class Failures(OnTestVM):
    def test_on_purpose(self):
        zone = self.vm.create(1)
        self.vm.fail_next("reclaim", errno.ETIMEDOUT)
        with self.refused(errno.ETIMEDOUT, "czone_test_fail") as caught:
            zone.reclaim()
        self.assertEqual(caught.exception.returned, 0)
        self.assertEqual(zone.reclaim(), 0)
        self.vm.fail_next(None, errno.EIO)
        with self.refused(errno.EIO, "stats"):
            self.vm.stats()
        with self.refused(errno.EINVAL, "no call"):
            self.vm.fail_next("everything", errno.EIO)

    def test_of_a_vm_that_has_gone(self):
        zone = self.vm.create(1)
        self.vm.stop()
        with self.refused(errno.ESHUTDOWN, "stopped"):
            zone.stats()
        self.vm.close()
        with self.assertRaises(czone.ClosedError):
            self.vm.create(1)


class Async(OnTestVM):
    def test_calls_wait_in_threads(self):
        async def container(number):
            cgroup = "/c/%d" % number
            zone = await self.vm.create_async(16 * MIB, cgroup=cgroup)
            with self.vm.start_task(cgroup) as task:
                task.fill(0, 8 * MIB, number)
                task.discard(0, 4 * MIB)
                returned = await zone.reclaim_async()
            await zone.resize_async(12 * MIB)
            return returned, (await zone.destroy_async(timeout=5)).returned

        async def all_of_them():
            return await asyncio.gather(*(container(n) for n in range(8)))

        # The shrinking takes the other 4 MiB, or the destroying does.
        results = asyncio.run(all_of_them())
        self.assertEqual([returned for returned, _ in results], [4 * MIB] * 8)
        self.assertEqual(self.vm.stats().returned, 64 * MIB)
        self.assertEqual(asyncio.run(self.vm.reclaim_async()), 0)

    def test_errors_arrive(self):
        async def fail():
            await self.vm.create_async(1 << 40)

        with self.refused(errno.ENOSPC, "MiB left"):
            asyncio.run(fail())


class Events(OnTestVM):
    def test_of_a_zone(self):
        seen = []
        self.vm.on_event(seen.append)
        with self.vm.create(8 * MIB, cgroup="/c/a") as zone, self.vm.start_task("/c/a") as task:
            task.fill(0, 8 * MIB, 1)
            with self.refused(errno.ENOMEM, "full"):
                task.fill(8 * MIB, 1, 1)
            task.discard(0, 4 * MIB)
            self.assertEqual(self.vm.set_target(6 * MIB), 6 * MIB)
            with self.refused(errno.EBUSY, "in use"):
                self.vm.set_target(MIB)
            task.exit()
        self.assertEqual(seen, [])
        self.assertEqual(self.vm.dispatch(), 5)
        kind = czone.EventKind
        self.assertEqual([(e.kind, e.zone, e.bytes, e.errno) for e in seen],
                         [(kind.ZONE_CREATED, zone.id, 8 * MIB, 0), (kind.ZONE_FULL, zone.id, 0, 0),
                          (kind.TARGET_MET, 0, 6 * MIB, 0),
                          (kind.TARGET_MISSED, 0, 4 * MIB, errno.EBUSY),
                          (kind.ZONE_DESTROYED, zone.id, 4 * MIB, 0)])
        self.assertEqual(self.vm.stats().target, MIB)
        self.assertEqual(self.vm.stats().actual, 0)
        self.vm.set_target(None)
        self.assertIsNone(self.vm.stats().target)

    def test_in_a_loop_of_asyncio(self):
        async def watch():
            return [event.kind.name async for event in self.vm.events()]

        async def work():
            watching = asyncio.ensure_future(watch())
            await asyncio.sleep(0)
            zone = await self.vm.create_async(8 * MIB)
            await zone.destroy_async()
            await self.vm.wait_async()
            self.vm.stop()
            return await asyncio.wait_for(watching, 20)

        self.assertEqual(asyncio.run(work()), ["ZONE_CREATED", "ZONE_DESTROYED", "VM_GONE"])

    def test_in_a_thread_of_the_library(self):
        seen = threading.Event()
        self.vm.on_event(lambda event: seen.set())
        self.vm.dispatch_in_thread()
        self.vm.reclaim()
        self.assertTrue(seen.wait(20))
        self.vm.dispatch_in_thread(False)

    def test_of_a_function_that_fails(self):
        self.vm.on_event(lambda event: 1 / 0)
        self.vm.reclaim()
        with contextlib.ExitStack() as stack:
            hook, sys.unraisablehook = sys.unraisablehook, lambda args: None
            stack.callback(setattr, sys, "unraisablehook", hook)
            self.assertEqual(self.vm.dispatch(timeout=20), 1)
        self.vm.on_event(None)
        self.vm.reclaim()
        self.assertEqual(self.vm.dispatch(), 1)

    def test_function_is_released(self):
        class Function:
            def __call__(self, event):
                pass

        function = Function()
        before = sys.getrefcount(function)
        vm = czone.open(URI)
        vm.on_event(function)
        vm.close()
        self.assertEqual(sys.getrefcount(function), before)


class Threads(OnTestVM):
    def test_share_a_vm(self):
        done = []

        def container(number):
            for _ in range(20):
                with self.vm.create(8 * MIB, cgroup="/c/%d" % number) as zone:
                    with self.vm.start_task("/c/%d" % number) as task:
                        task.fill(0, MIB, number)
                        if zone.stats().used != MIB or task.read(MIB - 1, 1) != bytes([number]):
                            return
            done.append(number)

        threads = [threading.Thread(target=container, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(sorted(done), [0, 1, 2, 3])


class Interpreter(unittest.TestCase):
    def test_exit_is_silent_whatever_is_left(self):
        script = ("import czone\n"
                  "vm = czone.open('%s')\n"
                  "zone = vm.create(1 << 20, cgroup='/a')\n"
                  "task = vm.start_task('/a')\n"
                  "task.fill(0, 1 << 20, 1)\n" % URI)
        result = subprocess.run([sys.executable, "-X", "dev", "-c", script],
                                capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(result.stdout + result.stderr, "")


if __name__ == "__main__":
    unittest.main()
