// SPDX-License-Identifier: LGPL-2.1-or-later
/* The device against a guest and a VMM that do not keep to the rules. */
#include "driver.h"
#include "front_end.h"
#include "host/host.h"
#include "host/takeover.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

TestSuite(hostile, .timeout = 60);

static struct front_end fe;

/* What the device has complained about. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[16384];

static void keep_log(enum czone_log_level level, const char *message, void *userdata)
{
	size_t n;

	(void)userdata;
	if (level > CZONE_LOG_WARNING)
		return;
	pthread_mutex_lock(&log_lock);
	n = strlen(log_text);
	snprintf(log_text + n, sizeof(log_text) - n, "%s\n", message);
	pthread_mutex_unlock(&log_lock);
}

static bool complained(const char *what)
{
	uint64_t until = fe_now_ms() + 2000;
	bool found;

	do {
		pthread_mutex_lock(&log_lock);
		found = strstr(log_text, what);
		pthread_mutex_unlock(&log_lock);
	} while (!found && fe_now_ms() < until && !usleep(1000));
	return found;
}

static void boot(void)
{
	czone_set_log(keep_log, NULL);
	fe_boot(&fe);
	fe_fill(fe.pool, 0, 8 * MIB);
}

static int ping(void)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_PING };

	return device_ask(fe.device, &request, LIMIT_MS, NULL);
}

/* Nothing was lost by whatever was tried. */
static void pool_is_whole(void)
{
	cr_assert_eq(fe_allocated(fe.pool_fd), 8 * MIB);
	for (uint64_t at = 0; at < 8 * MIB; at += PAGE)
		cr_assert_eq((unsigned char)fe.pool[at], 1 + at / PAGE % 255);
}

static void works(void)
{
	struct virtio_czone_report_status status;

	cr_assert_eq(ping(), 0);
	status = fe_report(&fe, 1, &(struct device_range){ POOL, MIB }, 1);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.done, 1);
}

static void restart_driver(void)
{
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
}

/* ------------------------------------------------------------------- rings */

/* Put something bad into the report queue, where head is the next free descriptor. */
struct ring_case {
	const char *name;
	const char *why;
	void (*make)(struct fe_queue *q);
};

static uint64_t good_buffer(void)
{
	return fe_alloc(&fe, 4096);
}

static void loop(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 16, VRING_DESC_F_NEXT);

	q->desc[head].next = head;
	fe_expose(q, head);
}

static void long_loop(struct fe_queue *q)
{
	uint16_t head = q->next_desc, i;

	for (i = 0; i < 3; i++)
		fe_desc(q, good_buffer(), 16, VRING_DESC_F_NEXT);
	q->desc[head + 2].next = head;
	fe_expose(q, head);
}

static void bad_head(struct fe_queue *q)
{
	fe_expose(q, 60000);
}

static void bad_head_by_one(struct fe_queue *q)
{
	fe_expose(q, QUEUE_NUM);
}

static void bad_next(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 16, VRING_DESC_F_NEXT);

	q->desc[head].next = QUEUE_NUM;
	fe_expose(q, head);
}

static void index_jump(struct fe_queue *q)
{
	q->next_avail += 1000;
	fe_expose(q, fe_desc(q, good_buffer(), 16, 0));
}

static void index_back(struct fe_queue *q)
{
	__atomic_store_n(&q->avail->idx, q->next_avail - 1, __ATOMIC_SEQ_CST);
}

static void one_descriptor(struct fe_queue *q, uint64_t addr, uint32_t len, uint16_t flags)
{
	fe_expose(q, fe_desc(q, addr, len, flags));
}

static void outside(struct fe_queue *q) { one_descriptor(q, 0x7000000000, 64, 0); }
static void wraps(struct fe_queue *q) { one_descriptor(q, UINT64_MAX - 15, 64, 0); }
static void straddles(struct fe_queue *q) { one_descriptor(q, BOOT_LOW_SIZE - 16, 64, 0); }
static void huge(struct fe_queue *q) { one_descriptor(q, good_buffer(), 0xffffffff, 0); }
static void in_pool(struct fe_queue *q) { one_descriptor(q, POOL, 64, 0); }
static void strange_flags(struct fe_queue *q) { one_descriptor(q, good_buffer(), 64, 0x80); }

static void no_answer(struct fe_queue *q)
{
	one_descriptor(q, good_buffer(), 32, 0);
}

