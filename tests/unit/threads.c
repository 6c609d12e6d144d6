/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that share a VM, its zones and the log. No Criterion here: it cannot
 * run under the thread sanitizer, for which this is meant.
 */
#include "fake.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define THREADS 4

static struct fake fake;
static czone_vm *vm;
static int rounds;
static czone *shared;

static int failed(const char *what, int r)
{
	fprintf(stderr, "%s: %d (%s)\n", what, r, czone_error_detail());
	return 1;
}

static void count(enum czone_log_level level, const char *message, void *userdata)
{
	(void)level;
	(void)message;
	++*(atomic_int *)userdata;
}

static int one_round(int i)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct czone_zone_stats stats = CZONE_INIT(stats);
	uint32_t ids[FAKE_ZONES];
	czone *mine = NULL, *other = NULL;
	int n, r, failures = 0;

	opts.size = 1 << 20;
	r = czone_create(vm, &opts, &mine);
	if (r < 0)
		return failed("create", r);
	n = czone_list(vm, ids, FAKE_ZONES);
	if (n > 0 && czone_lookup(vm, ids[i % n], &other) == 0) {
		r = czone_stats(other, &stats);
		if (r < 0 && r != -ENOENT)
			failures += failed("stats of another's zone", r);
		czone_unref(other);
	}
	r = czone_stats(shared, &stats);
	if (r < 0)
		failures += failed("stats of the shared zone", r);
	czone_ref(shared);
	czone_unref(shared);
	czone_log(CZONE_LOG_DEBUG, "round %d", i);
	r = czone_destroy(mine, 0, 0, NULL);
	if (r < 0)
		failures += failed("destroy", r);
	czone_unref(mine);
	return failures;
}

static void *come_and_go(void *ret_failures)
{
	for (int i = 0; i < rounds; i++)
		*(int *)ret_failures += one_round(i);
	return NULL;
}

static void ended(int result, void *userdata)
{
	atomic_int *count = userdata;

	if (result == 0 || result == -ECANCELED)
		count[result == -ECANCELED]++;
	else
		failed("an operation", result);
}

static void *dispatch(void *stop)
{
	while (!*(atomic_bool *)stop)
		czone_dispatch(vm, 10);
	return NULL;
}

/* Operations that are started, cancelled and told in different threads. */
static int operations(void)
{
	struct czone_zone_stats stats[8];
	atomic_int count[2] = { 0 };
	atomic_bool stop = false;
	czone_op *op[8];
	pthread_t thread;
	int n = 0, r;

	if (czone_dispatch_in_thread(vm, 1) || pthread_create(&thread, NULL, dispatch, &stop))
		return failed("threads for operations", -1);
	for (int i = 0; i < 500; i++) {
		for (int k = 0; k < 8; k++, n++) {
			stats[k] = (struct czone_zone_stats)CZONE_INIT(stats[k]);
			r = czone_stats_async(shared, &stats[k], ended, count, &op[k]);
			if (r < 0)
				return failed("stats_async", r);
			if (k % 4 == 3)
				czone_op_cancel(op[k]);
		}
		for (int k = 0; k < 8; k++)
			czone_op_unref(op[k]);
		while (count[0] + count[1] < n)
			sched_yield();
	}
	stop = true;
	pthread_join(thread, NULL);
	r = czone_dispatch_in_thread(vm, 0);
	return r < 0 ? failed("end of dispatching", r) : 0;
}

/* On `vm`, which it gives up. Returns how much was wrong. */
static int run(void)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	pthread_t threads[THREADS];
	int failures[THREADS] = { 0 }, sum = 0, r;
	atomic_int logged[2] = { 0 };

	opts.size = 1 << 20;
	r = czone_create(vm, &opts, &shared);
	if (r < 0)
		return failed("create", r);
	czone_set_log(count, &logged[0]);
	for (int i = 0; i < THREADS; i++) {
		r = pthread_create(&threads[i], NULL, come_and_go, &failures[i]);
		if (r)
			return failed("pthread_create", -r);
	}
	for (int i = 0; i < 100; i++)
		czone_set_log(count, &logged[i % 2]);
	sum += operations();
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += failures[i];
	}
	if (logged[0] + logged[1] != THREADS * rounds)
		sum += failed("messages are missing", logged[0] + logged[1]);
	r = czone_list(vm, NULL, 0);
	if (r != 1)
		sum += failed("zones are left", r);
	czone_unref(shared);
	czone_set_log(NULL, NULL);
	czone_vm_unref(vm);
	return sum;
}

int main(void)
{
	int r, sum;

	rounds = 2000;
	vm = fake_vm(&fake, &fake_driver);
	sum = run();
	if (!fake.closed)
		sum += failed("the VM was not closed", 0);
	rounds = 100;
	r = czone_open("test:///default", &vm);
	sum += r < 0 ? failed("open", r) : run();
	return sum ? 1 : 0;
}
