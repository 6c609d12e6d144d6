# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirt daemon of the test's own, which no other one on this machine notices.

As root it is the system's kind, in a mount namespace where the directories that
it insists on are empty; otherwise the user's kind (session).
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

PLACES = ("/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt",
          "/etc/libvirt")
QEMU_CONF = """stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
dynamic_ownership = 0
user = "+%d"
group = "+%d"
"""


class Daemon:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="libvirtd."))
        d = self.directory
        (d / "run").mkdir()
        (d / "qemu.conf").write_text(QEMU_CONF % (os.geteuid(), os.getegid()))
        (d / "libvirtd.conf").write_text(
            f'unix_sock_dir = "{d}/run"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n')
        command = ["libvirtd", "--config", str(d / "libvirtd.conf"), "--pid-file", str(d / "pid")]
        environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        if os.geteuid() == 0:
            self.kind = "system"
            mounts = "; ".join(f"mkdir -p {p} && mount -t tmpfs tmpfs {p}" for p in PLACES)
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                       f"{mounts}; cp {d}/qemu.conf /etc/libvirt; exec " + " ".join(command)]
        else:
            self.kind = "session"
            for name in ("RUNTIME", "CONFIG", "CACHE", "DATA"):
                (d / name).mkdir(mode=0o700)
                environment[f"XDG_{name}_{'DIR' if name == 'RUNTIME' else 'HOME'}"] = str(d / name)
            (d / "CONFIG/libvirt").mkdir()
            shutil.copy(d / "qemu.conf", d / "CONFIG/libvirt")
        socket = d / "run/libvirt-sock"
        self.uri = f"qemu+unix:///{self.kind}?socket={socket}"
        self.log = open(d / "log", "w")
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while not socket.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                text = (d / "log").read_text()
                self.stop()
                raise RuntimeError("libvirtd does not start: " + text)
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