static void empty(struct fe_queue *q)
{
	one_descriptor(q, good_buffer(), 0, 0);
}

static void only_writable(struct fe_queue *q)
{
	one_descriptor(q, good_buffer(), 32, VRING_DESC_F_WRITE);
}

static void wrong_order(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 32, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);

	fe_desc(q, good_buffer(), 32, 0);
	fe_expose(q, head);
}

static void short_answer(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 32, VRING_DESC_F_NEXT);

	fe_desc(q, good_buffer(), 15, VRING_DESC_F_WRITE);
	fe_expose(q, head);
}

static void two_answers(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 32, VRING_DESC_F_NEXT);

	fe_desc(q, good_buffer(), 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	fe_desc(q, good_buffer(), 16, VRING_DESC_F_WRITE);
	fe_expose(q, head);
}

static void short_report(struct fe_queue *q)
{
	uint16_t head = fe_desc(q, good_buffer(), 8, VRING_DESC_F_NEXT);

	fe_desc(q, good_buffer(), 16, VRING_DESC_F_WRITE);
	fe_expose(q, head);
}

static void indirect(struct fe_queue *q, uint64_t table, uint32_t len, uint16_t flags)
{
	one_descriptor(q, table, len, VRING_DESC_F_INDIRECT | flags);
}

static void indirect_outside(struct fe_queue *q) { indirect(q, 0x7000000000, 64, 0); }
static void indirect_len(struct fe_queue *q) { indirect(q, good_buffer(), 24, 0); }
static void indirect_huge(struct fe_queue *q) { indirect(q, good_buffer(), 0xfffffff0, 0); }
static void indirect_empty(struct fe_queue *q) { indirect(q, good_buffer(), 0, 0); }
static void indirect_next(struct fe_queue *q) { indirect(q, good_buffer(), 64, VRING_DESC_F_NEXT); }
static void indirect_unaligned(struct fe_queue *q) { indirect(q, good_buffer() + 4, 64, 0); }

static void indirect_nested(struct fe_queue *q)
{
	uint64_t table = good_buffer();
	struct vring_desc *d = fe_at(&fe, table);

	d[0] = (struct vring_desc){ table, 64, VRING_DESC_F_INDIRECT, 0 };
	indirect(q, table, 64, 0);
}

static void indirect_loop(struct fe_queue *q)
{
	uint64_t table = good_buffer(), data = good_buffer();
	struct vring_desc *d = fe_at(&fe, table);

	for (int i = 0; i < 250; i++)
		d[i] = (struct vring_desc){ data, 16, VRING_DESC_F_NEXT, (i + 1) % 250 };
	indirect(q, table, 250 * 16, 0);
}

static void indirect_bad_next(struct fe_queue *q)
{
	uint64_t table = good_buffer();
	struct vring_desc *d = fe_at(&fe, table);

	d[0] = (struct vring_desc){ table, 16, VRING_DESC_F_NEXT, 4 };
	indirect(q, table, 64, 0);
}

static const struct ring_case ring_cases[] = {
	{ "loop", "loop", loop },
	{ "long loop", "loop", long_loop },
	{ "bad head", "head outside", bad_head },
	{ "bad head by one", "head outside", bad_head_by_one },
	{ "bad next", "next descriptor outside", bad_next },
	{ "index jump", "index runs away", index_jump },
	{ "index back", "index runs away", index_back },
	{ "outside", "outside the guest's ordinary memory", outside },
	{ "wraps", "outside the guest's ordinary memory", wraps },
	{ "straddles", "outside the guest's ordinary memory", straddles },
	{ "huge", "outside the guest's ordinary memory", huge },
	{ "in the pool", "outside the guest's ordinary memory", in_pool },
	{ "strange flags", "unknown descriptor flags", strange_flags },
	{ "no answer", "without one writable part", no_answer },
	{ "empty", "without one writable part", empty },
	{ "only writable", "too short", only_writable },
	{ "wrong order", "readable descriptor after", wrong_order },
	{ "short answer", "without one writable part", short_answer },
	{ "two answers", "without one writable part", two_answers },
	{ "short report", "too short", short_report },
	{ "indirect outside", "indirect table outside", indirect_outside },
	{ "indirect length", "bad length of an indirect", indirect_len },
	{ "indirect huge", "bad length of an indirect", indirect_huge },
	{ "indirect empty", "bad length of an indirect", indirect_empty },
	{ "indirect and next", "indirect descriptor with other flags", indirect_next },
	{ "indirect unaligned", "indirect table outside", indirect_unaligned },
	{ "indirect nested", "indirect descriptor inside", indirect_nested },
	{ "indirect loop", "loop", indirect_loop },
	{ "indirect bad next", "next descriptor outside", indirect_bad_next },
};

