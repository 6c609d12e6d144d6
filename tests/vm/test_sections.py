# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pool's memory map: kept for a while for the next zone, then the host has it back."""
import random
import time

import pytest

from microvm import MIB, Container

DELAY = "/sys/module/czone/parameters/section_delay_ms"
MAP = 2 * MIB   # of a section


@pytest.fixture
def delay(microvm):
    """Sets the delay in milliseconds; the first thing behind the pool is the test's own."""
    microvm.vm.reclaim()
    assert microvm.pool() == 0
    yield lambda ms: microvm.guest.run(f"echo {ms} > {DELAY}")
    microvm.guest.run(f"echo 1000 > {DELAY}")
    microvm.vm.reclaim()


def test_it_is_kept_then_comes_back_by_itself(microvm, delay):
    delay(5000)
    zone = microvm.vm.create(256 * MIB)
    used = microvm.pool()
    assert used >= 2 * MAP
    start = time.monotonic()
    zone.destroy()
    kept = microvm.pool()
    if time.monotonic() - start < 4:
        assert kept >= 2 * MAP
        assert microvm.vm.stats().metadata >= 2 * MAP
    assert microvm.pool(at_most=0) == 0
    assert time.monotonic() - start >= 4.5, "it must not go before its time"
    assert microvm.vm.stats().metadata == 0


def test_it_comes_back_at_once_when_the_vm_is_reclaimed(microvm, delay):
    delay(600000)
    for size in (4 * MIB, 256 * MIB):
        microvm.vm.create(size).destroy()
        assert microvm.pool() >= MAP
        microvm.vm.reclaim()
        assert microvm.pool() == 0


def test_a_section_in_use_keeps_it(microvm, delay):
    delay(500)
    microvm.vm.create(64 * MIB).destroy()
    c = Container(microvm, "next", 64 * MIB).workload(anon=24, shm=8)
    c.wait("ready")
    assert c.verify() == 32 * MIB
    microvm.guest.run("sleep 2")
    assert microvm.vm.stats().metadata >= MAP
    assert c.verify() == 32 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()
    assert microvm.pool(at_most=0) == 0


@pytest.mark.parametrize("ms", [0, 20, 200])
def test_zones_come_and_go_while_sections_do(microvm, delay, ms):
    delay(ms)
    c = Container(microvm, f"witness{ms}", 32 * MIB).workload(anon=8, shm=4)
    c.wait("ready")
    rng, live = random.Random(ms), []
    for _ in range(120):
        if live and (len(live) == 6 or rng.random() < 0.5):
            live.pop(rng.randrange(len(live))).destroy()
        else:
            live.append(microvm.vm.create(rng.choice([4, 64, 128, 320]) * MIB))
        if rng.random() < 0.2:
            time.sleep(rng.random() * 2 * ms / 1000)
        if rng.random() < 0.05:
            microvm.vm.reclaim()
    for zone in live:
        zone.destroy()
    assert c.verify() == 12 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()
    assert microvm.pool(at_most=0) == 0
    stats = microvm.vm.stats()
    assert (stats.pool_used, stats.zones, stats.metadata) == (0, 0, 0)


def test_without_a_driver_it_waits_for_one(microvm, delay):
    """Zones that end while nobody takes memory: all of it comes back when somebody does."""
    delay(300)
    microvm.guest.run(
        "cd /sys/bus/virtio/drivers/virtio_czone; d=$(basename $(ls -d virtio*)); "
        "echo $d > unbind; guest-run-static --size 64 true >/run/log 2>&1; s=$?; sleep 1; "
        "echo $d > bind; exit $s")
    assert microvm.pool(at_most=MAP - 1) < MAP
    microvm.vm.reclaim()
    assert microvm.pool() == 0
