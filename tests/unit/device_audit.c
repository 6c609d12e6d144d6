// SPDX-License-Identifier: LGPL-2.1-or-later
/* Guests that use more than their zones, that hold more than they may, and that lie about it. */
#include "driver.h"
#include "front_end.h"
#include "handle.h"
#include "host/device_internal.h"
#include "host/host.h"

#include <criterion/criterion.h>
#include <czone.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

TestSuite(audit, .timeout = 60);

#define BLOCK CZONE_BLOCK_SIZE
#define FIRST (POOL + BLOCK)		/* before it is the memory map */
#define BLOCKS 15

/* A guest's kernel: who has each block. It can do as it should, or otherwise. */
static struct {
	pthread_mutex_t lock;
	uint32_t owner[BLOCKS];		/* under the lock */
	atomic_uint last;
	atomic_bool slow;		/* its answer to a create, until this is false */
	atomic_bool creates;		/* such a one is under way */
	atomic_bool refuses_create;	/* the help that an audit needs */
	atomic_bool claims_all;		/* zone 1 has everything, it says */
	atomic_bool claims_too_much;
	atomic_bool touches;		/* what it has no zone for, again and again */
	atomic_int moves;		/* so many lists find another zone that came */
	atomic_int destroyed;		/* the last zone that was, */
	atomic_int busy;		/* or fails with this */
	atomic_int destroys;
	atomic_uint destroy_ms;		/* the time that the last one had */
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct front_end fe;
static struct host_vm host;
static struct czone_vm *vm;

static struct {
	int n;
	struct czone_event item[64];
} events;

/* Under the lock, as the next ones. */
static uint64_t held(uint32_t id)
{
	uint64_t bytes = 0;

	for (int i = 0; i < BLOCKS; i++)
		if (id ? kernel.owner[i] == id : kernel.owner[i] != 0)
			bytes += BLOCK;
	return bytes;
}

/* The same, for the test's own thread. */
static uint64_t holding(uint32_t id)
{
	uint64_t bytes;

	pthread_mutex_lock(&kernel.lock);
	bytes = held(id);
	pthread_mutex_unlock(&kernel.lock);
	return bytes;
}

static bool give(uint32_t id, uint64_t bytes)
{
	if (bytes > BLOCKS * BLOCK - held(0))
		return false;
	for (int i = 0; i < BLOCKS && bytes; i++) {
		if (!kernel.owner[i]) {
			kernel.owner[i] = id;
			bytes -= BLOCK;
		}
	}
	return true;
}

static void take(uint32_t id)
{
	for (int i = 0; i < BLOCKS; i++)
		if (kernel.owner[i] == id)
			kernel.owner[i] = 0;
}

static void extents(uint32_t id, uint64_t from, struct virtio_czone_reply *r)
{
	uint64_t n = 0;

	for (int i = 0; i < BLOCKS; i++) {
		if (kernel.owner[i] != id && !(kernel.claims_all && id == 1))
			continue;
		if (n++ < from)
			continue;
		if (r->count == VIRTIO_CZONE_VALUES_MAX)
			break;
		r->value[r->count++] = FIRST + i * BLOCK;
		r->value[r->count++] = BLOCK;
	}
}

/* Another zone comes, whose pages are used at once. */
static void move(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		if (kernel.owner[i])
			continue;
		memset(fe.pool + BLOCK + i * BLOCK, 7, PAGE);
		kernel.owner[i] = ++kernel.last;
		return;
	}
}

