/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a zone: create, attach, use, reclaim, statistics, destroy. Read it
 * to learn the library, and run it to see that a machine or a guest is ready: as
 * any user on the test driver, which is the default, as root in a guest, or on a
 * host, with a VM that it starts, whose guest is that of examples/microvm.
 *
 *	first-zone [test:///default | guest:/// | STATE_DIR KERNEL INITRD ROOTFS]
 *
 * What uses memory is a task of the test driver, a child process, or a container
 * in the VM; all the rest is the same. The exit status is 0 when every step did
 * what it should.
 */
#define _GNU_SOURCE
#include "demo/guest.h"
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define SIZE (64 * MIB)
#define DIRTY (32 * MIB)	/* what the container uses at first */
#define KEEP (8 * MIB)		/* and what it keeps when it goes idle */

#define CGROUP "/first-zone"
#define ROOT "/sys/fs/cgroup"
#define STEP_MS 120000		/* limit of anything in a VM */

/* ---- a container: 0 or a negative errno */

struct container {
	const char *cgroup;
	czone_test_task *task;		/* on a test VM */
	int vm;				/* on a host: the guest's shell; 0: none */
	pid_t pid;			/* there, or in the guest that we run in */
	int to_child, from_child;
};

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd >= 0 && write(fd, text, strlen(text)) >= 0 ? 0 : -errno;

	if (fd >= 0)
		close(fd);
	return r;
}

/* In the child: one step for each byte that comes, and a byte for each that is done. */
static int child(int in, int out)
{
	char *memory = mmap(NULL, DIRTY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	char step;

	if (memory == MAP_FAILED || write_file(ROOT CGROUP "/cgroup.procs", "0") < 0)
		return 1;
	while (read(in, &step, 1) == 1) {
		if (step == 'u')
			memset(memory, 'x', DIRTY);
		else
			madvise(memory + KEEP, DIRTY - KEEP, MADV_DONTNEED);
		if (write(out, &step, 1) != 1)
			return 1;
	}
	for (uint64_t i = 0; i < DIRTY; i++) {
		if (memory[i] != (i < KEEP ? 'x' : 0))
			return 1;
	}
	return 0;
}

static int start_child(struct container *c)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(from, O_CLOEXEC) < 0) {
		close(to[0]);
		close(to[1]);
		return -errno;
	}
	c->pid = fork();
	if (c->pid == 0) {
		close(to[1]);
		_exit(child(to[0], from[1]));
	}
	close(to[0]);
	close(from[1]);
	c->to_child = to[1];
	c->from_child = from[0];
	return c->pid < 0 ? -errno : 0;
}

static int ask_child(const struct container *c, char step)
{
	if (write(c->to_child, &step, 1) != 1 || read(c->from_child, &step, 1) != 1)
		return -EPIPE;
	return 0;
}

/* A line in the VM of which only the success matters. */
#define in_vm(c, ...) succeeded(guest_run((c)->vm, STEP_MS, __VA_ARGS__))

static int succeeded(char *answer)
{
	free(answer);
	return answer ? 0 : -EIO;
}

/* Wait until the container's log has this word. */
static int wait_for(const struct container *c, const char *word)
{
	return in_vm(c, "i=0; until grep -q '^%s' /run/c/first-zone.log; do i=$((i+1)); "
		     "[ $i -lt 1000 ] || exit 1; sleep 0.05; done", word);
}

/* The workload of examples/microvm, which fills its memory at once. */
static int start_in_vm(struct container *c)
{
	char *pid = guest_run(c->vm, STEP_MS, "container start first-zone workload anon=%d free=%d",
			      (int)(DIRTY / MIB), (int)(100 * (DIRTY - KEEP) / DIRTY));

	c->pid = pid ? atoi(pid) : 0;
	free(pid);
	return c->pid > 0 ? 0 : -EIO;
}

static int container_start(struct container *c, czone_vm *vm)
{
	int r;

	if (c->vm)
		return start_in_vm(c);
	r = czone_test_start(vm, c->cgroup, &c->task);
	return r == -EOPNOTSUPP ? start_child(c) : r;
}

static int container_use(const struct container *c)
{
	if (c->vm)
		return wait_for(c, "ready");
	return c->task ? czone_test_fill(c->task, 0, DIRTY, 'x') : ask_child(c, 'u');
}

static int container_idle(const struct container *c)
{
	if (c->vm)
		return in_vm(c, "kill -USR1 %d", c->pid) < 0 ? -EIO : wait_for(c, "idle");
	return c->task ? czone_test_discard(c->task, KEEP, DIRTY - KEEP) : ask_child(c, 'i');
}

/* Also whether it still has what it should. */
static int container_stop(struct container *c)
{
	static char memory[DIRTY];
	int status, r = 0;

	if (c->task) {
		r = czone_test_read(c->task, 0, memory, sizeof(memory));
		for (uint64_t i = 0; r == 0 && i < DIRTY; i++) {
			if (memory[i] != (i < KEEP ? 'x' : 0))
				r = -EIO;
		}
		c->task = czone_test_exit(c->task);
	} else if (c->vm && c->pid > 0) {
		r = in_vm(c, "kill -USR2 %d", c->pid);
		if (r == 0)
			r = wait_for(c, "verified");
		if (in_vm(c, "container stop first-zone") < 0)
			r = -EIO;
		c->pid = 0;
	} else if (c->pid > 0) {
		close(c->to_child);
		if (waitpid(c->pid, &status, 0) != c->pid || status)
			r = -EIO;
		close(c->from_child);
		c->pid = 0;
	}
	return r;
}

