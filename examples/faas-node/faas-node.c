/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory side of a serverless worker: one VM, warm containers in zones, idle
 * ones reclaimed, containers added and retired by load. Read it before you embed
 * the library in a node agent of your own; the four decisions in tick() are what
 * a platform would make differently, the calls around them stay.
 *
 *	faas-node [--top] --state-dir DIR --kernel IMAGE --initrd FILE --rootfs FILE [LOAD...]
 *
 * --top prints the zones after each tick. LOAD is how many requests come at once, for
 * each tick: "1 4 6 2 0 0 0". The guest is that of examples/microvm, its `container` and
 * `workload`: a request checks every byte that its container has, so that lost memory
 * would be an answer that is wrong.
 * The exit status is 0 when each request was served and all host memory came back.
 */
#include "../czone-top/top.h"
#include "../demo/guest.h"
#include <czone.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB(bytes) ((double)(bytes) / (1 << 20))
#define CONTAINERS 16
#define ZONE_BYTES ((uint64_t)48 << 20)
#define WORKLOAD "anon=24 free=60 chunk=64"
#define STEP_MS 120000		/* limit of anything in the guest */
#define RECLAIM_AFTER 1		/* ticks without a request until a container gives back what it has free */
#define RETIRE_AFTER 3		/* and until it is not kept warm any more */

struct container {
	czone *zone;		/* NULL: this place is free */
	int pid;
	unsigned int idle;	/* ticks since its last request */
	unsigned int requests;
};

static struct node {
	czone_vm *vm;
	int guest;
	struct container container[CONTAINERS];
	unsigned int cold, warm, failed;
	bool top;
	uint64_t reclaimed;
} node;

static int failed(const char *what, int r)
{
	fprintf(stderr, "faas-node: %s: %s (%s)\n", what, czone_strerror(r), czone_error_detail());
	return r;
}

static int succeeded(char *answer)
{
	int r = answer ? 0 : -EIO;

	free(answer);
	return r;
}

/* A line in the guest of which only the success matters. */
#define in_guest(...) succeeded(guest_run(node.guest, STEP_MS, __VA_ARGS__))

/* Wait until a container's log has `count` lines that begin with `word`. */
static int wait_for(unsigned int n, const char *word, unsigned int count)
{
	return in_guest("i=0; while [ $(grep -c '^%s' /run/c/f%u.log) -lt %u ]; do i=$((i+1)); "
			"[ $i -lt 1000 ] || exit 1; sleep 0.05; done; ! grep CORRUPT /run/c/f%u.log",
			word, n, count, n);
}

/* A cold start: the zone first, so that the first page is in it. */
static int add(unsigned int n)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct container *c = &node.container[n];
	char cgroup[32], *pid;
	int r = in_guest("container create f%u", n);

	if (r < 0)
		return r;
	snprintf(cgroup, sizeof(cgroup), "/c/f%u", n);
	opts.size = ZONE_BYTES;
	opts.cgroup = cgroup;
	r = czone_create(node.vm, &opts, &c->zone);
	if (r < 0) {
		failed("create", r);
		in_guest("container remove f%u", n);
		return r;
	}
	c->idle = c->requests = 0;
	pid = guest_run(node.guest, STEP_MS, "container start f%u workload " WORKLOAD " seed=%u", n, n + 1);
	c->pid = pid ? atoi(pid) : 0;
	free(pid);
	return c->pid > 0 ? wait_for(n, "ready", 1) : -EIO;
}

static int retire(unsigned int n)
{
	struct container *c = &node.container[n];
	int r = in_guest("container stop f%u", n), end;

	end = czone_destroy(c->zone, 0, 0, NULL);
	if (end < 0)
		r = failed("destroy", end);
	c->zone = czone_unref(c->zone);
	end = in_guest("container remove f%u", n);
	return r < 0 ? r : end;
}

/* One request: the container checks its memory, then is idle and frees what it can. */
static int serve(unsigned int n)
{
	struct container *c = &node.container[n];

	c->idle = 0;
	c->requests++;
	if (in_guest("kill -USR2 %d", c->pid) < 0 || wait_for(n, "verified", c->requests) < 0)
		return -EIO;
	return in_guest("kill -USR1 %d", c->pid) < 0 ? -EIO : wait_for(n, "idle", c->requests);
}

/* Give back what an idle container has free. */
static void reclaim(struct container *c)
{
	uint64_t returned = 0;
	int r = czone_reclaim(c->zone, UINT64_MAX, NULL, &returned);

	if (r < 0 && r != -EBUSY)
		failed("reclaim", r);
	node.reclaimed += returned;
}

