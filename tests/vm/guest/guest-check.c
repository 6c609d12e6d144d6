/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest half of the library on a kernel that has zones: every call, with
 * what can go wrong in it. Runs as root in the microVM; prints the first thing
 * that is not as it should be.
 */
#define _GNU_SOURCE
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define ROOT "/sys/fs/cgroup"
#define PARENT "/check"

#define check(condition) do {							\
	if (!(condition)) {							\
		fprintf(stderr, "%s:%d: %s is not so; last detail: %s\n", __FILE__,	\
			__LINE__, #condition, czone_error_detail());		\
		exit(1);							\
	}									\
} while (0)

#define works(call) check((call) >= 0)

/* The call fails with this error, and its detail has this word. */
#define refused(call, error, word) do {						\
	int r_ = (call);							\
	if (r_ != (error) || !strstr(czone_error_detail(), (word))) {		\
		fprintf(stderr, "%s:%d: %s: %d, not %d; detail \"%s\", wanted \"%s\"\n",	\
			__FILE__, __LINE__, #call, r_, (error), czone_error_detail(),	\
			(word));						\
		exit(1);							\
	}									\
} while (0)

static czone_vm *vm;

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static void make_cgroup(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		perror(path);
		exit(1);
	}
}

/* A process that is born in the cgroup, touches memory, says so, and waits to be killed. */
static pid_t start_user(const char *cgroup, size_t bytes)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	int ready[2], fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char byte;
	pid_t pid;

	check(fd >= 0 && pipe(ready) == 0);
	args.cgroup = fd;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	check(pid >= 0);
	if (pid == 0) {
		char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			_exit(1);
		memset(memory, 0x5a, bytes);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fd);
	close(ready[1]);
	check(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	return pid;
}

static void end_user(pid_t pid)
{
	check(kill(pid, SIGKILL) == 0);
	check(waitpid(pid, NULL, 0) == pid);
}

static czone *new_zone(uint64_t size, const char *cgroup)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone = NULL;

	opts.size = size;
	opts.cgroup = cgroup;
	works(czone_create(vm, &opts, &zone));
	check(czone_id(zone) > 0);
	return zone;
}

static struct czone_zone_stats stats_of(czone *zone)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);

	works(czone_stats(zone, &stats));
	return stats;
}

static struct czone_vm_stats vm_stats(void)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);

	works(czone_vm_stats(vm, &stats));
	return stats;
}

/* What a zone says of itself, in all ways of asking. */
static void check_zone(czone *zone, uint64_t size)
{
	struct czone_zone_stats stats = stats_of(zone);
	struct czone_range ranges[64];
	uint64_t sum = 0;
	uint32_t ids[1024];
	bool listed = false;
	czone *same;
	int n;

	check(stats.id == czone_id(zone));
	check(stats.size == size);
	check(stats.used + stats.free_backed + stats.free_unbacked == size);
	check(stats.host_resident == CZONE_UNKNOWN);
	n = czone_ranges(zone, ranges, 64);
	check(n >= 1 && n <= 64);
	for (int i = 0; i < n; i++) {
		check(ranges[i].start % CZONE_BLOCK == 0 && ranges[i].size % CZONE_BLOCK == 0);
		sum += ranges[i].size;
	}
	check(sum == size);
	n = czone_list(vm, ids, 1024);
	check(n >= 1 && n <= 1024);
	for (int i = 0; i < n; i++) {
		check(i == 0 || ids[i] > ids[i - 1]);
		listed |= ids[i] == czone_id(zone);
	}
	check(listed);
	works(czone_lookup(vm, czone_id(zone), &same));
	check(czone_id(same) == czone_id(zone));
	czone_unref(same);
}

static void life_of_a_zone(void)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	struct czone_vm_stats before = vm_stats(), during;
	uint64_t returned = 0;
	struct stat directory;
	czone *zone, *none;
	pid_t user;

	check(before.pool_size > 0 && before.boot_size > before.boot_free);
	check(before.host_pool == CZONE_UNKNOWN && before.host_pss == CZONE_UNKNOWN);
	check(before.pid == 0);

	zone = new_zone(16 * MIB - 1, NULL);
	check_zone(zone, 16 * MIB);
	during = vm_stats();
	check(during.zones == before.zones + 1);
	check(during.pool_used == before.pool_used + 16 * MIB);

	works(czone_resize(zone, 48 * MIB, 0));
	check_zone(zone, 48 * MIB);
	works(czone_resize(zone, 32 * MIB, 0));
	check_zone(zone, 32 * MIB);

	works(czone_attach_cgroup(zone, PARENT "/a", 0, 0, NULL));
	check(stat(ROOT PARENT "/a", &directory) == 0);
	check(stats_of(zone).cgroup_id == directory.st_ino);

	user = start_user(ROOT PARENT "/a", 12 * MIB);
	check(stats_of(zone).used >= 12 * MIB);
	check_zone(zone, 32 * MIB);
	refused(czone_destroy(zone, 0, 0, &report), -EBUSY, "zone");
	check_zone(zone, 32 * MIB);
	end_user(user);

	check(stats_of(zone).free_backed + stats_of(zone).used >= 12 * MIB);
	works(czone_reclaim(zone, UINT64_MAX, NULL, &returned));
	check(returned >= 12 * MIB * 99 / 100);
	check(stats_of(zone).returned >= returned);

	user = start_user(ROOT PARENT "/a", 8 * MIB);
	works(czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, &report));
	check(report.migrated >= 8 * MIB * 9 / 10);
	check(kill(user, 0) == 0);
	end_user(user);
	refused(czone_resize(zone, 4 * MIB, 0), -ENOENT, "destroyed");
	refused(czone_lookup(vm, czone_id(zone), &none), -ENOENT, "no such zone");
	czone_unref(zone);

	during = vm_stats();
	check(during.zones == before.zones && during.pool_used == before.pool_used);
}