#define RING_CASES (sizeof(ring_cases) / sizeof(ring_cases[0]))

/* Each test is a process of its own, so a parameter must not point anywhere. */
ParameterizedTestParameters(hostile, ring)
{
	static size_t index[RING_CASES];

	for (size_t i = 0; i < RING_CASES; i++)
		index[i] = i;
	return cr_make_param_array(size_t, index, RING_CASES);
}

/* Each stops its queue, with the right words, and nothing else; the driver's next start cures it. */
ParameterizedTest(size_t *index, hostile, ring, .timeout = 60)
{
	const struct ring_case *c = &ring_cases[*index];
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPORT];
	struct vring_used_elem used;

	boot();
	c->make(q);
	eventfd_write(q->kick, 1);
	cr_assert(complained(c->why), "%s: not \"%s\" but: %s", c->name, c->why, log_text);
	cr_assert(complained("report queue stops"));
	cr_assert_not(fe_wait_used(q, 50, &used), "%s: it was answered", c->name);
	/* a good one after it does not help */
	fe_report_begin(&fe, 1, &(struct device_range){ POOL, MIB }, 1, 1);
	cr_assert_not(fe_wait_used(q, 50, &used), "%s: the queue goes on", c->name);
	pool_is_whole();
	cr_assert_eq(ping(), 0, "%s: other queues have stopped, too", c->name);
	restart_driver();
	works();
	fe_close(&fe);
}

Test(hostile, reports_given_twice)
{
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPORT];
	uint16_t head;

	/* more in flight than the ring has entries, by never waiting */
	boot();
	fe_gate(true);
	fe_report_begin(&fe, 1, &(struct device_range){ POOL, PAGE }, 1, 1);
	fe_gate_wait();
	head = q->avail->ring[0];
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 100; k++)
			fe_expose(q, head);
		fe_kick(q);
		cr_assert_eq(ping(), 0);
	}
	cr_assert(complained("index runs away"), "%s", log_text);
	fe_gate(false);
	cr_assert_eq(ping(), 0);
	restart_driver();
	works();
	fe_close(&fe);
}

Test(hostile, indirect_report_works)
{
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPORT];
	uint64_t table, header, ranges, status;
	struct vring_used_elem used;
	struct vring_desc *d;

	boot();
	table = good_buffer();
	header = good_buffer();
	ranges = good_buffer();
	status = good_buffer();
	/* cut where it hurts, and with an empty piece */
	memcpy(fe_at(&fe, header), &(struct virtio_czone_report){ 1, 1, 0 }, 16);
	memcpy(fe_at(&fe, ranges), &(struct device_range){ POOL + MIB, MIB }, 16);
	d = fe_at(&fe, table);
	d[0] = (struct vring_desc){ header, 5, VRING_DESC_F_NEXT, 3 };
	d[3] = (struct vring_desc){ header + 5, 11, VRING_DESC_F_NEXT, 1 };
	d[1] = (struct vring_desc){ ranges, 0, VRING_DESC_F_NEXT, 2 };
	d[2] = (struct vring_desc){ ranges, 16, VRING_DESC_F_NEXT, 4 };
	d[4] = (struct vring_desc){ status, 16, VRING_DESC_F_WRITE, 0 };
	one_descriptor(q, table, 5 * 16, VRING_DESC_F_INDIRECT);
	fe_kick(q);
	cr_assert(fe_wait_used(q, LIMIT_MS, &used));
	cr_assert_eq(((struct virtio_czone_report_status *)fe_at(&fe, status))->bytes, MIB);
	cr_assert_eq(fe_allocated(fe.pool_fd), 7 * MIB);
	fe_close(&fe);
}

Test(hostile, indirect_without_the_feature)
{
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPORT];

	fe.features = 0;
	boot();
	fe_guest_stop(&fe);
	fe_driver_stop(&fe, NULL);
	fe.features = 1;	/* ZEROES alone */
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	one_descriptor(q, good_buffer(), 64, VRING_DESC_F_INDIRECT);
	fe_kick(q);
	cr_assert(complained("indirect descriptor without"), "%s", log_text);
	fe_close(&fe);
}

