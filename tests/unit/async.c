/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptor and dispatch, operations, events, targets: on a test VM, and on one that can hang. */
#include "driver.h"
#include "handle.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define LIMIT_MS 20000

static czone_vm *vm;

static void open_vm(void)
{
	cr_assert_eq(czone_open("test:///default", &vm), 0, "%s", czone_error_detail());
}

static void close_vm(void)
{
	vm = czone_vm_unref(vm);
}

/* What a callback has got. */
struct outcome {
	int calls, result;
	char detail[200];
	pthread_t thread;
};

static void note(int result, void *userdata)
{
	struct outcome *o = userdata;

	o->calls++;
	o->result = result;
	o->thread = pthread_self();
	snprintf(o->detail, sizeof(o->detail), "%s", czone_error_detail());
}

static int dispatched(struct outcome *o)
{
	while (!o->calls)
		cr_assert_gt(czone_dispatch(vm, LIMIT_MS), 0);
	return o->result;
}

#define DONE(o) (memset(&(o), 0, sizeof(o)), note), &(o), NULL

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1 && p.revents & POLLIN;
}

Test(async, every_call_on_a_test_vm, .init = open_vm, .fini = close_vm)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct czone_attach_report attached = CZONE_INIT(attached);
	struct czone_destroy_report destroyed = CZONE_INIT(destroyed);
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_vm_stats vm_stats = CZONE_INIT(vm_stats);
	struct czone_audit_report audit = CZONE_INIT(audit);
	struct czone_audit_opts audit_opts = { .struct_size = sizeof(audit_opts), .flags = 4 };
	struct czone_range ranges[4] = { { 0 } };
	uint32_t ids[4] = { 0 };
	uint64_t returned = 1, actual = 1;
	czone *zone = NULL, *same = NULL;
	czone_test_task *task;
	struct outcome o;

	cr_assert_eq(czone_vm_wait_async(vm, 0, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	opts.size = 8 * MIB;
	cr_assert_eq(czone_create_async(vm, &opts, &zone, DONE(o)), 0);
	cr_assert_null(zone, "filled before the callback");
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_not_null(zone);
	cr_assert_eq(czone_attach_cgroup_async(zone, "/a", 0, 0, &attached, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0, "%s", o.detail);
	cr_assert_eq(czone_resize_async(zone, 16 * MIB, 0, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(czone_pool_grow_async(vm, 128 * MIB, 0, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(czone_pool_grow_async(vm, MIB, 0, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), -EINVAL);
	cr_assert_eq(czone_test_start(vm, "/a", &task), 0);
	cr_assert_eq(czone_test_fill(task, 0, 8 * MIB, 1), 0);
	cr_assert_eq(czone_test_discard(task, 0, 4 * MIB), 0);
	cr_assert_eq(czone_reclaim_async(zone, 1 * MIB, NULL, &returned, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(returned, 1 * MIB);
	cr_assert_eq(czone_vm_reclaim_async(vm, UINT64_MAX, NULL, &returned, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(returned, 3 * MIB);
	cr_assert_eq(czone_set_target_async(vm, 4 * MIB, NULL, &actual, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0, "%s", o.detail);
	cr_assert_eq(actual, 4 * MIB);
	cr_assert_eq(czone_audit_async(vm, NULL, &audit, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0, "%s", o.detail);
	cr_assert_eq(audit.zones, 1);
	cr_assert_eq(audit.held, 16 * MIB);
	cr_assert_eq(audit.stray, 0);
	cr_assert_eq(czone_audit_async(vm, &audit_opts, NULL, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), -EINVAL);
	cr_assert_eq(czone_stats_async(zone, &stats, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(stats.used, 4 * MIB);
	cr_assert_eq(czone_vm_stats_async(vm, &vm_stats, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(vm_stats.target, 4 * MIB);
	cr_assert_eq(vm_stats.actual, 4 * MIB);
	cr_assert_eq(czone_ranges_async(zone, ranges, 4, DONE(o)), 0);
	cr_assert_gt(dispatched(&o), 0);
	cr_assert_gt(ranges[0].size, 0);
	cr_assert_eq(czone_list_async(vm, ids, 4, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 1);
	cr_assert_eq(ids[0], czone_id(zone));
	cr_assert_eq(czone_lookup_async(vm, ids[0], &same, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(same, zone);
	/* what this side cannot do */
	cr_assert_eq(czone_set_idle_return_async(zone, NULL, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), -EOPNOTSUPP);
	cr_assert(strstr(o.detail, "test"), "%s", o.detail);
	czone_test_exit(task);
	cr_assert_eq(czone_destroy_async(zone, 0, 0, &destroyed, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), 0);
	cr_assert_eq(destroyed.returned, 4 * MIB);
	czone_unref(same);
	czone_unref(zone);
}

Test(async, bad_arguments_never_start, .init = open_vm, .fini = close_vm)
{
	struct czone_zone_stats unset = { 0 };
	struct czone_create_opts opts = { 0 };
	struct czone_reclaim_opts bad = { 0 };
	struct czone_target_opts bad_target = { 0 };
	struct czone_idle_opts bad_idle = { 0 };
	struct czone_attach_report attached = { 0 };
	struct czone_destroy_report destroyed = { 0 };
	struct czone_vm_stats vm_unset = { 0 };
	struct czone_audit_opts bad_audit = { 0 };
	struct czone_audit_report audit = { 0 };
	czone *zone = NULL;
	uint64_t bytes;

	opts = (struct czone_create_opts)CZONE_INIT(opts);
	opts.size = MIB;
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	cr_assert_eq(czone_vm_wait_async(NULL, 0, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_create_async(NULL, &opts, &zone, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_create_async(vm, &opts, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_create_async(vm, NULL, &zone, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_attach_cgroup_async(NULL, "/a", 0, 0, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_attach_cgroup_async(zone, "a", 0, 0, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_attach_cgroup_async(zone, "/a", 0, 0, &attached, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_resize_async(NULL, 1, 0, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_pool_grow_async(NULL, 128 * MIB, 0, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_reclaim_async(NULL, 1, NULL, &bytes, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_reclaim_async(zone, 1, &bad, &bytes, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_vm_reclaim_async(NULL, 1, NULL, &bytes, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_set_target_async(NULL, 1, NULL, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_set_target_async(vm, 1, &bad_target, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_audit_async(NULL, NULL, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_audit_async(vm, &bad_audit, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_audit_async(vm, NULL, &audit, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_set_idle_return_async(NULL, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_set_idle_return_async(zone, &bad_idle, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_destroy_async(NULL, 0, 0, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_destroy_async(zone, 0, 0, &destroyed, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_stats_async(NULL, &unset, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_stats_async(zone, &unset, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_vm_stats_async(NULL, &vm_unset, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_vm_stats_async(vm, &vm_unset, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_ranges_async(NULL, NULL, 0, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_ranges_async(zone, NULL, 1, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_list_async(NULL, NULL, 0, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_lookup_async(NULL, 1, &zone, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_lookup_async(vm, 1, NULL, note, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_op_cancel(NULL), -EINVAL);
	cr_assert_eq(czone_fd(NULL), -EINVAL);
	cr_assert_eq(czone_dispatch(NULL, 0), -EINVAL);
	cr_assert_eq(czone_dispatch_in_thread(NULL, 1), -EINVAL);
	cr_assert_eq(czone_set_event_fn(NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_vm_wait(NULL, 0), -EINVAL);
	cr_assert_null(czone_op_unref(NULL));
	cr_assert_eq(czone_dispatch(vm, 0), 0, "something was started");
	czone_unref(zone);
}

Test(async, a_failure_has_its_text_and_touches_no_output, .init = open_vm, .fini = close_vm)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone = (czone *)&opts;
	struct outcome o;

	opts.size = (uint64_t)1 << 40;
	cr_assert_eq(czone_create_async(vm, &opts, &zone, DONE(o)), 0);
	cr_assert_eq(dispatched(&o), -ENOSPC);
	cr_assert(strstr(o.detail, "pool"), "%s", o.detail);
	cr_assert_eq(zone, (czone *)&opts);
}

Test(async, the_descriptor_tells_when_to_dispatch, .init = open_vm, .fini = close_vm)
{
	int fd = czone_fd(vm);
	struct outcome o, p;

	cr_assert_geq(fd, 0);
	cr_assert_eq(czone_fd(vm), fd);
	cr_assert_not(readable(fd, 0));
	cr_assert_eq(czone_vm_wait_async(vm, 0, DONE(o)), 0);
	cr_assert(readable(fd, LIMIT_MS));
	cr_assert_eq(o.calls, 0, "called back outside of czone_dispatch()");
	cr_assert_eq(czone_dispatch(vm, 0), 1);
	cr_assert_eq(o.calls, 1);
	cr_assert_not(readable(fd, 0));
	cr_assert_eq(czone_dispatch(vm, 1), 0);
	/* asked for after something has happened it is readable at once */
	cr_assert_eq(czone_vm_wait_async(vm, 0, DONE(p)), 0);
	cr_assert(readable(fd, LIMIT_MS));
	cr_assert_eq(dispatched(&p), 0);
	/* nobody to call is fine */
	cr_assert_eq(czone_vm_wait_async(vm, 0, NULL, NULL, NULL), 0);
	cr_assert_eq(czone_dispatch(vm, LIMIT_MS), 1);
}

static void start_another(int result, void *userdata)
{
	int *left = userdata;

	cr_assert_eq(result, 0);
	if (--*left)
		cr_assert_eq(czone_vm_wait_async(vm, 0, start_another, userdata, NULL), 0);
}

Test(async, callbacks_may_start_more, .init = open_vm, .fini = close_vm)
{
	int left = 100;

	cr_assert_eq(czone_vm_wait_async(vm, 0, start_another, &left, NULL), 0);
	while (left)
		cr_assert_gt(czone_dispatch(vm, LIMIT_MS), 0);
}

static void give_up(int result, void *userdata)
{
	(void)result;
	*(bool *)userdata = true;
	vm = czone_vm_unref(vm);
}

Test(async, the_last_reference_may_go_in_a_callback, .init = open_vm)
{
	czone_vm *mine = vm;
	bool told = false;

	cr_assert_eq(czone_vm_wait_async(vm, 0, give_up, &told, NULL), 0);
	cr_assert_eq(czone_dispatch(mine, LIMIT_MS), 1);
	cr_assert(told);
}

/* ------------------------------------------------------ the library's thread */

static void note_event(czone_vm *of, const struct czone_event *event, void *userdata)
{
	struct outcome *o = userdata;

	cr_assert_eq(of, vm);
	cr_assert_eq(event->struct_size, sizeof(*event));
	o->thread = pthread_self();
	o->result = event->kind;
	__atomic_add_fetch(&o->calls, 1, __ATOMIC_RELEASE);
}

static void await(struct outcome *o, int calls)
{
	for (int i = 0; i < LIMIT_MS && __atomic_load_n(&o->calls, __ATOMIC_ACQUIRE) < calls; i++)
		usleep(1000);
	cr_assert_geq(o->calls, calls);
}

Test(async, a_thread_of_the_library_may_dispatch, .init = open_vm, .fini = close_vm)
{
	struct outcome o = { 0 };
	uint64_t returned;

	cr_assert_eq(czone_set_event_fn(vm, note_event, &o), 0);
	cr_assert_eq(czone_dispatch_in_thread(vm, 1), 0);
	cr_assert_eq(czone_dispatch_in_thread(vm, 1), 0);
	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	await(&o, 1);
	cr_assert_eq(o.result, CZONE_EVENT_RECLAIMED);
	cr_assert_not(pthread_equal(o.thread, pthread_self()));
	cr_assert_eq(czone_dispatch_in_thread(vm, 0), 0);
	cr_assert_eq(czone_dispatch_in_thread(vm, 0), 0);
	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	usleep(20000);
	cr_assert_eq(o.calls, 1, "called back by a thread that was to end");
	cr_assert_eq(czone_dispatch(vm, 0), 1);
	/* and ends with the VM if nobody ends it */
	cr_assert_eq(czone_dispatch_in_thread(vm, 1), 0);
}

static void end_in_thread(int result, void *userdata)
{
	struct outcome *o = userdata;

	cr_assert_eq(result, 0);
	cr_assert_eq(czone_dispatch_in_thread(vm, 0), 0);
	vm = czone_vm_unref(vm);
	__atomic_add_fetch(&o->calls, 1, __ATOMIC_RELEASE);
}

Test(async, a_callback_may_end_its_own_thread_and_the_vm, .init = open_vm)
{
	struct outcome o = { 0 };

	cr_assert_eq(czone_dispatch_in_thread(vm, 1), 0);
	cr_assert_eq(czone_vm_wait_async(vm, 0, end_in_thread, &o, NULL), 0);
	await(&o, 1);
	usleep(20000);	/* the sanitizers look after it */
}

/* -------------------------------------------------------------------- events */

struct log {
	struct czone_event event[2000];
	int n;
};

static void record(czone_vm *of, const struct czone_event *event, void *userdata)
{
	struct log *log = userdata;

	(void)of;
	log->event[log->n++] = *event;
}

#define expect(i, k, z, b, e) do {						\
	cr_assert_lt((i), log->n);						\
	cr_assert_eq(log->event[i].kind, (k), "%d is of kind %d", (i), log->event[i].kind);	\
	cr_assert_eq(log->event[i].zone, (z));					\
	cr_assert_eq(log->event[i].bytes, (b));					\
	cr_assert_eq(log->event[i].error, (e));					\
} while (0)

Test(events, of_the_life_of_a_zone, .init = open_vm, .fini = close_vm)
{
	struct log *log = calloc(1, sizeof(*log));
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone_test_task *task;
	uint64_t bytes, actual = 0;
	czone *zone;
	uint32_t id;

	opts.size = 8 * MIB;
	opts.cgroup = "/a";
	cr_assert_eq(czone_set_event_fn(vm, record, log), 0);
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	id = czone_id(zone);
	cr_assert_eq(czone_test_start(vm, "/a", &task), 0);
	cr_assert_eq(czone_test_fill(task, 0, 8 * MIB, 1), 0);
	cr_assert_eq(czone_test_fill(task, 8 * MIB, 1, 1), -ENOMEM);
	cr_assert_eq(czone_test_fill(task, 8 * MIB, 1, 1), -ENOMEM);	/* within the same second */
	cr_assert_eq(czone_test_discard(task, 0, 4 * MIB), 0);
	cr_assert_eq(czone_reclaim(zone, 1 * MIB, NULL, &bytes), 0);
	cr_assert_eq(czone_set_target(vm, 5 * MIB, NULL, &actual), 0);
	cr_assert_eq(actual, 5 * MIB);
	cr_assert_eq(czone_set_target(vm, 2 * MIB, NULL, &actual), -EBUSY);
	cr_assert(strstr(czone_error_detail(), "in use"), "%s", czone_error_detail());
	cr_assert_eq(actual, 4 * MIB);
	czone_test_fail(vm, "reclaim", -ETIMEDOUT);
	cr_assert_eq(czone_set_target(vm, 3 * MIB, NULL, &actual), -ETIMEDOUT);
	czone_test_exit(task);
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	cr_assert_eq(log->n, 0, "told outside of czone_dispatch()");
	cr_assert_eq(czone_vm_stop(vm), 0);
	cr_assert_eq(czone_vm_stop(vm), 0);
	cr_assert_gt(czone_dispatch(vm, 0), 0);
	expect(0, CZONE_EVENT_ZONE_CREATED, id, 8 * MIB, 0);
	expect(1, CZONE_EVENT_ZONE_FULL, id, 0, 0);
	expect(2, CZONE_EVENT_RECLAIMED, id, 1 * MIB, 0);
	expect(3, CZONE_EVENT_TARGET_MET, 0, 5 * MIB, 0);
	expect(4, CZONE_EVENT_TARGET_MISSED, 0, 4 * MIB, -EBUSY);
	expect(5, CZONE_EVENT_TARGET_MISSED, 0, 4 * MIB, -ETIMEDOUT);
	expect(6, CZONE_EVENT_ZONE_DESTROYED, id, 4 * MIB, 0);
	expect(7, CZONE_EVENT_VM_GONE, 0, 0, 0);
	cr_assert_eq(log->n, 8);
	czone_unref(zone);
	free(log);
}

Test(events, of_a_program_that_does_not_listen_are_counted, .init = open_vm, .fini = close_vm)
{
	struct log *log = calloc(1, sizeof(*log));
	uint64_t returned;

	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);	/* nobody wants to know */
	cr_assert_eq(czone_set_event_fn(vm, record, log), 0);
	for (int i = 0; i < 1100; i++)
		cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	cr_assert_eq(czone_dispatch(vm, 0), 1024);
	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	cr_assert_eq(czone_dispatch(vm, 0), 1);
	cr_assert_eq(log->event[1023].lost, 0);
	cr_assert_eq(log->event[1024].lost, 1100 - 1024);
	/* what waits when the function goes is not told, nor when the VM goes */
	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	cr_assert_eq(czone_set_event_fn(vm, NULL, NULL), 0);
	cr_assert_eq(czone_dispatch(vm, 0), 1);
	cr_assert_eq(log->n, 1025);
	cr_assert_eq(czone_set_event_fn(vm, record, log), 0);
	cr_assert_eq(czone_vm_reclaim(vm, 1, NULL, &returned), 0);
	free(log);
}

/* ------------------------------------------------------------------- targets */

Test(target, takes_cache_only_when_free_memory_does_not_do, .init = open_vm, .fini = close_vm)
{
	struct czone_target_opts opts = CZONE_INIT(opts);
	struct czone_create_opts create = CZONE_INIT(create);
	struct czone_vm_stats stats = CZONE_INIT(stats);
	struct outcome o = { 0 };
	czone_test_task *task;
	czone *zone;
	uint64_t actual;

	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.target, CZONE_UNKNOWN);
	create.size = 32 * MIB;
	create.cgroup = "/a";
	cr_assert_eq(czone_create(vm, &create, &zone), 0);
	cr_assert_eq(czone_test_start(vm, "/a", &task), 0);
	cr_assert_eq(czone_test_fill(task, 0, 8 * MIB, 1), 0);
	cr_assert_eq(czone_test_cache(task, 8 * MIB), 0);
	cr_assert_eq(czone_test_discard(task, 0, 4 * MIB), 0);
	opts.flags = CZONE_TARGET_KEEP_CACHE;
	cr_assert_eq(czone_set_target(vm, 13 * MIB, &opts, &actual), 0);
	cr_assert_eq(actual, 13 * MIB);
	cr_assert_eq(czone_set_target(vm, 6 * MIB, &opts, &actual), -EBUSY);
	cr_assert_eq(actual, 12 * MIB);
	cr_assert_eq(czone_set_target(vm, 6 * MIB, NULL, &actual), 0);
	cr_assert_leq(actual, 6 * MIB);
	cr_assert_eq(czone_set_target(vm, 0, NULL, NULL), -EBUSY);
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.target, 0);
	cr_assert_eq(stats.actual, 4 * MIB);
	cr_assert_eq(czone_set_target(vm, CZONE_UNKNOWN, NULL, NULL), 0);
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.target, CZONE_UNKNOWN);
	opts.flags = 2;
	cr_assert_eq(czone_set_target(vm, 0, &opts, NULL), -EINVAL);
	cr_assert_eq(czone_set_target(NULL, 0, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_vm_stop(vm), 0);
	cr_assert_eq(czone_set_target(vm, 0, NULL, NULL), -ESHUTDOWN);
	cr_assert_eq(czone_vm_stats_async(vm, &stats, note, &o, NULL), 0);
	cr_assert_eq(dispatched(&o), -ESHUTDOWN);
	czone_test_exit(task);
	czone_unref(zone);
}

/* -------------------------------------- a guest that does not answer by itself */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int held, creates, destroys;
	bool open;		/* calls go through */
	bool wakes;
	bool closed;
} guest = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0, 0, 0 };

static int hold(void)
{
	bool cancelled = false;

	pthread_mutex_lock(&guest.lock);
	guest.held++;
	pthread_cond_broadcast(&guest.changed);
	while (!guest.open && !(cancelled = czone_cancelled()))
		pthread_cond_wait(&guest.changed, &guest.lock);
	guest.held--;
	pthread_cond_broadcast(&guest.changed);
	pthread_mutex_unlock(&guest.lock);
	return cancelled ? czone_fail(-ECANCELED, "no longer waited for") : 0;
}

static void await_held(int n)
{
	pthread_mutex_lock(&guest.lock);
	while (guest.held != n)
		pthread_cond_wait(&guest.changed, &guest.lock);
	pthread_mutex_unlock(&guest.lock);
}

static void let_go(void)
{
	pthread_mutex_lock(&guest.lock);
	guest.open = true;
	pthread_cond_broadcast(&guest.changed);
	pthread_mutex_unlock(&guest.lock);
}

static int slow_create(struct czone_vm *v, uint64_t size, uint32_t flags, uint32_t file_zone,
		       uint32_t timeout_ms, uint32_t *ret_id)
{
	int r = hold();

	(void)v, (void)size, (void)flags, (void)file_zone, (void)timeout_ms;
	if (r == 0)
		*ret_id = __atomic_add_fetch(&guest.creates, 1, __ATOMIC_SEQ_CST);
	return r;
}

static int slow_destroy(struct czone_vm *v, uint32_t id, uint32_t flags, uint32_t timeout_ms,
			uint64_t result[__CZONE_RESULT_MAX])
{
	(void)v, (void)id, (void)flags, (void)timeout_ms, (void)result;
	__atomic_add_fetch(&guest.destroys, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int slow_wait(struct czone_vm *v, uint32_t timeout_ms)
{
	(void)v, (void)timeout_ms;
	return hold();
}

static void slow_wake(struct czone_vm *v)
{
	(void)v;
	pthread_mutex_lock(&guest.lock);
	pthread_cond_broadcast(&guest.changed);
	pthread_mutex_unlock(&guest.lock);
}

static void slow_close(struct czone_vm *v)
{
	(void)v;
	__atomic_store_n(&guest.closed, true, __ATOMIC_SEQ_CST);
}

static const struct czone_driver slow_driver = {
	.name = "slow", .close = slow_close, .create = slow_create, .destroy = slow_destroy,
	.wait = slow_wait, .wake = slow_wake,
};

static void open_slow(void)
{
	vm = czone_vm_new();
	vm->driver = &slow_driver;
}

static void close_slow(void)
{
	vm = czone_vm_unref(vm);
	for (int i = 0; i < LIMIT_MS && !__atomic_load_n(&guest.closed, __ATOMIC_SEQ_CST); i++)
		usleep(1000);
	cr_assert(guest.closed, "something still refers to the VM");
}

Test(cancel, ends_a_call_that_waits, .init = open_slow, .fini = close_slow)
{
	struct outcome o = { 0 };
	czone_op *op = NULL;

	cr_assert_eq(czone_vm_wait_async(vm, LIMIT_MS, note, &o, &op), 0);
	await_held(1);
	cr_assert_eq(czone_op_cancel(op), 0);
	cr_assert_eq(czone_op_cancel(op), -EALREADY);
	cr_assert_eq(dispatched(&o), -ECANCELED);
	cr_assert(strstr(o.detail, "cancelled"), "%s", o.detail);
	await_held(0);
	cr_assert_eq(czone_dispatch(vm, 50), 0, "told twice");
	cr_assert_eq(czone_op_cancel(op), -EALREADY);
	czone_op_unref(op);
}

Test(cancel, a_zone_made_in_vain_is_destroyed, .init = open_slow, .fini = close_slow)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct outcome o = { 0 };
	czone *zone = NULL;
	czone_op *op = NULL;

	opts.size = MIB;
	cr_assert_eq(czone_create_async(vm, &opts, &zone, note, &o, &op), 0);
	await_held(1);
	cr_assert_eq(czone_op_cancel(op), 0);
	cr_assert_eq(dispatched(&o), -ECANCELED);
	czone_op_unref(op);
	let_go();
	for (int i = 0; i < LIMIT_MS && !__atomic_load_n(&guest.destroys, __ATOMIC_SEQ_CST); i++)
		usleep(1000);
	cr_assert_eq(guest.creates, 1);
	cr_assert_eq(guest.destroys, 1);
	cr_assert_null(zone);
	cr_assert_eq(czone_dispatch(vm, 20), 0, "told twice");
}

Test(cancel, of_one_that_waits_for_its_turn, .init = open_slow, .fini = close_slow)
{
	struct outcome o[20] = { { 0 } };
	czone_op *op[20];

	for (int i = 0; i < 20; i++)
		cr_assert_eq(czone_vm_wait_async(vm, LIMIT_MS, note, &o[i], &op[i]), 0);
	await_held(16);		/* and no more at once */
	cr_assert_eq(czone_op_cancel(op[19]), 0);
	cr_assert_eq(czone_op_cancel(op[17]), 0);
	cr_assert_eq(dispatched(&o[17]), -ECANCELED);
	cr_assert_eq(dispatched(&o[19]), -ECANCELED);
	let_go();
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(dispatched(&o[i]), i == 17 || i == 19 ? -ECANCELED : 0);
		cr_assert_eq(o[i].calls, 1);
		czone_op_unref(op[i]);
	}
}

Test(cancel, time_is_over_for_one_that_waited_for_its_turn, .init = open_slow, .fini = close_slow)
{
	struct outcome o[16] = { { 0 } }, late = { 0 };

	for (int i = 0; i < 16; i++)
		cr_assert_eq(czone_vm_wait_async(vm, LIMIT_MS, note, &o[i], NULL), 0);
	await_held(16);
	cr_assert_eq(czone_vm_wait_async(vm, 1, note, &late, NULL), 0);
	usleep(5000);
	let_go();
	cr_assert_eq(dispatched(&late), -ETIMEDOUT);
	for (int i = 0; i < 16; i++)
		cr_assert_eq(dispatched(&o[i]), 0);
}

Test(cancel, the_last_reference_may_be_the_workers, .init = open_slow)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct outcome o = { 0 };
	czone *zone = NULL;
	czone_op *op = NULL;

	opts.size = MIB;
	cr_assert_eq(czone_create_async(vm, &opts, &zone, note, &o, &op), 0);
	await_held(1);
	cr_assert_eq(czone_op_cancel(op), 0);
	cr_assert_eq(dispatched(&o), -ECANCELED);
	czone_op_unref(op);
	vm = czone_vm_unref(vm);
	usleep(10000);
	cr_assert_not(guest.closed, "closed while a call was under way");
	let_go();
	for (int i = 0; i < LIMIT_MS && !__atomic_load_n(&guest.closed, __ATOMIC_SEQ_CST); i++)
		usleep(1000);
	cr_assert(guest.closed);
	cr_assert_eq(guest.destroys, 1);
}
