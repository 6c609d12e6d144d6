// SPDX-License-Identifier: LGPL-2.1-or-later
/* What this machine has for VMs with zones. */
#include "machine.h"
#include "../driver.h"
#include "../probe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

#define MIB ((uint64_t)1 << 20)
#define ASK_LIMIT_MS 10000	/* for QEMU to print something */
#define DEVICE "vhost-user-test-device-pci"

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Read all that `fd` gives until its end or `limit`. The text must be freed. */
static char *read_all(int fd, int64_t limit)
{
	size_t size = 0, room = 0;
	char *text = NULL;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = limit - now_ms();
		ssize_t n;

		if (size + 4096 > room) {
			char *more = realloc(text, room = 2 * room + 8192);

			if (!more)
				break;
			text = more;
		}
		if (left <= 0 || (poll(&p, 1, left) <= 0 && errno != EINTR))
			break;
		n = read(fd, text + size, room - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			text[size] = 0;
			return text;
		}
		size += n;
	}
	free(text);
	return NULL;
}

/* What a program prints; NULL if it cannot be run or does not end in time. */
static char *output_of(const char *program, const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	char *text = NULL;
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
	if (!posix_spawn(&pid, program, &actions, NULL, (char *const *)argv, environ)) {
		close(pipes[1]);
		pipes[1] = -1;
		text = read_all(pipes[0], now_ms() + ASK_LIMIT_MS);
		if (!text)
			kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[0]);
	if (pipes[1] >= 0)
		close(pipes[1]);
	return text;
}

static void probe_qemu(struct probe *probe, const struct czone_vm_opts *o)
{
	static const char remedy[] =
		"install QEMU 11 or newer (Debian: qemu-system-x86 of trixie-backports) and name it in CZONE_QEMU";
	char *found = o->emulator ? strdup(o->emulator) : machine_find_emulator();
	const char *version_argv[] = { found, "-version", NULL };
	const char *device_argv[] = { found, "-device", "help", NULL };
	int major = 0, minor = 0;
	char *version = NULL, *devices = NULL;

	if (!found || access(found, X_OK)) {
		probe_say(probe, "qemu", CZONE_PROBE_MISSING, remedy, "%s",
			  found ? found : "no qemu-system-x86_64 in PATH, and CZONE_QEMU is not set");
		goto out;
	}
	version = output_of(found, version_argv);
	if (!version || sscanf(version, "QEMU emulator version %d.%d", &major, &minor) != 2) {
		probe_say(probe, "qemu", CZONE_PROBE_MISSING, remedy, "%s does not tell its version: %.200s",
			  found, version ? version : "it did not end");
		goto out;
	}
	probe_say(probe, "qemu", major >= 11 ? CZONE_PROBE_OK : CZONE_PROBE_MISSING, remedy,
		  "%s is QEMU %d.%d", found, major, minor);
	devices = output_of(found, device_argv);
	if (devices && strstr(devices, "\"" DEVICE "\""))
		probe_say(probe, "device", CZONE_PROBE_OK, "", "it has %s", DEVICE);
	else
		probe_say(probe, "device", CZONE_PROBE_MISSING, remedy, "it is without %s", DEVICE);
out:
	free(version);
	free(devices);
	free(found);
}

/* The driver is a module beside the library; opening it would fix the process's root. */
static void probe_libvirt(struct probe *probe, const struct czone_vm_opts *o)
{
	unsigned long version = 0;
	char path[4096];
	Dl_info info;
	char *slash;

	virGetVersion(&version, NULL, NULL);
	if (o->uri && !strstr(o->uri, "/embed")) {
		virConnectPtr connection = virConnectOpen(o->uri);

		probe_say(probe, "libvirt", connection ? CZONE_PROBE_OK : CZONE_PROBE_MISSING,
			  "start its daemon, or leave the URI out to need none",
			  connection ? "%s answers" : "%s cannot be opened", o->uri);
		if (connection)
			virConnectClose(connection);
		return;
	}
	path[0] = 0;
	if (dladdr(dlsym(RTLD_DEFAULT, "virConnectOpen"), &info) && info.dli_fname)
		snprintf(path, sizeof(path) - 64, "%s", info.dli_fname);
	slash = strrchr(path, '/');
	strcpy(slash ? slash : path, "/libvirt/connection-driver/libvirt_driver_qemu.so");
	if (slash && access(path, R_OK))
		probe_say(probe, "libvirt", CZONE_PROBE_MISSING, "install libvirt-daemon-driver-qemu",
			  "%s: %s", path, strerror(errno));
	else
		probe_say(probe, "libvirt", CZONE_PROBE_OK, "", "libvirt %lu.%lu with its QEMU driver",
			  version / 1000000, version / 1000 % 1000);
	if (!geteuid() && !getpwnam("libvirt-qemu"))
		probe_say(probe, "libvirt-user", CZONE_PROBE_MISSING,
			  "adduser --system --group --no-create-home libvirt-qemu",
			  "libvirt wants a user libvirt-qemu for root, though it will not use it");
}

static void probe_accelerator(struct probe *probe, const struct czone_vm_opts *o)
{
	if (machine_has_kvm())
		probe_say(probe, "accelerator", CZONE_PROBE_OK, "", "KVM");
	else
		probe_say(probe, "accelerator", o->kvm == CZONE_KVM_ON ? CZONE_PROBE_MISSING : CZONE_PROBE_WEAK,
			  "run on a CPU whose vmx or svm shows, with access to /dev/kvm",
			  "no KVM here: guests are emulated, many times slower");
}