/* The other two queues. */
Test(hostile, event_buffer_too_small)
{
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_EVENT];
	struct device_request request = { .op = VIRTIO_CZONE_OP_PING };

	czone_set_log(keep_log, NULL);
	fe_open(&fe);
	fe_driver_start(&fe, NULL);
	one_descriptor(q, good_buffer(), 100, VRING_DESC_F_WRITE);
	fe_kick(q);
	cr_assert_eq(device_ask(fe.device, &request, LIMIT_MS, NULL), -EPROTO);
	cr_assert(complained("event buffer is too small"), "%s", log_text);
	cr_assert_eq(device_ask(fe.device, &request, LIMIT_MS, NULL), -EPROTO);
	restart_driver();
	cr_assert_eq(ping(), 0);
	fe_close(&fe);
}

Test(hostile, replies_of_nonsense)
{
	struct fe_queue *q = &fe.q[VIRTIO_CZONE_VQ_REPLY];
	struct virtio_czone_reply r = { .id = 12345 };
	struct device_request request = { .op = VIRTIO_CZONE_OP_CREATE };
	struct device_reply reply;
	struct vring_used_elem used;
	uint64_t gpa;

	boot();
	/* values that are not there, then too many, then no errno */
	fe_set_answer(&fe, (struct virtio_czone_reply){ .count = 31 });
	cr_assert_eq(device_ask(fe.device, &request, LIMIT_MS, &reply), -EPROTO);
	cr_assert_eq(reply.count, 0);
	fe_set_answer(&fe, (struct virtio_czone_reply){ .status = 4096 });
	cr_assert_eq(device_ask(fe.device, &request, LIMIT_MS, &reply), -EPROTO);
	fe_set_answer(&fe, (struct virtio_czone_reply){ .status = 0x80000000 });
	cr_assert_eq(device_ask(fe.device, &request, LIMIT_MS, &reply), -EPROTO);
	cr_assert_eq(ping(), 0);
	fe_guest_stop(&fe);
	/* ids that nobody waits for, by the hundred */
	while (fe_wait_used(q, 0, &used))
		;
	gpa = good_buffer();
	memcpy(fe_at(&fe, gpa), &r, sizeof(r));
	for (int i = 0; i < 1000; i++) {
		one_descriptor(q, gpa, sizeof(r), 0);
		fe_kick(q);
		cr_assert(fe_wait_used(q, LIMIT_MS, &used), "number %d", i);
	}
	fe_guest_start(&fe);
	cr_assert_eq(ping(), 0);
	/* and one that is cut off stops the queue: requests fail at once */
	fe_guest_stop(&fe);
	one_descriptor(q, gpa, 15, 0);
	fe_kick(q);
	cr_assert(complained("reply is too short"), "%s", log_text);
	cr_assert_eq(ping(), -EPROTO);
	restart_driver();
	works();
	fe_close(&fe);
}

/* What it says of its zones bounds the work that counting their memory makes. */
struct extents_case {
	char name[32];
	uint64_t value[4];
};

static struct extents_case extents_cases[] = {
	{ "boot memory", { 0, CZONE_BLOCK_SIZE } },
	{ "outside", { POOL - CZONE_BLOCK_SIZE, 2 * CZONE_BLOCK_SIZE } },
	{ "wraps", { POOL, -CZONE_BLOCK_SIZE } },
	{ "no blocks", { POOL, PAGE } },
	{ "empty", { POOL, 0 } },
	{ "twice the pool", { POOL, POOL_SIZE, POOL, POOL_SIZE } },
};

ParameterizedTestParameters(hostile, extents)
{
	return cr_make_param_array(struct extents_case, extents_cases,
				   sizeof(extents_cases) / sizeof(extents_cases[0]));
}