static bool rule(const struct virtio_czone_request *request, struct virtio_czone_reply *r)
{
	bool known = true;

	if (request->op == VIRTIO_CZONE_OP_CREATE && kernel.slow) {
		kernel.creates = true;
		while (kernel.slow)
			usleep(1000);
	}
	pthread_mutex_lock(&kernel.lock);
	switch (request->op) {
	case VIRTIO_CZONE_OP_STATS:
		r->count = CZONE_STAT_USED + 1;
		r->value[CZONE_STAT_SIZE] = request->zone ? held(request->zone) : BLOCKS * BLOCK;
		r->value[CZONE_STAT_USED] = held(request->zone);
		r->status = request->zone && !held(request->zone) ? ENOENT : 0;
		break;
	case VIRTIO_CZONE_OP_CREATE:
		r->zone = ++kernel.last;
		if (kernel.refuses_create || !give(r->zone, request->arg[0]))
			r->status = ENOSPC;
		break;
	case VIRTIO_CZONE_OP_RESIZE:
		if (!give(request->zone, request->arg[0] - held(request->zone)))
			r->status = ENOSPC;
		break;
	case VIRTIO_CZONE_OP_DESTROY:
		kernel.destroys++;
		kernel.destroy_ms = request->timeout_ms;
		r->status = kernel.busy;
		if (!held(request->zone))
			r->status = ENOENT;
		if (!r->status) {
			take(request->zone);
			kernel.destroyed = request->zone;
		}
		if (kernel.touches)
			memset(fe.pool + 2 * BLOCK, 9, MIB);
		break;
	case VIRTIO_CZONE_OP_NEXT:
		if (!request->zone && kernel.moves && kernel.moves--)
			move();
		r->status = ENOENT;
		for (uint32_t id = request->zone + 1; id <= kernel.last && r->status; id++) {
			if (held(id) || kernel.claims_too_much) {
				r->zone = id;
				r->status = 0;
			}
		}
		break;
	case VIRTIO_CZONE_OP_EXTENTS:
		if (kernel.claims_too_much) {
			r->count = 2;
			r->value[0] = POOL;
			r->value[1] = POOL_SIZE;
			break;
		}
		extents(request->zone, request->arg[0], r);
		r->status = r->count || request->arg[0] ? 0 : ENOENT;
		break;
	default:
		known = false;
	}
	pthread_mutex_unlock(&kernel.lock);
	return known;
}

static void on_event(czone_vm *from, const struct czone_event *event, void *userdata)
{
	(void)from;
	(void)userdata;
	if (events.n < 64)
		events.item[events.n++] = *event;
}

/* How many of a kind; the last one. */
static int event_of(enum czone_event_kind kind, struct czone_event *ret_last)
{
	uint64_t until = fe_now_ms() + LIMIT_MS;
	int n = 0;

	do {
		czone_dispatch(vm, 10);
		for (int i = n = 0; i < events.n; i++) {
			if (events.item[i].kind != kind)
				continue;
			n++;
			*ret_last = events.item[i];
		}
	} while (!n && fe_now_ms() < until);
	return n;
}

static bool no_event_of(enum czone_event_kind kind)
{
	while (czone_dispatch(vm, 0) > 0)
		;
	for (int i = 0; i < events.n; i++)
		if (events.item[i].kind == kind)
			return false;
	return true;
}

static void news(void *userdata, enum czone_event_kind kind, uint32_t zone, uint64_t bytes, int error)
{
	czone_event(userdata, kind, zone, bytes, error);
}

static void boot(void)
{
	czone_set_log(NULL, NULL);
	fe_boot(&fe);
	fe_guest_stop(&fe);
	fe.rule = rule;
	fe_guest_start(&fe);
	vm = czone_vm_new();
	host.device = fe.device;
	vm->driver = &czone_host_driver;
	vm->priv = &host;
	device_set_news(fe.device, news, vm);
	cr_assert_eq(czone_set_event_fn(vm, on_event, NULL), 0);
}

static void end(void)
{
	device_set_news(fe.device, NULL, NULL);
	czone_async_end(vm);
	fe_close(&fe);
	czone_vm_discard(vm);
}

/* A zone of the guest's own, some of which is used. */
static uint32_t guest_zone(uint64_t size, uint64_t used)
{
	uint32_t id;

	pthread_mutex_lock(&kernel.lock);
	id = ++kernel.last;
	cr_assert(give(id, size));
	for (int i = 0; i < BLOCKS; i++)
		if (kernel.owner[i] == id)
			memset(fe.pool + BLOCK + i * BLOCK, 5, used < BLOCK ? used : BLOCK);
	pthread_mutex_unlock(&kernel.lock);
	return id;
}