static void what_cannot_be(void)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	uint64_t used = vm_stats().pool_used;
	czone *zone, *other;

	opts.size = (uint64_t)1 << 50;
	refused(czone_create(vm, &opts, &zone), -ENOSPC, "pool");
	opts.size = 8 * MIB;
	opts.cgroup = PARENT "/nobody";
	refused(czone_create(vm, &opts, &zone), -ENOENT, PARENT "/nobody");
	opts.cgroup = "/plain/child";
	refused(czone_create(vm, &opts, &zone), -EOPNOTSUPP, "subtree_control");
	check(vm_stats().pool_used == used);

	zone = new_zone(8 * MIB, PARENT "/a");
	other = new_zone(8 * MIB, NULL);
	refused(czone_attach_cgroup(other, PARENT "/a", 0, 0, NULL), -EEXIST, "has a zone");
	refused(czone_attach_cgroup(zone, PARENT "/b", 0, 0, NULL), -EBUSY, "has another cgroup");
	works(czone_attach_cgroup(other, PARENT "/b", 0, 0, NULL));
	refused(czone_resize(zone, (uint64_t)1 << 50, 0), -ENOSPC, "pool");
	works(czone_destroy(zone, 0, 0, NULL));
	works(czone_destroy(other, 0, 0, NULL));
	czone_unref(zone);
	czone_unref(other);
}

/* In a process of its own. */
static void with_capability(bool permitted, void (*test)(void))
{
	const cap_value_t cap = CAP_SYS_ADMIN;
	pid_t pid = fork();
	int status;

	check(pid >= 0);
	if (pid == 0) {
		cap_t caps = cap_get_proc();

		if (!permitted)
			cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_CLEAR);
		cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_CLEAR);
		check(cap_set_proc(caps) == 0);
		cap_free(caps);
		test();
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void only_reads(void)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	uint32_t ids[64];
	czone *zone;
	int n;

	opts.size = 4 * MIB;
	refused(czone_create(vm, &opts, &zone), -EPERM, "CAP_SYS_ADMIN");
	n = czone_list(vm, ids, 64);
	check(n == 1);
	works(czone_lookup(vm, ids[0], &zone));
	check(stats_of(zone).size == 4 * MIB);
	refused(czone_destroy(zone, 0, 0, NULL), -EPERM, "CAP_SYS_ADMIN");
	refused(czone_reclaim(zone, MIB, NULL, NULL), -EPERM, "CAP_SYS_ADMIN");
	czone_unref(zone);
}

static void raises_what_it_may(void)
{
	czone *zone = new_zone(4 * MIB, NULL);
	cap_flag_value_t effective = CAP_SET;
	cap_t caps = cap_get_proc();

	cap_get_flag(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE, &effective);
	cap_free(caps);
	check(effective == CAP_CLEAR);
	works(czone_destroy(zone, 0, 0, NULL));
	czone_unref(zone);
}

static void privileges(void)
{
	czone *zone = new_zone(4 * MIB, NULL);

	with_capability(false, only_reads);
	with_capability(true, raises_what_it_may);
	works(czone_destroy(zone, 0, 0, NULL));
	czone_unref(zone);
}

/* What a command of the zone says on its output, or the error of starting it. */
static int said(czone *zone, const char *cgroup, const char *script, char *ret_text, size_t size)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	siginfo_t info = { 0 };
	int out[2], pidfd, r;
	ssize_t n;

	check(pipe2(out, O_CLOEXEC) == 0);
	opts.argv = argv;
	opts.cgroup = cgroup;
	opts.fds = (int []) { -1, out[1], 2 };
	opts.n_fds = 3;
	r = czone_spawn(zone, &opts, &pidfd, NULL);
	close(out[1]);
	if (r == 0) {
		n = read(out[0], ret_text, size - 1);
		check(n >= 0);
		ret_text[n] = 0;
		check(waitid(P_PIDFD, pidfd, &info, WEXITED) == 0);
		check(info.si_code == CLD_EXITED && info.si_status == 0);
		close(pidfd);
	}
	close(out[0]);
	return r;
}