ParameterizedTest(struct extents_case *c, hostile, extents, .timeout = 60)
{
	struct virtio_czone_reply answer = { .zone = 1, .count = c->value[3] ? 4 : 2 };
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct host_vm host = { 0 };
	struct czone_vm vm = { .driver = &czone_host_driver, .refs = 1, .priv = &host };
	struct czone_range range[2];
	czone *zone;

	boot();
	host.device = fe.device;
	pthread_mutex_init(&vm.lock, NULL);
	cr_assert_eq(czone_lookup(&vm, 1, &zone), 0);
	memcpy(answer.value, c->value, sizeof(c->value));
	fe_set_answer(&fe, answer);
	cr_assert_eq(czone_ranges(zone, range, 2), -EPROTO, "%s", c->name);
	cr_assert_eq(czone_stats(zone, &stats), -EPROTO, "%s", c->name);
	answer = (struct virtio_czone_reply){ .count = 2, .value = { POOL, CZONE_BLOCK_SIZE } };
	fe_set_answer(&fe, answer);
	cr_assert_eq(czone_ranges(zone, range, 2), 1);
	cr_assert_eq(czone_stats(zone, &stats), 0);
	cr_assert_eq(stats.host_resident, CZONE_BLOCK_SIZE);
	czone_unref(zone);
	fe_close(&fe);
}

/* Zones without end, each after a while: the call ends all the same. */
Test(hostile, list_without_end)
{
	struct host_vm host = { 0 };
	struct czone_vm vm = { .driver = &czone_host_driver, .refs = 1, .priv = &host };

	boot();
	host.device = fe.device;
	pthread_mutex_init(&vm.lock, NULL);
	fe.endless_ms = 20;
	cr_assert_eq(czone_list(&vm, NULL, 0), -ETIMEDOUT);
	fe_clock_skip_ms = 0;
	fe_close(&fe);
}

/* ----------------------------------------------------------------- reports */

struct range_case {
	char name[32];
	struct device_range range;
	uint32_t status;
};

static struct range_case range_cases[] = {
	{ "empty", { POOL, 0 }, EINVAL },
	{ "wraps", { UINT64_MAX - PAGE + 1, 2 * PAGE }, EINVAL },
	{ "wraps to zero", { UINT64_MAX - PAGE + 1, PAGE }, EINVAL },
	{ "size unaligned", { POOL, PAGE + 1 }, EINVAL },
	{ "start unaligned", { POOL + 512, PAGE }, EINVAL },
	{ "before the pool", { POOL - PAGE, 2 * PAGE }, EFAULT },
	{ "beyond the pool", { POOL + POOL_SIZE - PAGE, 2 * PAGE }, EFAULT },
	{ "nowhere", { 0x7000000000, PAGE }, EFAULT },
	{ "boot memory", { MIB, PAGE }, EFAULT },
	{ "everything", { 0, (uint64_t)1 << 63 }, EFAULT },
};

ParameterizedTestParameters(hostile, range)
{
	return cr_make_param_array(struct range_case, range_cases,
				   sizeof(range_cases) / sizeof(range_cases[0]));
}

/* A bad range is refused, the good ones around it are released. */
ParameterizedTest(struct range_case *c, hostile, range, .timeout = 60)
{
	struct virtio_czone_report_status status;
	struct device_range range[3] = {
		{ POOL + 5 * MIB, PAGE }, c->range, { POOL + 6 * MIB, PAGE },
	};

	boot();
	status = fe_report(&fe, 1, &c->range, 1);
	cr_assert_eq(status.status, c->status, "%s: %u", c->name, status.status);
	cr_assert_eq(status.done, 0);
	cr_assert_eq(status.bytes, 0);
	pool_is_whole();
	status = fe_report(&fe, 1, range, 3);
	cr_assert_eq(status.status, c->status);
	cr_assert_eq(status.done, 2);
	cr_assert_eq(status.bytes, 2 * PAGE);
	cr_assert_eq(fe_allocated(fe.pool_fd), 8 * MIB - 2 * PAGE);
	works();
	fe_close(&fe);
}

Test(hostile, zone_0_has_no_right_to_half_a_pool)
{
	const struct device_range range[] = {
		{ POOL + POOL_SIZE - PAGE, 2 * PAGE },
		{ BOOT_LOW_SIZE - PAGE, 2 * PAGE },	/* two regions at once */
		{ POOL, PAGE },				/* but to all of it */
	};

	boot();
	cr_assert_eq(fe_report(&fe, CZONE_ID_VM, &range[0], 1).status, EFAULT);
	cr_assert_eq(fe_report(&fe, CZONE_ID_VM, &range[1], 1).status, EFAULT);
	pool_is_whole();
	cr_assert_eq(fe_report(&fe, CZONE_ID_VM, &range[2], 1).bytes, PAGE);
	fe_close(&fe);
}

