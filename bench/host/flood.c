// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How long a reclaim of one VM takes while the guest of another one floods its
 * queues as fast as it can.
 *
 * usage: flood RECLAIMS
 *
 * Both VMs are served by this process; their guests are the front end of the unit
 * tests, on real rings. The flooding one is another process: it keeps its report
 * queue full of reports of 256 single pages, which it has touched before, its reply
 * queue full of replies to nothing, and kicks all queues without end. The other
 * one answers each reclaim by 16 ranges of 256 KiB that it has dirtied. A line for
 * each pair of reclaims: us without the flood, us with it, and how many of the
 * flood's reports were answered per second.
 */
#include "front_end.h"

#include <criterion/criterion.h>
#include <czone.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RANGES 16
#define RANGE ((uint64_t)256 << 10)
#define CHAINS (QUEUE_NUM / 2)

static struct front_end victim, flooder;
static atomic_bool stop;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/*
 * What else the machine does is not what is measured: real-time priorities, where we
 * may have them. The library's threads have 2; the guest that floods has less, and gets
 * what they leave of the CPUs; the other VM's has more, as if it had a CPU of its own.
 */
static void run_at(int priority)
{
	struct sched_param p = { .sched_priority = priority };

	pthread_setschedparam(pthread_self(), SCHED_RR, &p);
}

/* ------------------------------------------------------------------ flood */

static void prepare_reports(struct fe_queue *q)
{
	for (unsigned int i = 0; i < CHAINS; i++) {
		struct virtio_czone_report *report;
		struct virtio_czone_range *range;
		uint64_t size = sizeof(*report) + 256 * sizeof(*range);
		uint64_t gpa = fe_alloc(&flooder, size), status = fe_alloc(&flooder, 16);

		report = fe_at(&flooder, gpa);
		range = (struct virtio_czone_range *)(report + 1);
		*report = (struct virtio_czone_report){ .zone = 1 + i, .count = 256 };
		for (unsigned int k = 0; k < 256; k++)
			range[k] = (struct virtio_czone_range){
				POOL + (uint64_t)(i % 16 * 512 + 2 * k) * PAGE, PAGE,
			};
		q->desc[2 * i] = (struct vring_desc){ gpa, size, VRING_DESC_F_NEXT, 2 * i + 1 };
		q->desc[2 * i + 1] = (struct vring_desc){ status, 16, VRING_DESC_F_WRITE, 0 };
	}
}

static void prepare_replies(struct fe_queue *q)
{
	uint64_t gpa = fe_alloc(&flooder, 256);

	for (unsigned int i = 0; i < QUEUE_NUM; i++)
		q->desc[i] = (struct vring_desc){ gpa, 16, 0, 0 };
}

/* As many buffers as it may have. Returns how many are new. */
static unsigned int fill(struct fe_queue *q, unsigned int most, unsigned int step)
{
	uint16_t used = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
	unsigned int n = 0;

	while ((uint16_t)(q->next_avail - used) < most) {
		fe_expose(q, q->next_avail % most * step);
		n++;
	}
	eventfd_write(q->kick, 1);
	return n;
}

static void flood(void)
{
	struct fe_queue *reports = &flooder.q[VIRTIO_CZONE_VQ_REPORT];
	struct fe_queue *replies = &flooder.q[VIRTIO_CZONE_VQ_REPLY];

	reports->next_avail = reports->used->idx;
	replies->next_avail = replies->used->idx;
	prepare_reports(reports);
	prepare_replies(replies);
	for (;;) {
		unsigned int n = fill(reports, CHAINS, 2);

		/* touch what has been taken, so that there is something to take */
		for (unsigned int i = 0; i < 256 * n; i++)
			flooder.pool[(uint64_t)(i / 256 % 16 * 512 + i % 256 * 2) * PAGE] = 1;
		fill(replies, QUEUE_NUM, 1);
		eventfd_write(flooder.q[VIRTIO_CZONE_VQ_EVENT].kick, 1);
	}
}

static pid_t flood_start(void)
{
	pid_t pid = fork();

	if (!pid) {
		run_at(1);
		flood();
		_exit(0);
	}
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	usleep(20000);
	return pid;
}

static void flood_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ----------------------------------------------------------------- victim */

static void give_back(const struct virtio_czone_request *request)
{
	struct virtio_czone_reply r = { .id = request->id, .zone = request->zone, .count = 2 };
	struct device_range range[RANGES];
	struct virtio_czone_report_status status;

	for (uint64_t i = 0; i < RANGES; i++)
		range[i] = (struct device_range){ POOL + 2 * i * RANGE, RANGE };
	status = fe_report(&victim, 1, range, RANGES);
	r.value[0] = r.value[1] = status.bytes;
	fe_reply(&victim, &r);
	/* as if freed: its buffers are used again */
	victim.next_buffer = victim.next_buffer - 64 - ((sizeof(struct virtio_czone_report) +
			     sizeof(range) + 63) & ~63ull);
}

static void *victim_guest(void *unused)
{
	struct fe_queue *q = &victim.q[VIRTIO_CZONE_VQ_EVENT];

	(void)unused;
	while (!stop) {
		struct virtio_czone_request request;
		struct vring_used_elem used;

		if (!fe_wait_used(q, 20, &used))
			continue;
		memcpy(&request, fe_at(&victim, victim.event_gpa[used.id]), sizeof(request));
		fe_post_events(&victim, used.id, 1);
		give_back(&request);
	}
	return NULL;
}

static uint64_t reclaim(void)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_RECLAIM, .zone = 1 };
	struct device_reply reply;
	uint64_t start;
	int error;

	for (uint64_t i = 0; i < RANGES; i++)
		for (uint64_t at = 0; at < RANGE; at += PAGE)
			victim.pool[2 * i * RANGE + at] = 1;
	start = now_us();
	error = device_ask(victim.device, &request, LIMIT_MS, &reply);
	start = now_us() - start;
	if (error || reply.value[0] != RANGES * RANGE) {
		fprintf(stderr, "reclaim: %d, %llu bytes\n", error,
			(unsigned long long)reply.value[0]);
		exit(1);
	}
	return start;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 0;
	pthread_t guest;

	if (n < 1) {
		fprintf(stderr, "usage: %s RECLAIMS\n", argv[0]);
		return 2;
	}
	run_at(2);
	czone_set_log(NULL, NULL);
	fe_boot(&victim);
	fe_boot(&flooder);
	fe_guest_stop(&victim);
	fe_guest_stop(&flooder);
	run_at(3);
	cr_assert_eq(pthread_create(&guest, NULL, victim_guest, NULL), 0);
	reclaim();
	for (int i = 0; i < n; i++) {
		uint64_t quiet = reclaim();
		uint16_t *used = &flooder.q[VIRTIO_CZONE_VQ_REPORT].used->idx, before;
		pid_t pid = flood_start();
		uint64_t flooded, start = now_us();

		before = __atomic_load_n(used, __ATOMIC_ACQUIRE);
		flooded = reclaim();
		usleep(5000);
		before = __atomic_load_n(used, __ATOMIC_ACQUIRE) - before;
		start = now_us() - start;
		flood_stop(pid);
		usleep(60000);	/* real-time threads may not have all of the CPUs' time */
		printf("%llu %llu %llu\n", (unsigned long long)quiet, (unsigned long long)flooded,
		       1000000ull * before / start);
		fflush(stdout);
	}
	stop = true;
	pthread_join(guest, NULL);
	fe_close(&flooder);
	fe_close(&victim);
	return 0;
}