static void born_in_a_zone(void)
{
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "sleep", "1000", NULL };
	czone *zone = new_zone(32 * MIB, NULL);
	struct czone_zone_stats stats;
	int64_t pid = 0;
	char text[256];
	int pidfd = -1;

	refused(said(zone, NULL, "true", text, sizeof(text)), -ENOENT, "has no cgroup");
	works(czone_attach_cgroup(zone, PARENT "/a", 0, 0, NULL));
	check(stats_of(zone).used == 0);
	works(said(zone, NULL, "cat /proc/self/cgroup", text, sizeof(text)));
	check(strstr(text, "0::" PARENT "/a\n"));
	stats = stats_of(zone);
	check(stats.used + stats.free_backed > 0 && stats.spilled == 0);

	make_cgroup(ROOT PARENT "/a/below");
	/* without the memory controller, which is its parent's to give, it is nobody's */
	refused(said(zone, PARENT "/a/below", "true", text, sizeof(text)), -EOPNOTSUPP, "memory");
	refused(said(zone, PARENT "/b", "true", text, sizeof(text)), -EINVAL, "not below");
	refused(said(zone, PARENT "/nobody", "true", text, sizeof(text)), -ENOENT, "nobody");
	write_text(ROOT PARENT "/a/cgroup.subtree_control", "+memory");
	works(said(zone, PARENT "/a/below", "cat /proc/self/cgroup", text, sizeof(text)));
	check(strstr(text, "0::" PARENT "/a/below\n"));
	refused(said(zone, NULL, "true", text, sizeof(text)), -EBUSY, "no tasks");
	check(rmdir(ROOT PARENT "/a/below") == 0);
	write_text(ROOT PARENT "/a/cgroup.subtree_control", "-memory");

	opts.argv = argv;
	works(czone_spawn(zone, &opts, &pidfd, &pid));
	refused(czone_destroy(zone, 0, 0, NULL), -EBUSY, "zone");
	check(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0);
	check(waitpid(pid, NULL, 0) == pid);
	close(pidfd);
	argv[0] = "/nonexistent";
	refused(czone_spawn(zone, &opts, &pidfd, &pid), -ENOENT, "/nonexistent");
	check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	works(czone_destroy(zone, 0, 0, NULL));
	refused(czone_spawn(zone, &opts, &pidfd, &pid), -ENOENT, "destroyed");
	czone_unref(zone);
}

static atomic_bool over;

static void *read_all_the_time(void *ret_reads)
{
	while (!over) {
		struct czone_vm_stats stats = CZONE_INIT(stats);
		uint32_t ids[64];

		works(czone_vm_stats(vm, &stats));
		works(czone_list(vm, ids, 64));
		++*(int *)ret_reads;
	}
	return NULL;
}

static void many_zones_and_threads(void)
{
	uint64_t used = vm_stats().pool_used;
	pthread_t reader;
	int reads = 0;

	check(pthread_create(&reader, NULL, read_all_the_time, &reads) == 0);
	for (int i = 0; i < 200; i++) {
		czone *zone = new_zone((1 + i % 4) * CZONE_BLOCK, PARENT "/a");
		pid_t user = i % 10 ? 0 : start_user(ROOT PARENT "/a", 3 * MIB);

		if (user)
			end_user(user);
		works(czone_reclaim(zone, UINT64_MAX, NULL, NULL));
		works(czone_destroy(zone, 0, 0, NULL));
		czone_unref(zone);
	}
	over = true;
	pthread_join(reader, NULL);
	check(reads > 0);
	check(vm_stats().pool_used == used);
	check(czone_list(vm, NULL, 0) == 0);
}

int main(void)
{
	make_cgroup(ROOT PARENT);
	write_text(ROOT PARENT "/cgroup.subtree_control", "+memory");
	make_cgroup(ROOT PARENT "/a");
	make_cgroup(ROOT PARENT "/b");
	make_cgroup(ROOT "/plain");
	make_cgroup(ROOT "/plain/child");

	works(czone_open("guest:///", &vm));
	refused(czone_vm_stop(vm), -EOPNOTSUPP, "cannot be stopped");
	life_of_a_zone();
	what_cannot_be();
	privileges();
	born_in_a_zone();
	many_zones_and_threads();
	czone_vm_unref(vm);

	check(rmdir(ROOT "/plain/child") == 0 && rmdir(ROOT "/plain") == 0);
	check(rmdir(ROOT PARENT "/a") == 0 && rmdir(ROOT PARENT "/b") == 0);
	check(rmdir(ROOT PARENT) == 0);
	puts("ok");
	return 0;
}