Test(hostile, counts_that_lie)
{
	const struct device_range range = { POOL, PAGE };
	const uint32_t counts[] = { 2, 256, 257, 0x10000000, 0xffffffff };
	struct virtio_czone_report_status status;

	boot();
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		status = fe_report_end(&fe, fe_report_begin(&fe, 1, &range, 1, counts[i]));
		cr_assert_eq(status.status, EINVAL, "count %u: %u", counts[i], status.status);
		cr_assert_eq(status.done, 0);
	}
	pool_is_whole();
	status = fe_report_end(&fe, fe_report_begin(&fe, 1, &range, 1, 0));
	cr_assert_eq(status.bytes, 0);
	pool_is_whole();
	cr_assert_eq(device_returned(fe.device), 0);
	works();
	fe_close(&fe);
}

Test(hostile, the_same_range_many_times)
{
	struct virtio_czone_report_status status;
	struct device_range range[256];

	boot();
	for (int i = 0; i < 256; i++)
		range[i] = (struct device_range){ POOL, MIB + i * PAGE };
	status = fe_report(&fe, 1, range, 256);
	cr_assert_eq(status.status, 0);
	cr_assert_eq(status.bytes, MIB + 255 * PAGE, "what came back is counted once");
	fe_close(&fe);
}

/* A guest that takes its own kernel away: its rings read as zeroes afterwards. */
Test(hostile, suicide)
{
	struct device_range all = { 0, BOOT_LOW_SIZE };

	boot();
	fe_guest_stop(&fe);
	fe_report_begin(&fe, CZONE_ID_VM, &all, 1, 1);
	for (int i = 0; i < 200 && fe.q[2].avail->idx; i++)
		usleep(10000);
	cr_assert_eq(fe.q[2].avail->idx, 0, "the rings are still there");
	for (int i = 0; i < VHOST_USER_QUEUES; i++)
		fe_kick(&fe.q[i]);
	restart_driver();
	works();
	fe_close(&fe);
}

/* -------------------------------------------------------------------- VMM */

static bool region_refused(const struct vhost_user_mem_region *region, const int *fd)
{
	return fe_command(&fe, VHOST_USER_ADD_MEM_REG, region, sizeof(*region), fd);
}

Test(hostile, messages_of_nonsense)
{
	struct vhost_user_mem_region region = {
		.start = 0, .size = MIB, .user = USER_BOOT + 1024 * MIB,
	};
	static const char waste[100000];
	struct vhost_user_message reply;
	int fd;

	boot();
	/* unknown, too short, far too long, of another version */
	cr_assert_neq(fe_command(&fe, 77, NULL, 0, NULL), 0);
	cr_assert_neq(fe_command(&fe, 0, NULL, 0, NULL), 0);
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_VRING_NUM, waste, 4, NULL), 0);
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_VRING_NUM, waste, sizeof(waste), NULL), 0);
	fe_send(&fe, VHOST_USER_GET_FEATURES, NULL, 0, NULL, 2);
	fe_receive(&fe, VHOST_USER_GET_FEATURES, &reply);
	cr_assert_eq(ping(), 0);

	/* queues that do not exist, sizes that cannot be */
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_VRING_NUM,
				 &(struct vhost_vring_state){ 3, 256 }, 8, NULL), 0);
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_VRING_ENABLE,
				 &(struct vhost_vring_state){ 0xffffffff, 1 }, 8, NULL), 0);
	fe_send(&fe, VHOST_USER_GET_VRING_BASE, &(struct vhost_vring_state){ 99, 0 }, 8, NULL, 0);
	fe_receive(&fe, VHOST_USER_GET_VRING_BASE, &reply);
	cr_assert_eq(ping(), 0);

	/* fds: missing, and where none belongs */
	cr_assert_neq(fe_command(&fe, VHOST_USER_SET_VRING_KICK, &(uint64_t){ 1 }, 8, NULL), 0);
	cr_assert(region_refused(&region, NULL));
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(fe_command(&fe, VHOST_USER_SET_OWNER, NULL, 0, &fd), 0);
	/* memory: overlapping, wrapping, no file, longer than its file */
	cr_assert(region_refused(&region, &fe.boot_fd));
	region.start = 0x7000000000;
	cr_assert(region_refused(&region, &fd));
	region.size = UINT64_MAX - PAGE + 1;
	cr_assert(region_refused(&region, &fe.boot_fd));
	region.size = BOOT_LOW_SIZE + BOOT_HIGH_SIZE + PAGE;
	cr_assert(region_refused(&region, &fe.boot_fd));
	region.size = 0;
	cr_assert(region_refused(&region, &fe.boot_fd));
	close(fd);
	works();
	fe_close(&fe);
}