static int look(uint32_t flags, struct czone_audit_report *report)
{
	struct czone_audit_opts opts = CZONE_INIT(opts);

	*report = (struct czone_audit_report)CZONE_INIT(*report);
	opts.flags = flags;
	return czone_audit(vm, &opts, report);
}

Test(audit, what_zones_use_is_no_stray)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);
	struct czone_audit_report report;

	boot();
	memset(fe.pool, 1, MIB);	/* the memory map */
	guest_zone(2 * BLOCK, MIB);
	guest_zone(BLOCK, BLOCK);
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.stray, CZONE_UNKNOWN);
	cr_assert_eq(look(0, &report), 0);
	cr_assert_eq(report.zones, 2);
	cr_assert_eq(report.held, 3 * BLOCK);
	cr_assert_eq(report.stray, 0);
	cr_assert_eq(report.over_quota, 0);
	cr_assert_eq(look(CZONE_AUDIT_TAKE, &report), 0);
	cr_assert_eq(report.taken, 0);
	cr_assert_eq(kernel.destroys, 0, "there was nothing to take, but it troubles the guest");
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.stray, 0);
	cr_assert(no_event_of(CZONE_EVENT_STRAY));
	end();
}

Test(audit, what_is_touched_without_a_zone_is_found_and_taken)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);
	struct czone_audit_report report;
	struct czone_event event;
	uint32_t zone;

	boot();
	zone = guest_zone(2 * BLOCK, MIB);
	memset(fe.pool + 8 * BLOCK, 3, 3 * PAGE);
	memset(fe.pool + 16 * BLOCK - PAGE, 3, PAGE);
	cr_assert_eq(look(0, &report), 0);
	cr_assert_eq(report.stray, 4 * PAGE);
	cr_assert_eq(report.taken, 0);
	cr_assert_eq(event_of(CZONE_EVENT_STRAY, &event), 1);
	cr_assert_eq(event.bytes, 4 * PAGE);

	cr_assert_eq(look(CZONE_AUDIT_TAKE, &report), 0, "%s", czone_error_detail());
	cr_assert_eq(report.stray, 0);
	cr_assert_eq(report.taken, 4 * PAGE);
	cr_assert_eq(report.zones, 1, "the library's own zone is left");
	cr_assert_eq(holding(0), 2 * BLOCK);
	cr_assert_eq(fe_allocated(fe.pool_fd), 2 * MIB, "more or less than that has gone");
	cr_assert_eq(fe.pool[8 * BLOCK], 0);
	cr_assert_eq(fe.pool[BLOCK], 5, "a zone has lost memory");
	cr_assert_eq(holding(zone), 2 * BLOCK);
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.stray, 0);
	cr_assert_eq(stats.taken, 4 * PAGE);
	cr_assert_eq(stats.returned, 0, "it was not the guest that gave it back");
	end();
}

Test(audit, a_guest_that_does_not_help)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);
	struct czone_audit_report report;

	boot();
	guest_zone(BLOCK, MIB);
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	kernel.refuses_create = true;
	cr_assert_eq(look(CZONE_AUDIT_TAKE, &report), -EBUSY);
	cr_assert_eq(report.stray, MIB);
	cr_assert_neq(strstr(czone_error_detail(), "gives no zone"), NULL, "%s", czone_error_detail());
	cr_assert_eq(fe_allocated(fe.pool_fd), 2 * MIB);
	cr_assert_eq(look(CZONE_AUDIT_TAKE | CZONE_AUDIT_FORCE, &report), 0, "%s", czone_error_detail());
	cr_assert_eq(report.taken, MIB);
	cr_assert_eq(fe_allocated(fe.pool_fd), MIB);
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	cr_assert_eq(look(CZONE_AUDIT_FORCE, &report), 0);
	cr_assert_eq(report.taken, MIB);
	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.taken, 2 * MIB);
	end();
}

