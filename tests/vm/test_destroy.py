# SPDX-License-Identifier: LGPL-2.1-or-later
"""A zone goes, and all of its memory with it."""
import pytest

from microvm import MIB, Container


@pytest.mark.parametrize("load", [
    dict(anon=96), dict(anon=96, thp=1), dict(shm=64), dict(file=64), dict(anon=32, shm=16, file=16),
], ids=lambda d: "+".join(d))
def test_everything_dirtied_comes_back(microvm, load):
    before = microvm.pool()
    c = Container(microvm, "dead", 112 * MIB).workload(**load)
    c.wait("ready")
    dirtied = sum(v for k, v in load.items() if k != "thp") * MIB
    peak = microvm.pool()
    assert peak - before >= dirtied
    c.stop()
    c.remove()
    report = c.zone.destroy()
    after = microvm.pool(at_most=before + 64 * 4096)
    print(f"dirtied {dirtied}, host {before} -> {peak} -> {after}, {report}")
    assert peak - after >= 0.99 * dirtied
    assert after <= before + 64 * 4096
    assert report.returned >= 0.99 * dirtied


def test_page_cache_that_outlives_its_container_is_dropped(microvm):
    before = microvm.pool()
    c = Container(microvm, "leaver", 64 * MIB).workload(file=32)
    c.wait("ready")
    c.stop()    # its file stays on the disk, and in the cache
    report = c.zone.destroy()
    assert report.dropped + report.migrated >= 30 * MIB, report
    assert microvm.pool(at_most=before + 64 * 4096) <= before + 64 * 4096
    c.remove()


def test_live_tasks_are_refused_then_moved_out_by_force(microvm):
    import czone
    before = microvm.pool()
    c = Container(microvm, "alive", 48 * MIB).workload(anon=24)
    c.wait("ready")
    with pytest.raises(czone.Error) as e:
        c.zone.destroy()
    assert e.value.errno == 16, e.value
    assert c.verify() == 24 * MIB
    report = c.zone.destroy(with_tasks=True)
    assert report.migrated >= 24 * MIB, report
    assert microvm.pool(at_most=before + 64 * 4096) <= before + 64 * 4096
    assert c.verify() == 24 * MIB
    c.stop()
    c.remove()


def test_a_zone_outlives_its_cgroup(microvm):
    before = microvm.pool()
    c = Container(microvm, "gone", 48 * MIB).workload(anon=24)
    c.wait("ready")
    c.stop()
    c.remove()
    assert c.zone.id in [z.id for z in microvm.vm.zones()]
    c.zone.destroy()
    assert microvm.pool(at_most=before + 64 * 4096) <= before + 64 * 4096
    assert c.zone.id not in [z.id for z in microvm.vm.zones()]


def test_resize(microvm):
    c = Container(microvm, "elastic", 32 * MIB).workload(anon=16)
    c.wait("ready")
    c.zone.resize(128 * MIB)
    assert c.zone.stats().size == 128 * MIB
    assert sum(r.size for r in c.zone.ranges()) == 128 * MIB
    c.zone.resize(48 * MIB)
    s = c.zone.stats()
    assert s.size == 48 * MIB and s.used + s.free_backed + s.free_unbacked == s.size
    assert c.verify() == 16 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()