/* What a VMM may not give us as memory, though it is a file and long enough. */
Test(hostile, memory_that_is_none)
{
	struct vhost_user_mem_region region = {
		.start = 0x7000000000, .size = MIB, .user = USER_BOOT + 1024 * MIB + 8,
	};
	int fd;

	boot();
	/* a part of a page: rings would not be aligned */
	cr_assert(region_refused(&region, &fe.boot_fd));
	cr_assert(complained("whole pages"), "%s", log_text);
	/* a file on a disk gives no memory back, and one on FUSE may never answer */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	region.user -= 8;
	region.size = PAGE;
	cr_assert(region_refused(&region, &fd));
	cr_assert(complained("no tmpfs, memfd or hugetlbfs"), "%s", log_text);
	close(fd);
	works();
	fe_close(&fe);
}

Test(hostile, messages_leak_no_fds)
{
	unsigned int before;
	int fd;

	boot();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	before = fe_open_fds();
	for (int i = 0; i < 50; i++) {
		fe_command(&fe, VHOST_USER_SET_OWNER, NULL, 0, &fd);
		fe_command(&fe, 99, NULL, 0, &fd);
		fe_command(&fe, VHOST_USER_SET_VRING_ERR, &(uint64_t){ 0 }, 8, &fd);
		fe_command(&fe, VHOST_USER_SET_VRING_KICK, &(uint64_t){ 7 }, 8, &fd);
		fe_command(&fe, VHOST_USER_ADD_MEM_REG, &fd, 4, &fd);
	}
	cr_assert_eq(fe_open_fds(), before);
	close(fd);
	fe_close(&fe);
}

Test(hostile, message_in_pieces)
{
	struct vhost_user_header header = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0 };
	struct vhost_user_message reply;

	boot();
	for (size_t i = 0; i < sizeof(header); i++) {
		cr_assert_eq(send(fe.socket, (char *)&header + i, 1, 0), 1);
		usleep(2000);
		if (i == 5)
			cr_assert_eq(ping(), 0);	/* nobody waits for the rest */
	}
	fe_receive(&fe, VHOST_USER_GET_FEATURES, &reply);
	fe_close(&fe);
}

Test(hostile, hang_up_in_the_middle_of_a_message)
{
	struct vhost_user_header header = { VHOST_USER_ADD_MEM_REG, VHOST_USER_VERSION, 40 };

	boot();
	cr_assert_eq(send(fe.socket, &header, sizeof(header), 0), (ssize_t)sizeof(header));
	fe_close(&fe);
}

Test(hostile, private_memory)
{
	czone_set_log(keep_log, NULL);
	fe_open(&fe);
	fe.private_memory = true;
	fe_driver_start(&fe, NULL);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), -EOPNOTSUPP);
	cr_assert(complained("share=off"), "%s", log_text);
	fe_close(&fe);
}

Test(hostile, legacy_driver)
{
	struct vhost_vring_state enable = { 0, 1 };

	fe_open(&fe);
	fe_driver_start(&fe, NULL);
	fe_driver_stop(&fe, NULL);
	fe_command(&fe, VHOST_USER_SET_FEATURES, &(uint64_t){ 1ULL << 30 }, 8, NULL);
	cr_assert_eq(fe_command(&fe, VHOST_USER_SET_VRING_ENABLE, &enable, sizeof(enable), NULL),
		     0);
	cr_assert_eq(device_wait_ready(fe.device, 100), -ETIMEDOUT);
	fe_close(&fe);
}