/* ---- the life of its zone */

static void print(const char *when, const struct czone_zone_stats *s)
{
	printf("%-10s %6.1f MiB used, %6.1f free and backed, %6.1f free and unbacked\n", when,
	       (double)s->used / MIB, (double)s->free_backed / MIB, (double)s->free_unbacked / MIB);
}

static int failed(const char *what, int r)
{
	fprintf(stderr, "first-zone: %s: %s (%s)\n", what, czone_strerror(r), czone_error_detail());
	return r;
}

static int live(czone *zone, struct container *c)
{
	struct czone_zone_stats s = CZONE_INIT(s);
	uint64_t returned = 0;
	int r;

	r = container_use(c);
	if (r < 0)
		return failed("use", r);
	r = czone_stats(zone, &s);
	if (r < 0)
		return failed("statistics", r);
	print("busy", &s);
	if (s.used < DIRTY)
		return failed("the container's memory is not in its zone", -EIO);

	r = container_idle(c);
	if (r == 0)
		r = czone_stats(zone, &s);
	if (r < 0)
		return failed("idle", r);
	print("idle", &s);
	r = czone_reclaim(zone, UINT64_MAX, NULL, &returned);
	if (r == 0)
		r = czone_stats(zone, &s);
	if (r < 0)
		return failed("reclaim", r);
	print("reclaimed", &s);
	printf("           %6.1f MiB came back, from a container that runs on\n",
	       (double)returned / MIB);
	if (returned < (DIRTY - KEEP) / 100 * 99)
		return failed("too little came back", -EIO);
	return 0;
}

static int begin_and_end(czone_vm *vm, struct container *c)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone;
	int r, end;

	opts.size = SIZE;
	r = czone_create(vm, &opts, &zone);
	if (r < 0)
		return failed("create", r);
	r = czone_attach_cgroup(zone, c->cgroup, 0, 0, NULL);
	if (r == 0)
		r = container_start(c, vm);
	if (r < 0)
		failed("attach and start", r);
	else
		r = live(zone, c);
	end = container_stop(c);
	if (end < 0 && r == 0)
		r = failed("the container lost memory", end);
	end = czone_destroy(zone, 0, 0, &report);
	if (end < 0)
		r = failed("destroy", end);
	printf("destroyed  %6.1f MiB came back\n", (double)report.returned / MIB);
	czone_unref(zone);
	return r;
}

static int on_a_test_vm_or_a_guest(const char *uri)
{
	struct container c = { .cgroup = CGROUP };
	int r, guest = !strncmp(uri, "guest:", 6);
	czone_vm *vm;

	r = czone_open(uri, &vm);
	if (r < 0)
		return failed(uri, r);
	if (guest) {
		write_file(ROOT "/cgroup.subtree_control", "+memory");
		if (mkdir(ROOT CGROUP, 0755) < 0) {
			perror("first-zone: " ROOT CGROUP);
			czone_vm_unref(vm);
			return -EIO;
		}
	}
	r = begin_and_end(vm, &c);
	if (guest && rmdir(ROOT CGROUP) < 0) {
		perror("first-zone: " ROOT CGROUP);
		r = -errno;
	}
	czone_vm_unref(vm);
	return r;
}

static int on_a_host(char **argv)
{
	struct container c = { .cgroup = "/c" CGROUP };
	struct czone_vm_opts opts = CZONE_INIT(opts);
	char channel[256], disk[512];
	czone_vm *vm;
	int r;

	snprintf(channel, sizeof(channel), "%s/exec", argv[0]);
	snprintf(disk, sizeof(disk), "ro:%s", argv[3]);
	opts.state_dir = argv[0];
	opts.kernel = argv[1];
	opts.initrd = argv[2];
	opts.disks = (const char *[]) { disk, NULL };
	opts.channel = channel;
	r = czone_vm_start(&opts, &vm);
	if (r < 0)
		return failed("start", r);
	c.vm = guest_connect(channel, STEP_MS);
	if (c.vm < 0 || in_vm(&c, "container create first-zone") < 0)
		r = -EIO;
	else
		r = begin_and_end(vm, &c);
	if (c.vm >= 0)
		close(c.vm);
	czone_vm_unref(vm);
	return r;
}

int main(int argc, char **argv)
{
	int r;

	if (argc != 1 && argc != 2 && argc != 5) {
		fprintf(stderr, "usage: first-zone [test:///default | guest:/// | STATE_DIR KERNEL INITRD ROOTFS]\n");
		return 2;
	}
	if (argc == 5)
		r = on_a_host(argv + 1);
	else
		r = on_a_test_vm_or_a_guest(argc == 2 ? argv[1] : "test:///default");
	return r < 0;
}