Test(audit, a_guest_that_touches_it_again)
{
	struct czone_audit_report report;

	boot();
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	kernel.touches = true;
	cr_assert_eq(look(CZONE_AUDIT_TAKE, &report), -EBUSY);
	cr_assert_eq(report.stray, MIB);
	cr_assert_eq(report.taken, MIB);
	cr_assert_neq(strstr(czone_error_detail(), "1024 KiB that no zone holds"), NULL, "%s",
		      czone_error_detail());
	end();
}

Test(audit, zones_that_come_meanwhile_are_no_stray)
{
	struct czone_audit_report report;

	boot();
	kernel.moves = 4;
	cr_assert_eq(look(0, &report), 0);
	cr_assert_eq(report.stray, 0);
	end();
}

Test(audit, a_guest_that_claims_it_all)
{
	struct czone_quota quota = CZONE_INIT(quota);
	struct czone_audit_report report;
	struct czone_event event;

	boot();
	quota.pool_bytes = 4 * BLOCK;
	cr_assert_eq(czone_set_quota(vm, &quota), 0);
	guest_zone(BLOCK, MIB);
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	kernel.claims_all = true;
	cr_assert_eq(look(0, &report), 0);
	cr_assert_eq(report.stray, 0, "it is a zone's, it says");
	cr_assert_eq(report.over_quota, 11 * BLOCK, "and so it counts");
	cr_assert_eq(event_of(CZONE_EVENT_OVER_QUOTA, &event), 1);
	cr_assert_eq(event.bytes, BLOCKS * BLOCK);
	cr_assert_eq(event.error, -EDQUOT);
	kernel.claims_too_much = true;
	kernel.last = 100000;		/* zones, each of the whole pool */
	cr_assert_eq(look(0, &report), -EPROTO);
	end();
}

Test(audit, a_guest_that_reboots_or_has_gone)
{
	struct czone_audit_report report;
	uint64_t bytes;
	struct device_range range = { FIRST, BLOCK };

	boot();
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	cr_assert_eq(device_release(fe.device, &range, 1, LIMIT_MS, &bytes), 0);
	cr_assert_eq(bytes, 0);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	cr_assert_eq(device_release(fe.device, &range, 1, LIMIT_MS, &bytes), -ENOTCONN);
	cr_assert_eq(look(0, &report), -ENOTCONN);
	cr_assert_eq(fe_allocated(fe.pool_fd), MIB);
	close(fe.socket);
	fe.socket = -1;
	while (look(0, &report) != -ESHUTDOWN)
		usleep(1000);
	end();
}

/* A guest's driver stops in the middle: what waits is told, and nothing is punched later. */
static void *release_all(void *ret)
{
	struct device_range range = { FIRST, BLOCKS * BLOCK };
	uint64_t bytes = 0;

	*(int *)ret = device_release(fe.device, &range, 1, LIMIT_MS, &bytes);
	return NULL;
}

Test(audit, a_reboot_while_memory_is_taken)
{
	struct device_range range = { FIRST, BLOCK };
	pthread_t thread;
	uint64_t bytes;
	int result = 0;

	boot();
	memset(fe.pool + BLOCK, 3, 8 * BLOCK);
	fe_gate(true);
	cr_assert_eq(pthread_create(&thread, NULL, release_all, &result), 0);
	fe_gate_wait();
	cr_assert_eq(device_release(fe.device, &range, 1, LIMIT_MS, &bytes), -EBUSY);
	/* the driver cannot stop before the call that is under way has ended */
	fe_gate(false);
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	pthread_join(thread, NULL);
	cr_assert(result == -ENOTCONN || result == 0, "%d", result);
	if (result == -ENOTCONN)
		cr_assert_gt(fe_allocated(fe.pool_fd), 0);
	end();
}