/* The VMM's file is not sealed, and gets shorter than it said. */
Test(hostile, memory_that_shrinks)
{
	int fd = memfd_create("unsealed", MFD_CLOEXEC);

	czone_set_log(keep_log, NULL);
	cr_assert_eq(ftruncate(fd, BOOT_LOW_SIZE + BOOT_HIGH_SIZE), 0);
	fe_open(&fe);
	munmap(fe.boot, BOOT_LOW_SIZE + BOOT_HIGH_SIZE);
	close(fe.boot_fd);
	fe.boot_fd = fd;
	fe.boot = mmap(NULL, BOOT_LOW_SIZE + BOOT_HIGH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       fd, 0);
	for (int i = 0; i < VHOST_USER_QUEUES; i++) {
		fe.q[i].desc = fe_at(&fe, fe.q[i].desc_gpa);
		fe.q[i].avail = fe_at(&fe, fe.q[i].avail_gpa);
		fe.q[i].used = fe_at(&fe, fe.q[i].used_gpa);
	}
	fe_driver_start(&fe, NULL);
	fe_post_events(&fe, 0, 16);
	fe_guest_start(&fe);
	cr_assert_eq(device_wait_ready(fe.device, LIMIT_MS), 0);
	cr_assert_eq(ping(), 0);
	fe_guest_stop(&fe);
	cr_assert_eq(ftruncate(fd, 0), 0);
	for (int i = 0; i < VHOST_USER_QUEUES; i++)
		cr_assert_eq(write(fe.q[i].kick, &(uint64_t){ 1 }, 8), 8);
	cr_assert(complained("has shrunk"), "%s", log_text);
	cr_assert_eq(ping(), -EPROTO);
	/* our own view has no memory either any more */
	cr_assert_eq(ftruncate(fd, BOOT_LOW_SIZE + BOOT_HIGH_SIZE), 0);
	restart_driver();
	cr_assert_eq(ping(), 0);
	fe_close(&fe);
}

static void block_here(enum czone_log_level level, const char *message, void *hold)
{
	(void)level;
	(void)message;
	pthread_mutex_lock(hold);
	pthread_mutex_unlock(hold);
}

/* The device's threads do not call it: requests go on while it stands. */
Test(hostile, log_function_that_blocks)
{
	static pthread_mutex_t hold = PTHREAD_MUTEX_INITIALIZER;

	czone_set_log(block_here, &hold);
	pthread_mutex_lock(&hold);
	fe_boot(&fe);
	for (int i = 0; i < 200; i++)
		fe_command(&fe, 99, NULL, 0, NULL);
	cr_assert_eq(ping(), 0);
	pthread_mutex_unlock(&hold);
	fe_close(&fe);
}

/* Another user's process says it holds a VM of ours, and names files for us to punch. */
Test(hostile, takeover_of_what_another_user_made)
{
	struct device *device;
	struct takeover theirs;
	int ready[2];
	pid_t pid;
	char c;

	if (geteuid())
		cr_skip_test("only root can be another user");
	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		if (setgid(65534) || setuid(65534) || takeover_new(&theirs, "/run/ours"))
			_exit(1);
		theirs.file->server_start = 0;
		theirs.file->vmm = getpid();
		c = write(ready[1], "", 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &c, 1), 1);
	cr_assert_eq(device_adopt("/run/ours", &device), -ENOENT);
	kill(pid, SIGKILL);
	/* the same of our own is found */
	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		if (takeover_new(&theirs, "/run/ours"))
			_exit(1);
		c = write(ready[1], "", 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &c, 1), 1);
	cr_assert_eq(device_adopt("/run/ours", &device), -EBUSY);
	kill(pid, SIGKILL);
}

/* What is always ready would keep the thread of all VMs busy. */
Test(hostile, kicks_from_no_eventfd)
{
	struct timespec before, after;
	uint64_t index = VIRTIO_CZONE_VQ_REPORT;
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
	int pair[2];

	boot();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[1]);
	cr_assert_eq(fe_command(&fe, VHOST_USER_SET_VRING_KICK, &index, sizeof(index), &pair[0]), 0);
	cr_assert(complained("from no eventfd"), "%s", log_text);
	clock_gettime(clock, &before);
	usleep(300000);
	clock_gettime(clock, &after);
	cr_assert_lt((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000,
		     100, "it is busy with nothing");
	close(pair[0]);
	restart_driver();
	works();
	fe_close(&fe);
}

/* No room for its connection: the VMM is told by an end of it, the caller by an error. */
Test(hostile, no_descriptor_for_the_connection)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct rlimit limit, none;
	struct device *device;
	int fd, highest;
	char c;

	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/czone-unit-full-%d", getpid());
	cr_assert_eq(device_open(address.sun_path, &device), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	highest = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	close(highest);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ highest, limit.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(device_wait_ready(device, LIMIT_MS), -ESHUTDOWN);
	cr_assert_leq(read(fd, &c, 1), 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(fd);
	device_close(device);
}