/* Does punching a hole into shared memory give it back? */
static void probe_punch(struct probe *probe)
{
	const off_t size = 1 << 20;
	int fd = memfd_create("czone-probe", MFD_CLOEXEC);
	const char *failed = NULL;
	struct stat before, after;

	if (fd < 0)
		failed = "memfd_create";
	else if (fallocate(fd, 0, 0, size) || fstat(fd, &before))
		failed = "allocating 1 MiB of it";
	else if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) || fstat(fd, &after))
		failed = "punching a hole into it";
	if (failed)
		probe_say(probe, "shared-memory", CZONE_PROBE_MISSING,
			  "see ulimit -f, and the memory limit of this process's cgroup",
			  "shared memory: %s: %s", failed, strerror(errno));
	else
		probe_say(probe, "shared-memory", before.st_blocks > after.st_blocks ?
			  CZONE_PROBE_OK : CZONE_PROBE_MISSING, "a kernel whose shmem is real",
			  "a hole in a memfd gave %lld of 1024 KiB back",
			  (long long)(before.st_blocks - after.st_blocks) / 2);
	if (fd >= 0) {
		if (syscall(__NR_cachestat, fd, NULL, NULL, 0) && errno == ENOSYS)
			probe_say(probe, "cachestat", CZONE_PROBE_WEAK, "Linux 6.5 or newer",
				  "this kernel cannot count a part of a file quickly: what comes back while a neighbour faults is undercounted");
		else
			probe_say(probe, "cachestat", CZONE_PROBE_OK, "", "exact counts of what comes back");
		close(fd);
	}
}

/* Will the host fill up again what was given back of a huge page? */
static void probe_khugepaged(struct probe *probe)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none";
	unsigned int most = 0;
	FILE *f = fopen(path, "re");

	if (f && fscanf(f, "%u", &most) != 1)
		most = 0;
	if (f)
		fclose(f);
	if (most)
		probe_say(probe, "khugepaged", CZONE_PROBE_WEAK,
			  "echo 0 >/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
			  "the host may fill up a huge page of which up to %u small ones have come back", most);
	else
		probe_say(probe, "khugepaged", CZONE_PROBE_OK, "", "what has come back of a huge page stays so");
}

static void probe_pool(struct probe *probe, const struct czone_vm_opts *o)
{
	uint64_t wanted = (o->boot_bytes ? o->boot_bytes : MACHINE_BOOT_BYTES) +
			  (o->pool_bytes ? o->pool_bytes : MACHINE_POOL_BYTES);
	struct czone_vm_opts opts = *o;
	unsigned int shift = 12, report_shift = 12;
	struct rlimit limit;
	struct statvfs fs;

	if (o->pool_dir)
		opts.pool_backing = CZONE_POOL_FILE;
	if (opts.pool_backing == CZONE_POOL_FILE && !o->pool_dir)
		probe_say(probe, "pool", CZONE_PROBE_MISSING, "name a pool_dir", "a pool of files without pool_dir");
	else if (machine_pool_shifts(&opts, &shift, &report_shift) < 0)
		probe_say(probe, "pool", CZONE_PROBE_MISSING, "mount -t tmpfs -o huge=always,mode=0700 czone DIR",
			  "%s", czone_error_detail());
	else if (opts.pool_dir && !statvfs(opts.pool_dir, &fs) &&
		 (uint64_t)fs.f_bavail * fs.f_frsize < wanted)
		probe_say(probe, "pool", CZONE_PROBE_WEAK, "mount -o remount,size=... it",
			  "%s has room for %llu MiB of the %llu MiB that the VM may come to use",
			  opts.pool_dir, (unsigned long long)(fs.f_bavail * fs.f_frsize / MIB),
			  (unsigned long long)(wanted / MIB));
	else
		probe_say(probe, "pool", shift == 21 ? CZONE_PROBE_OK : CZONE_PROBE_WEAK,
			  "mount -t tmpfs -o huge=always,mode=0700 czone DIR, and name it as pool_dir",
			  shift == 21 ? "host pages of 2 MiB" :
			  "host pages of 4 KiB: to give memory back takes many times longer than with 2 MiB");
	if (shift == 21 && report_shift < shift)
		probe_khugepaged(probe);
	if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < wanted)
		probe_say(probe, "file-size", CZONE_PROBE_MISSING, "ulimit -f unlimited",
			  "files may have %llu MiB, and guest memory is a file",
			  (unsigned long long)(limit.rlim_cur / MIB));
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < 1024)
		probe_say(probe, "files", CZONE_PROBE_WEAK, "ulimit -n 4096",
			  "%llu open files at most, and each VM needs some twenty",
			  (unsigned long long)limit.rlim_cur);
}

static void probe_file(struct probe *probe, const char *name, const char *path, const char *remedy)
{
	if (path)
		probe_say(probe, name, access(path, R_OK) ? CZONE_PROBE_MISSING : CZONE_PROBE_OK, remedy,
			  access(path, R_OK) ? "%s cannot be read" : "%s", path);
}

int czone_host_probe(struct probe *probe, const struct czone_vm_opts *opts)
{
	probe_qemu(probe, opts);
	probe_libvirt(probe, opts);
	probe_accelerator(probe, opts);
	probe_punch(probe);
	probe_pool(probe, opts);
	probe_file(probe, "kernel", opts->kernel, "script/build-kernel builds one");
	probe_file(probe, "initrd", opts->initrd, "examples/microvm makes one");
	return 0;
}