/* The zone that an audit makes has all that is free: nobody could make another one. */
Test(audit, one_that_is_cancelled_leaves_no_zone)
{
	struct czone_audit_opts opts = CZONE_INIT(opts);
	uint64_t until = fe_now_ms() + LIMIT_MS;
	czone_op *op = NULL;

	boot();
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	opts.flags = CZONE_AUDIT_TAKE;
	kernel.slow = true;
	cr_assert_eq(czone_audit_async(vm, &opts, NULL, NULL, NULL, &op), 0);
	while (!kernel.creates && fe_now_ms() < until)
		usleep(1000);
	cr_assert(kernel.creates);
	cr_assert_eq(czone_op_cancel(op), 0);
	usleep(100000);
	kernel.slow = false;
	while (!kernel.destroyed && fe_now_ms() < until)
		usleep(1000);
	cr_assert_eq(kernel.destroyed, kernel.last);
	cr_assert_eq(holding(0), 0);
	cr_assert(czone_dispatch(vm, LIMIT_MS) >= 0);
	czone_op_unref(op);
	end();
}

static void *answer_late(void *unused)
{
	(void)unused;
	while (!kernel.creates)
		usleep(1000);
	usleep(300000);
	kernel.slow = false;
	return NULL;
}

/* Nor does one whose time is over: a guest gets time for the destroy all the same. */
Test(audit, one_that_is_late_leaves_no_zone)
{
	struct czone_audit_opts opts = CZONE_INIT(opts);
	pthread_t thread;
	int r;

	boot();
	memset(fe.pool + 8 * BLOCK, 3, MIB);
	opts.flags = CZONE_AUDIT_TAKE;
	opts.timeout_ms = 200;
	kernel.slow = true;
	cr_assert_eq(pthread_create(&thread, NULL, answer_late, NULL), 0);
	r = czone_audit(vm, &opts, NULL);
	cr_assert(r == 0 || r == -ETIMEDOUT, "%d", r);	/* the last millisecond may do */
	pthread_join(thread, NULL);
	cr_assert_eq(kernel.destroyed, kernel.last);
	cr_assert_geq(kernel.destroy_ms, 1000);
	cr_assert_eq(holding(0), 0);
	end();
}

/* ------------------------------------------------------------------- quota */

Test(audit, creates_and_resizes_beyond_the_quota_are_refused)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	struct czone_quota quota = CZONE_INIT(quota);
	czone *zone, *other;

	boot();
	quota.pool_bytes = 6 * BLOCK;
	quota.zone_bytes = 4 * BLOCK;
	cr_assert_eq(czone_set_quota(vm, &quota), 0);
	opts.size = 5 * BLOCK;
	cr_assert_eq(czone_create(vm, &opts, &zone), -EDQUOT);
	opts.size = 3 * BLOCK;
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	cr_assert_eq(czone_resize(zone, 5 * BLOCK, 0), -EDQUOT);
	cr_assert_eq(czone_resize(zone, 4 * BLOCK, 0), 0);
	cr_assert_eq(czone_create(vm, &opts, &other), -EDQUOT);
	opts.size = 2 * BLOCK;
	cr_assert_eq(czone_create(vm, &opts, &other), 0);
	cr_assert_eq(czone_set_quota(vm, NULL), 0);
	cr_assert_eq(czone_resize(zone, 8 * BLOCK, 0), 0);
	czone_unref(zone);
	czone_unref(other);
	quota.struct_size = 3;
	cr_assert_eq(czone_set_quota(vm, &quota), -EINVAL);
	end();
}

/* As if somebody in the guest had made it; without the guest's thread. */
static void notice_created(uint32_t zone, uint64_t size)
{
	struct virtio_czone_reply notice = {
		.status = CZONE_NOTICE_CREATED, .zone = zone, .count = 1, .value = { size },
	};
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPLY];
	uint64_t gpa = fe_alloc(&fe, sizeof(notice));

	fe_guest_stop(&fe);
	memcpy(fe_at(&fe, gpa), &notice, sizeof(notice));
	fe_expose(q, fe_desc(q, gpa, 24, 0));
	fe_kick(q);
	fe_guest_start(&fe);
}

/* Until nothing is asked about what the guest has made. */
static void settle(void)
{
	uint64_t until = fe_now_ms() + LIMIT_MS;
	unsigned int left;

	do {
		pthread_mutex_lock(&fe.device->lock);
		left = fe.device->refusals;
		pthread_mutex_unlock(&fe.device->lock);
	} while (left && fe_now_ms() < until && !usleep(1000));
	cr_assert_eq(left, 0);
}

