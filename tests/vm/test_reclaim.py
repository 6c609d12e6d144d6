# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that a live container has freed goes back to the host."""
import pytest

from microvm import MIB, Container


@pytest.mark.parametrize("chunk", [0, 2048, 64, 4])
def test_a_live_container_gives_back_what_it_freed(microvm, chunk):
    c = Container(microvm, f"idle{chunk}", 128 * MIB).workload(anon=96, shm=4, file=4, free=50, chunk=chunk)
    c.wait("ready")
    before = microvm.pool()
    freed = c.idle()
    assert freed == 48 * MIB
    assert microvm.pool() >= before, "freeing alone must not be what gives it back"
    faults = microvm.guest.run(f"cut -d' ' -f10,12 /proc/{c.pid}/stat")
    returned = c.zone.reclaim()
    assert microvm.guest.run(f"cut -d' ' -f10,12 /proc/{c.pid}/stat") == faults
    fell = before - microvm.pool()
    print(f"freed {freed}, returned {returned}, the host's count fell by {fell}")
    assert fell >= 0.99 * freed
    assert abs(returned - fell) <= 64 * 4096
    assert c.verify() == 56 * MIB
    assert c.zone.stats().free_backed <= 1 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()


def test_at_most_as_much_as_asked(microvm):
    c = Container(microvm, "some", 128 * MIB).workload(anon=96, free=75)
    c.wait("ready")
    c.idle()
    before = microvm.pool()
    returned = c.zone.reclaim(16 * MIB)
    assert 16 * MIB <= returned + 4096 * 64 and returned <= 20 * MIB, returned
    assert abs(before - microvm.pool() - returned) <= 64 * 4096
    c.verify()
    c.stop()
    c.remove()
    c.zone.destroy()


def test_nothing_free_means_nothing_returned(microvm):
    c = Container(microvm, "busy", 64 * MIB).workload(anon=32)
    c.wait("ready")
    c.zone.reclaim()
    assert c.zone.reclaim() <= 64 * 4096
    assert c.verify() == 32 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()


def test_cache_goes_when_asked_for(microvm):
    c = Container(microvm, "cache", 64 * MIB).workload(file=32)
    c.wait("ready")
    microvm.guest.run(f"kill -9 {c.pid}; sync; sleep 0.5")
    c.zone.reclaim()
    kept = c.zone.stats().file
    assert kept >= 30 * MIB, "the cache must survive a reclaim that does not ask for it"
    returned = c.zone.reclaim(with_cache=True)
    assert returned >= 0.95 * kept, (returned, kept, c.zone.stats())
    c.stop()
    c.remove()
    c.zone.destroy()


def test_reclaimed_memory_can_be_used_again(microvm):
    c = Container(microvm, "again", 64 * MIB)
    for seed in range(3):
        microvm.guest.run(f"container start again workload anon=40 seed={seed}")
        assert c.wait("ready")["anon"] == 40 * MIB
        c.stop()
        c.zone.reclaim()
        s = c.zone.stats()
        assert s.host_resident <= 1 * MIB, s
    c.remove()
    c.zone.destroy()


def test_the_whole_vm_at_once(microvm):
    cs = [Container(microvm, f"vm{i}", 48 * MIB).workload(anon=32, free=50, seed=i) for i in range(3)]
    for c in cs:
        c.wait("ready")
        c.idle()
    before = microvm.pool()
    microvm.vm.reclaim()
    assert before - microvm.pool() >= 0.99 * 48 * MIB
    for c in cs:
        assert c.verify() == 16 * MIB
        c.stop()
        c.remove()
        c.zone.destroy()
