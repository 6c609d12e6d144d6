/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A policy loop on top of the library: takes from the zone of a container what
 * it can do without, and feels its way by what that costs it. Run it in a
 * guest, as an agent or part of one, where zones shall shrink to what their
 * containers work with and not only to what they have not freed; a policy of
 * your own has the same signs to go by.
 *
 *	idle-policy [--interval SECONDS] [--rounds N] CGROUP
 *
 * The signs are the cgroup's memory.pressure (some task waited for memory; where
 * the kernel has CONFIG_PSI) and workingset_refault in its memory.stat (a page
 * that was dropped is wanted again). policy.c decides.
 */
#define _GNU_SOURCE
#include "policy.h"
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define MIB(bytes) ((double)(bytes) / (1 << 20))

/* Counters as the kernel has them, growing. */
struct counters {
	uint64_t stalled_us;
	uint64_t refaults;
};

static bool have_pressure = true;

static int read_text(const char *cgroup, const char *name, char *ret_text, size_t size)
{
	char path[512];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), ROOT "%s/%s", cgroup, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, ret_text, size - 1);
		close(fd);
	}
	ret_text[n < 0 ? 0 : n] = 0;
	return n < 0 ? -errno : 0;
}

/* The number after a name in a text of "name number" lines or "name=number" words. */
static uint64_t number_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static int read_counters(const char *cgroup, struct counters *ret)
{
	char text[8192];
	int r;

	r = read_text(cgroup, "memory.stat", text, sizeof(text));
	if (r < 0)
		return r;
	ret->refaults = number_after(text, "workingset_refault_file ") +
			number_after(text, "workingset_refault_anon ");
	ret->stalled_us = 0;
	if (have_pressure && read_text(cgroup, "memory.pressure", text, sizeof(text)) < 0) {
		fprintf(stderr, "idle-policy: no memory.pressure here (CONFIG_PSI): refaults alone decide\n");
		have_pressure = false;
	}
	if (have_pressure)
		ret->stalled_us = number_after(text, "total=");
	return 0;
}

/* The zone that a cgroup has. */
static int find_zone(czone_vm *vm, const char *cgroup, czone **ret_zone)
{
	uint32_t ids[1024];
	char path[512];
	struct stat st;
	int n, r;

	snprintf(path, sizeof(path), ROOT "%s", cgroup);
	if (stat(path, &st) < 0)
		return -errno;
	n = czone_list(vm, ids, 1024);
	for (int i = 0; i < n && i < 1024; i++) {
		struct czone_zone_stats stats = CZONE_INIT(stats);
		czone *zone;

		r = czone_lookup(vm, ids[i], &zone);
		if (r < 0)
			continue;
		if (czone_stats(zone, &stats) == 0 && stats.cgroup_id == st.st_ino) {
			*ret_zone = zone;
			return 0;
		}
		czone_unref(zone);
	}
	return n < 0 ? n : -ENOENT;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* One look and what follows from it. */
static int look(czone *zone, const char *cgroup, struct policy *policy, struct counters *last, double seconds)
{
	struct czone_reclaim_opts opts = CZONE_INIT(opts);
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct counters counters;
	struct decision decision;
	struct sample sample;
	uint64_t returned = 0;
	int r;

	r = czone_stats(zone, &stats);
	if (r == 0)
		r = read_counters(cgroup, &counters);
	if (r < 0)
		return r;
	sample = (struct sample) {
		.stalled = (counters.stalled_us - last->stalled_us) / 1e6 / seconds,
		.refaults = (counters.refaults - last->refaults) / seconds,
		.free_backed = stats.free_backed,
		.file = stats.file,
	};
	*last = counters;
	decision = policy_decide(policy, &sample);
	if (decision.bytes) {
		opts.flags = decision.with_cache ? CZONE_RECLAIM_WITH_CACHE : 0;
		r = czone_reclaim(zone, decision.bytes, &opts, &returned);
		if (r < 0 && r != -EBUSY && r != -ETIMEDOUT)
			return r;
	}
	printf("%-12s stalled %5.2f %%, %7.0f refaults/s, used %6.1f MiB, cache %6.1f; took %6.1f of %6.1f\n",
	       decision.why, sample.stalled * 100, sample.refaults, MIB(stats.used), MIB(stats.file),
	       MIB(returned), MIB(decision.bytes));
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "rounds", required_argument, NULL, 'r' },
		{ 0 },
	};
	unsigned long rounds = 0;
	double interval = 5, last_look;
	struct counters counters;
	struct policy policy;
	struct timespec pause;
	const char *cgroup;
	czone *zone;
	czone_vm *vm;
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'i': interval = strtod(optarg, NULL); break;
		case 'r': rounds = strtoul(optarg, NULL, 10); break;
		default: interval = 0; break;
		}
	}
	if (argc - optind != 1 || !(interval > 0) || argv[optind][0] != '/') {
		fprintf(stderr, "usage: idle-policy [--interval SECONDS] [--rounds N] CGROUP\n");
		return 2;
	}
	cgroup = argv[optind];
	r = czone_open(NULL, &vm);
	if (r < 0) {
		fprintf(stderr, "idle-policy: %s\n", czone_error_detail());
		return 1;
	}
	r = find_zone(vm, cgroup, &zone);
	if (r < 0) {
		fprintf(stderr, "idle-policy: %s has no zone: %s\n", cgroup, strerror(-r));
		czone_vm_unref(vm);
		return 1;
	}
	policy_start(&policy);
	r = read_counters(cgroup, &counters);
	last_look = now();
	pause.tv_sec = (time_t)interval;
	pause.tv_nsec = (interval - (double)pause.tv_sec) * 1e9;
	for (unsigned long i = 0; r == 0 && (!rounds || i < rounds); i++) {
		double then = last_look;

		nanosleep(&pause, NULL);
		last_look = now();
		r = look(zone, cgroup, &policy, &counters, last_look - then);
	}
	/* the zone, or its cgroup, may have gone: that is the end of the job, and no failure */
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		fprintf(stderr, "idle-policy: %s (%s)\n", czone_strerror(r), czone_error_detail());
	czone_unref(zone);
	czone_vm_unref(vm);
	return r < 0 && r != -ENOENT && r != -ENODEV;
}
