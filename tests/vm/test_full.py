# SPDX-License-Identifier: LGPL-2.1-or-later
"""A full zone is the business of its own container alone."""
from microvm import MIB, Container


def oom_kills(microvm, name):
    text = microvm.guest.run(f"cat /sys/fs/cgroup/c/{name}/memory.events")
    return int(dict(line.split() for line in text.splitlines())["oom_kill"])


def test_a_full_strict_zone_kills_inside_its_container_alone(microvm):
    bystander = Container(microvm, "bystander", 64 * MIB).workload(anon=40)
    outsider = Container(microvm, "outsider").workload(anon=32)
    for c in (bystander, outsider):
        c.wait("ready")
    hog = Container(microvm, "hog", 48 * MIB).workload(anon=128)
    microvm.guest.run(
        "i=0; while grep -q 'populated 1' /sys/fs/cgroup/c/hog/cgroup.events; do"
        " i=$((i+1)); [ $i -gt 600 ] && exit 1; sleep 0.1; done")
    assert "ready" not in hog.log()
    assert oom_kills(microvm, "hog") >= 1
    assert oom_kills(microvm, "bystander") == 0 and oom_kills(microvm, "outsider") == 0
    assert bystander.verify() == 40 * MIB and outsider.verify() == 32 * MIB
    for c in (hog, bystander, outsider):
        c.stop()
        c.remove()
        if c.zone:
            c.zone.destroy()


def test_clean_cache_goes_before_anybody_is_killed(microvm):
    c = Container(microvm, "cachefirst", 64 * MIB)
    microvm.guest.run("container start cachefirst sh -c "
                      "'dd if=/dev/zero of=/data/big bs=1M count=48 2>/dev/null; sync; echo read;"
                      " sleep 3; exec workload anon=44'")
    c.wait("read")
    assert c.zone.stats().file >= 44 * MIB, "the cache must lie in the zone, or there is nothing to show"
    c.wait("ready")
    assert oom_kills(microvm, "cachefirst") == 0
    assert c.zone.stats().file <= 20 * MIB
    c.stop()
    c.remove()
    c.zone.destroy()


def test_a_full_spilling_zone_falls_back(microvm):
    c = Container(microvm, "spill", 32 * MIB, spill=True).workload(anon=64)
    assert c.wait("ready")["anon"] == 64 * MIB
    s = c.zone.stats()
    assert s.spilled >= 30 * MIB, s
    assert oom_kills(microvm, "spill") == 0
    c.stop()
    c.remove()
    c.zone.destroy()
