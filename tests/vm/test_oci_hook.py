# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest with Debian's programs: examples/oci-hook with a real crun and real bundles, which know
of zones by an annotation only; and Python on the guest's own kernel."""
import base64
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import czone

from microvm import MIB, MicroVM

HOOK = "/bin/oci-hook-static"
CRUN = "/usr/bin/crun --root /run/crun --cgroup-manager=cgroupfs"
HOLD = ("import sys, time; m = bytearray(40 << 20)\nfor i in range(0, len(m), 4096): m[i] = 1\n"
        "print('ready', flush=True); time.sleep(1000)")


SOURCES = pathlib.Path(__file__).parents[2]
BASE = ("ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so")


def bindings(directory):
    """The Python package and the libraries that it needs, for a guest with Debian's Python."""
    package = pathlib.Path(czone.__file__).parent
    shutil.copytree(package, directory / "czone")
    (directory / "lib").mkdir()
    needed = subprocess.run(["ldd", *package.glob("_czone*.so")], check=True, stdout=subprocess.PIPE, text=True).stdout
    for path in re.findall(r"=> (/\S+)", needed):
        if not os.path.basename(path).startswith(BASE):
            shutil.copy(path, directory / "lib")
    shutil.copy(SOURCES / "examples/first_zone.py", directory)


@pytest.fixture(scope="module")
def microvm(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    bindings(scratch)
    with MicroVM(rootfs=os.environ["CZONE_FUNCTIONS"], scratch_from=scratch) as vm:
        vm.guest.run("mkdir -p /run/b /run/crun; ln -s images/root/usr /usr; "
                     "ln -s usr/lib /lib; ln -s usr/lib64 /lib64; test -x /usr/bin/crun")
        yield vm


def config(args, name, annotations):
    hook = {stage: [{"path": HOOK, "args": ["oci-hook", word]}]
            for stage, word in (("createRuntime", "create"), ("poststop", "delete"))}
    return {
        "ociVersion": "1.0.2", "hostname": name,
        "annotations": {"run.oci.hooks.stderr": "/run/hook.log", **annotations}, "hooks": hook,
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
                    "env": ["PATH=/usr/bin"]},
        "root": {"path": "/images/root", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["mode=755", "size=64k"]}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")],
                  "cgroupsPath": f"/c/{name}"},
    }


def bundle(guest, name, args, **annotations):
    """A bundle; czone_size="96M" is the annotation czone.size."""
    text = json.dumps(config(args, name, {k.replace("_", "."): v for k, v in annotations.items()}))
    guest.run(f"mkdir -p /run/b/{name}")
    guest.run(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >/run/b/{name}/config.json")


def crun(guest, words, check=True):
    return guest.run(f"{CRUN} {words} </dev/null 2>&1", check=check)


def run(guest, name):
    """Start it in the background: (status, what it says until it is up)."""
    return guest.run(f"{CRUN} run -d --no-pivot -b /run/b/{name} {name} </dev/null >/run/{name}.log 2>&1; "
                     f"s=$?; cat /run/{name}.log; exit $s", check=False)


def wait_for(guest, name, word):
    guest.run(f"i=0; until grep -q {word} /run/{name}.log; do i=$((i+1)); "
              f"[ $i -lt 1000 ] || {{ cat /run/{name}.log; exit 1; }}; sleep 0.1; done", limit=110)


def nothing_is_left(microvm):
    assert list(microvm.vm.zones()) == []
    assert microvm.guest.run("find /run/czone /run/crun /sys/fs/cgroup/c -mindepth 1 -type d,f ! -path \"/sys/fs/cgroup/c/*.*\" 2>/dev/null; true") == ""


def test_a_container_runs_in_the_zone_that_its_annotation_asks_for(microvm):
    guest = microvm.guest
    bundle(guest, "a", ["/usr/bin/python3", "-c", HOLD], czone_size="96M")
    status, text = run(guest, "a")
    assert status == 0, text
    wait_for(guest, "a", "ready")
    [zone] = microvm.vm.zones()
    stats = zone.stats()
    assert stats.size == 96 * MIB and stats.used >= 40 * MIB and not stats.spill
    assert guest.run("stat -c %i /sys/fs/cgroup/c/a").strip() == str(stats.cgroup_id)
    before = microvm.pool()
    crun(guest, "delete -f a")
    nothing_is_left(microvm)
    assert before - microvm.pool(at_most=before - 40 * MIB) >= 40 * MIB


def test_one_that_ends_by_itself_leaves_nothing(microvm):
    guest = microvm.guest
    bundle(guest, "b", ["/usr/bin/python3", "-c", "print('done')"], czone_size="32M", czone_spill="true")
    status, text = crun(guest, "run --no-pivot -b /run/b/b b", check=False)
    assert status == 0 and "done" in text, text
    nothing_is_left(microvm)


def test_without_the_annotation_there_is_no_zone(microvm):
    guest = microvm.guest
    bundle(guest, "c", ["/usr/bin/python3", "-c", HOLD])
    assert run(guest, "c")[0] == 0
    wait_for(guest, "c", "ready")
    assert list(microvm.vm.zones()) == []
    crun(guest, "delete -f c")
    nothing_is_left(microvm)


@pytest.mark.parametrize("size, word", [("many", "not a size"), ("1048576M", "pool"), ("-1M", "not a size")])
def test_a_container_that_cannot_have_its_zone_does_not_start(microvm, size, word):
    guest = microvm.guest
    bundle(guest, "d", ["/usr/bin/python3", "-c", "print('never')"], czone_size=size)
    status, text = crun(guest, "run --no-pivot -b /run/b/d d", check=False)
    why = guest.run("cat /run/hook.log; rm /run/hook.log")
    assert status != 0 and word in why and "never" not in text, text + why
    crun(guest, "delete -f d", check=False)
    nothing_is_left(microvm)


@pytest.mark.parametrize("state, word", [
    ("", "state"), ("[]", "not an object"), ('{"annotations": {"czone.size": "4M"}}', "pid"),
    ('{"id": "../x", "pid": 1, "annotations": {"czone.size": "4M"}}', "cgroup"),
])
def test_a_state_that_makes_no_sense_is_refused(microvm, state, word):
    encoded = base64.b64encode(state.encode()).decode()
    status, text = microvm.guest.run(f"echo {encoded} | base64 -d | {HOOK} create 2>&1", check=False)
    assert status == 1 and word in text, text


def test_python_does_in_a_guest_what_it_does_elsewhere(microvm):
    text = microvm.guest.run("LD_LIBRARY_PATH=/scratch/lib PYTHONPATH=/scratch "
                             "/usr/bin/python3 -B /scratch/first_zone.py guest:/// 2>&1")
    print(text)
    assert re.search(r"reclaimed +\d+\.\d MiB used, +0\.\d free and backed", text), text
    nothing_is_left(microvm)
