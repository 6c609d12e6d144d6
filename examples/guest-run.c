/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Run a command in a zone of its own, inside a guest, and print what it used
 * and what came back. Use it to try zones without any container engine, or as
 * a start for your own launcher: czone_spawn() lets the command be born in its
 * cgroup, so that its first page is in the zone already.
 *
 *	guest-run [--size MIB] [--cgroup PARENT] [--spill] COMMAND [ARGUMENT...]
 *
 * The exit status is the command's, 128 + N when signal N ended it, 125 when
 * there was no zone to run it in, 126 or 127 when it could not be executed.
 */
#define _GNU_SOURCE
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILL_LIMIT_MS 5000
#define MIB(bytes) ((double)(bytes) / (1 << 20))

struct run {
	char parent[PATH_MAX];		/* directory of the parent cgroup */
	char directory[PATH_MAX];	/* of the command's cgroup, "" before it exists */
	char path[PATH_MAX];		/* the same from the root of the hierarchy */
	czone_vm *vm;
	czone *zone;
	sigset_t signals;		/* blocked here: what ends us, and SIGCHLD */
};

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("guest-run: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

static int write_file(const char *directory, const char *name, const char *text)
{
	int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = dir < 0 ? -1 : openat(dir, name, O_WRONLY | O_CLOEXEC);
	int r = fd >= 0 && write(fd, text, strlen(text)) >= 0 ? 0 : -errno;

	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	return r;
}

static int read_file(const char *directory, const char *name, char *text, size_t size)
{
	int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	int r = n < 0 ? -errno : 0;

	text[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	return r;
}

/* Make a cgroup below `parent`, a path from the root of the hierarchy. */
static int make_cgroup(struct run *run, const char *parent)
{
	char controllers[1024];
	struct mntent *mount = NULL;
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	int r;

	while (mounts && (mount = getmntent(mounts)) && strcmp(mount->mnt_type, "cgroup2"))
		;
	if (!mount) {
		say("cgroup v2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup");
		r = -ENOENT;
		goto out;
	}
	parent += strspn(parent, "/");
	r = snprintf(run->parent, sizeof(run->parent), "%s/%s", mount->mnt_dir, parent);
	if (r < (int)sizeof(run->parent))
		r = snprintf(run->path, sizeof(run->path), "/%s%sguest-run-%d", parent,
			     *parent ? "/" : "", getpid());
	if (r < (int)sizeof(run->path))
		r = snprintf(run->directory, sizeof(run->directory), "%s%s", mount->mnt_dir,
			     run->path);
	if (r >= (int)sizeof(run->directory)) {
		say("the path of the cgroup is too long");
		r = -ENAMETOOLONG;
		goto no_cgroup;
	}
	r = read_file(run->parent, "cgroup.subtree_control", controllers, sizeof(controllers));
	if (r < 0) {
		say("%s is no cgroup: %s", run->parent, strerror(-r));
		goto no_cgroup;
	}
	if (!strstr(controllers, "memory")) {
		r = write_file(run->parent, "cgroup.subtree_control", "+memory");
		if (r < 0) {
			say("%s/cgroup.subtree_control lacks the memory controller, and +memory cannot be written: %s",
			    run->parent, strerror(-r));
			goto no_cgroup;
		}
	}
	if (mkdir(run->directory, 0755) < 0) {
		r = -errno;
		say("mkdir %s: %s", run->directory, strerror(errno));
		goto no_cgroup;
	}
	r = 0;
out:
	if (mounts)
		endmntent(mounts);
	return r;
no_cgroup:
	run->directory[0] = 0;
	goto out;
}

/* Start the command inside its cgroup. The pid, or -errno. */
static pid_t start(const struct run *run, char **argv)
{
	struct czone_spawn_opts spawn = CZONE_INIT(spawn);
	int64_t pid;
	int r;

	spawn.argv = (const char *const *)argv;
	r = czone_spawn(run->zone, &spawn, NULL, &pid);
	if (r < 0)
		say("%s", czone_error_detail());
	return r < 0 ? r : pid;
}

/* Wait for the command; pass on what would end us, and insist a little later. */
static int wait_for(struct run *run, pid_t pid)
{
	const struct timespec limit = { .tv_sec = KILL_LIMIT_MS / 1000 };
	bool asked = false;
	int status, signal;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		signal = sigtimedwait(&run->signals, NULL, asked ? &limit : NULL);
		if (signal == SIGCHLD || (signal < 0 && errno != EAGAIN))
			continue;
		if (asked)
			write_file(run->directory, "cgroup.kill", "1");
		else
			kill(pid, signal);
		asked = true;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* End whatever the command left behind, and wait until it has gone. */
static void empty_cgroup(const struct run *run)
{
	char events[256];

	for (int waited = 0; waited < KILL_LIMIT_MS; waited += 10) {
		if (read_file(run->directory, "cgroup.events", events, sizeof(events)) < 0 ||
		    strstr(events, "populated 0"))
			return;
		write_file(run->directory, "cgroup.kill", "1");
		poll(NULL, 0, 10);
	}
	say("processes in %s did not end within %d ms", run->directory, KILL_LIMIT_MS);
}

static void print_usage_of_zone(const struct run *run, int status, double seconds)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	char peak[32];

	say("exit status %d after %.2f s", status, seconds);
	if (czone_stats(run->zone, &stats) < 0) {
		say("statistics: %s", czone_error_detail());
		return;
	}
	say("%.1f MiB of the zone were touched, %.1f MiB of them file cache; %.1f MiB spilled",
	    MIB(stats.used + stats.free_backed), MIB(stats.file), MIB(stats.spilled));
	if (read_file(run->directory, "memory.peak", peak, sizeof(peak)) == 0)
		say("%.1f MiB at most in use at once, memory of the kernel included",
		    MIB(strtoull(peak, NULL, 10)));
}

/* Take down what there is, in any state. */
static int clean_up(struct run *run)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	int r = 0;

	if (run->directory[0])
		empty_cgroup(run);
	if (run->zone) {
		r = czone_destroy(run->zone, 0, 0, &report);
		if (r < 0)
			say("zone %u stays: %s", czone_id(run->zone), czone_error_detail());
		else
			say("%.1f MiB came back to the host", MIB(report.returned));
	}
	if (run->directory[0] && rmdir(run->directory) < 0) {
		r = -errno;
		say("rmdir %s: %s", run->directory, strerror(errno));
	}
	czone_unref(run->zone);
	czone_vm_unref(run->vm);
	return r;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static _Noreturn void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: guest-run [--size MIB] [--cgroup PARENT] [--spill] COMMAND [ARGUMENT...]\n"
		"  --size MIB       size of the zone (64)\n"
		"  --cgroup PARENT  where to make the cgroup, from the root of cgroup v2 (/)\n"
		"  --spill          let the command use other memory when the zone is full\n");
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "cgroup", required_argument, NULL, 'c' },
		{ "spill", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct czone_create_opts create = CZONE_INIT(create);
	struct run run = { 0 };
	const char *parent = "/";
	int option, status = 125;
	double started;
	char *end;
	pid_t pid;

	create.size = (uint64_t)64 << 20;
	while ((option = getopt_long(argc, argv, "+s:c:ph", options, NULL)) != -1) {
		switch (option) {
		case 's':
			create.size = strtoull(optarg, &end, 10) << 20;
			if (*end || !create.size)
				usage(125);
			break;
		case 'c':
			parent = optarg;
			break;
		case 'p':
			create.flags |= CZONE_CREATE_SPILL_ZONE;
			break;
		case 'h':
			usage(0);
		default:
			usage(125);
		}
	}
	if (optind == argc)
		usage(125);

	/* from here on we leave only through clean_up() */
	sigemptyset(&run.signals);
	sigaddset(&run.signals, SIGINT);
	sigaddset(&run.signals, SIGTERM);
	sigaddset(&run.signals, SIGHUP);
	sigaddset(&run.signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &run.signals, NULL);

	if (czone_open(NULL, &run.vm) < 0) {
		say("%s", czone_error_detail());
		return 125;
	}
	if (make_cgroup(&run, parent) == 0) {
		create.cgroup = run.path;
		if (czone_create(run.vm, &create, &run.zone) < 0) {
			say("%s", czone_error_detail());
		} else {
			say("zone %u of %.0f MiB for %s", czone_id(run.zone), MIB(create.size), run.path);
			started = now();
			pid = start(&run, argv + optind);
			if (pid > 0) {
				status = wait_for(&run, pid);
				empty_cgroup(&run);
				print_usage_of_zone(&run, status, now() - started);
			} else {
				status = pid == -ENOENT ? 127 : 126;
			}
		}
	}
	if (clean_up(&run) < 0 && status == 0)
		status = 125;
	return status;
}