/* Where a request goes: the warm container that was used last, or a place for a new one. */
static int choose(void)
{
	int best = -1, place = -1;

	for (int n = 0; n < CONTAINERS; n++) {
		const struct container *c = &node.container[n];

		if (!c->zone)
			place = place < 0 ? n : place;
		else if (c->idle && (best < 0 || c->idle < node.container[best].idle))
			best = n;
	}
	return best >= 0 ? best : place;
}

static void tick(unsigned int load)
{
	for (int n = 0; n < CONTAINERS; n++)
		node.container[n].idle++;
	for (unsigned int i = 0; i < load; i++) {
		int n = choose();
		bool cold = n >= 0 && !node.container[n].zone;

		if (n < 0 || (cold && add(n) < 0) || serve(n) < 0) {
			node.failed++;
			continue;
		}
		node.cold += cold;
		node.warm += !cold;
	}
	for (int n = 0; n < CONTAINERS; n++) {
		struct container *c = &node.container[n];

		if (c->zone && c->idle == RECLAIM_AFTER)
			reclaim(c);
		else if (c->zone && c->idle >= RETIRE_AFTER && retire(n) < 0)
			node.failed++;
	}
}

static uint64_t host_pool(void)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);
	int r = czone_vm_stats(node.vm, &stats);

	return r < 0 ? (failed("statistics", r), UINT64_MAX) : stats.host_pool;
}

static unsigned int containers(void)
{
	unsigned int count = 0;

	for (int n = 0; n < CONTAINERS; n++)
		count += node.container[n].zone != NULL;
	return count;
}

static int run(char **loads, int n_loads)
{
	uint64_t before = host_pool(), after, peak = 0;
	struct timespec pause = { .tv_nsec = 100000000 };

	printf("%4s %5s %11s %10s %12s\n", "tick", "load", "containers", "host MiB", "reclaimed");
	for (int i = 0; i < n_loads; i++) {
		tick(strtoul(loads[i], NULL, 10));
		after = host_pool();
		peak = after > peak ? after : peak;
		printf("%4d %5s %11u %10.1f %12.1f\n", i, loads[i], containers(), MIB(after), MIB(node.reclaimed));
		if (node.top)
			top_print(stdout, &node.vm, &(const char *){ "the node's VM" }, 1, NULL);
		fflush(stdout);
	}
	for (int n = 0; n < CONTAINERS; n++) {
		if (node.container[n].zone && retire(n) < 0)
			node.failed++;
	}
	/* the memory map of emptied zones follows a second later */
	for (int i = 0; i < 100 && (after = host_pool()) > before; i++)
		nanosleep(&pause, NULL);
	printf("requests: %u in warm containers, %u in cold ones, %u failed; host memory of the pool: "
	       "%.1f MiB before, %.1f at most, %.1f after\n", node.warm, node.cold, node.failed, MIB(before),
	       MIB(peak), MIB(after));
	return node.failed || after > before;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "state-dir", required_argument, NULL, 's' },
		{ "kernel", required_argument, NULL, 'k' },
		{ "initrd", required_argument, NULL, 'i' },
		{ "rootfs", required_argument, NULL, 'r' },
		{ "top", no_argument, NULL, 't' },
		{ 0 },
	};
	static char *usual[] = { "1", "4", "6", "2", "0", "3", "0", "0", "0", "0" };
	struct czone_vm_opts vm = CZONE_INIT(vm);
	char channel[256], disk[512];
	const char *disks[] = { disk, NULL };
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 't': node.top = true; break;
		case 's': vm.state_dir = optarg; break;
		case 'k': vm.kernel = optarg; break;
		case 'i': vm.initrd = optarg; break;
		case 'r': snprintf(disk, sizeof(disk), "ro:%s", optarg); vm.disks = disks; break;
		default: vm.state_dir = NULL; optind = argc; break;
		}
	}
	if (!vm.state_dir || !vm.kernel || !vm.initrd || !vm.disks) {
		fprintf(stderr, "usage: faas-node [--top] --state-dir DIR --kernel IMAGE --initrd FILE --rootfs FILE [LOAD...]\n");
		return 2;
	}
	snprintf(channel, sizeof(channel), "%s/exec", vm.state_dir);
	vm.channel = channel;
	vm.vcpus = 2;
	r = czone_vm_start(&vm, &node.vm);
	if (r < 0) {
		failed("start", r);
		return 1;
	}
	node.guest = guest_connect(channel, STEP_MS);
	if (node.guest < 0)
		r = -EIO;
	else
		r = optind < argc ? run(argv + optind, argc - optind) :
		    run(usual, sizeof(usual) / sizeof(*usual));
	if (node.guest >= 0)
		close(node.guest);
	czone_vm_unref(node.vm);
	return r != 0;
}
