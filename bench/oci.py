# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bundles of the OCI runtime specification for function containers."""
import json

# What no function has a use for, as platforms' default profiles refuse it.
REFUSED = ["bpf", "delete_module", "finit_module", "init_module", "kexec_load", "keyctl", "mount",
           "move_mount", "open_by_handle_at", "perf_event_open", "pivot_root", "process_vm_writev",
           "ptrace", "reboot", "setns", "swapoff", "swapon", "umount2", "unshare", "userfaultfd"]


def config(root, io, args, memory=None):
    """config.json of a container: a read-only image, /tmp in memory, `io` from outside as /io."""
    def mount(where, kind, source=None, *options):
        return {"destination": where, "type": kind, "source": source or kind,
                "options": list(options)}
    tmp = ["mode=1777"] + ([f"size={memory}"] if memory else [])
    return json.dumps({
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
                    "env": ["PATH=/usr/bin", "HOME=/tmp", "OPENBLAS_NUM_THREADS=1"],
                    "noNewPrivileges": True,
                    "capabilities": {k: [] for k in ("bounding", "effective", "permitted")}},
        "root": {"path": root, "readonly": True},
        "hostname": "function",
        "mounts": [mount("/proc", "proc"),
                   mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755", "size=64k"),
                   mount("/dev/shm", "tmpfs", "shm", "nosuid", "nodev", "mode=1777"),
                   mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", *tmp),
                   mount("/io", "bind", io, "rbind", "rw")],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")],
                  "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
                  "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
                  "seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
                              "architectures": ["SCMP_ARCH_X86_64"],
                              "syscalls": [{"names": REFUSED, "action": "SCMP_ACT_ERRNO"}]}},
    })