Test(audit, zones_of_the_guest_beyond_the_quota_are_destroyed)
{
	struct czone_quota quota = CZONE_INIT(quota);
	struct czone_event event;
	uint32_t zone;

	boot();
	quota.pool_bytes = 6 * BLOCK;
	quota.zone_bytes = 4 * BLOCK;
	cr_assert_eq(czone_set_quota(vm, &quota), 0);
	zone = guest_zone(4 * BLOCK, 0);
	notice_created(zone, 4 * BLOCK);
	cr_assert_eq(event_of(CZONE_EVENT_ZONE_CREATED, &event), 1);
	settle();		/* it is not too much by itself */
	zone = guest_zone(3 * BLOCK, 0);
	notice_created(zone, 3 * BLOCK);	/* too much together */
	cr_assert_eq(event_of(CZONE_EVENT_OVER_QUOTA, &event), 1);
	cr_assert_eq(event.zone, zone);
	cr_assert_eq(event.bytes, 3 * BLOCK);
	cr_assert_eq(event.error, -EDQUOT);
	cr_assert_eq(kernel.destroyed, (int)zone);
	cr_assert_eq(holding(0), 4 * BLOCK);
	events.n = 0;
	kernel.busy = EBUSY;			/* tasks in it already */
	zone = guest_zone(5 * BLOCK, 0);
	notice_created(zone, 5 * BLOCK);	/* too much by itself */
	cr_assert_eq(event_of(CZONE_EVENT_OVER_QUOTA, &event), 1);
	cr_assert_eq(event.zone, zone);
	cr_assert_eq(event.error, -EBUSY);
	end();
}

/* What it does not answer takes no memory without end. */
Test(audit, a_guest_that_makes_zones_and_answers_nothing)
{
	struct czone_quota quota = CZONE_INIT(quota);
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPLY];
	struct vring_used_elem used;
	unsigned int waiting = 0;

	boot();
	quota.zone_bytes = BLOCK;
	cr_assert_eq(czone_set_quota(vm, &quota), 0);
	fe_guest_stop(&fe);
	while (fe_wait_used(q, 0, &used))
		;
	for (uint32_t i = 1; i <= 60; i++) {
		struct virtio_czone_reply notice = {
			.status = CZONE_NOTICE_CREATED, .zone = i, .count = 1, .value = { 2 * BLOCK },
		};
		uint64_t gpa = fe_alloc(&fe, sizeof(notice));

		memcpy(fe_at(&fe, gpa), &notice, sizeof(notice));
		fe_expose(q, fe_desc(q, gpa, 24, 0));
		fe_kick(q);
		cr_assert(fe_wait_used(q, LIMIT_MS, &used));
	}
	pthread_mutex_lock(&fe.device->lock);
	for (struct request *r = fe.device->requests; r; r = r->next)
		waiting++;
	cr_assert_eq(waiting, fe.device->refusals);
	pthread_mutex_unlock(&fe.device->lock);
	cr_assert_leq(waiting, 16);
	cr_assert_gt(waiting, 0);
	fe_driver_stop(&fe, NULL);
	pthread_mutex_lock(&fe.device->lock);
	cr_assert_eq(fe.device->refusals, 0);
	pthread_mutex_unlock(&fe.device->lock);
	end();
}

/* --------------------------------------------------------------- arguments */

Test(audit, arguments)
{
	struct czone_audit_report report = CZONE_INIT(report);
	struct czone_audit_opts opts = CZONE_INIT(opts);

	boot();
	cr_assert_eq(czone_audit(NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(czone_audit(vm, NULL, NULL), 0, "%s", czone_error_detail());
	opts.flags = 4;
	cr_assert_eq(czone_audit(vm, &opts, &report), -EINVAL);
	opts.flags = 0;
	report.struct_size = 1;
	cr_assert_eq(czone_audit(vm, &opts, &report), -EINVAL);
	cr_assert_eq(czone_set_quota(NULL, NULL), -EINVAL);
	end();
}
