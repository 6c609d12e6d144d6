/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VMM and a guest for the device under test: the front-end of vhost-user on a
 * real socket, memory in real memfds, and a driver on real rings in them.
 */
#ifndef TESTS_UNIT_FRONT_END_H
#define TESTS_UNIT_FRONT_END_H

#include "host/device.h"
#include "host/vhost_user.h"

#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define LIMIT_MS 10000		/* nothing here takes longer */

#define MIB ((uint64_t)1 << 20)
#define PAGE 4096u

/* Boot memory is two regions of one file, with a gap between them, as on a PC. */
#define BOOT_LOW_SIZE (8 * MIB)
#define BOOT_HIGH ((uint64_t)1 << 32)
#define BOOT_HIGH_SIZE (8 * MIB)
#define POOL ((uint64_t)2 << 32)
#define POOL_SIZE (64 * MIB)
#define USER_BOOT 0x7f1234567000ull
#define USER_HIGH 0x7f5234567000ull
#define USER_POOL 0x7f9234567000ull

#define QUEUE_NUM 256

/* For a measurement, before fe_open(): the pool's size, and a tmpfs for its file; NULL: a memfd. */
extern uint64_t fe_pool_size;
extern const char *fe_pool_dir;

struct fe_queue {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	int kick, call;
	uint16_t next_desc, next_avail, seen_used, kicked_at;
	bool event_idx;
};

struct front_end {
	char path[108];
	struct device *device;
	int socket;
	int boot_fd, pool_fd;
	char *boot, *pool;		/* this "guest"'s view of them */
	uint64_t features;		/* acknowledged; 0: all that are offered */
	bool private_memory;		/* hand over none */
	bool has_memory;
	struct fe_queue q[VHOST_USER_QUEUES];
	atomic_uint_least64_t next_buffer;	/* gpa */
	uint64_t reply_gpa;		/* one reply for each descriptor */
	uint64_t event_gpa[16];

	/* The guest's thread: answers requests, by a test's own rule if that returns true. */
	bool (*rule)(const struct virtio_czone_request *request, struct virtio_czone_reply *reply);
	pthread_t guest;
	bool guest_runs;
	atomic_bool guest_stop;
	atomic_int silent;		/* do not answer CREATE */
	atomic_uint endless_ms;		/* each NEXT finds another zone, after so long */
	atomic_uint_least64_t keeps;	/* STATS: bytes of pool that this kernel has */
	atomic_int add_region_status;
	atomic_int offers;		/* ADD_REGION seen */
	atomic_uint_least64_t offer_flags;	/* of the last one */
	pthread_mutex_t lock;
	struct virtio_czone_request last;	/* the last one without a rule for it */
	struct virtio_czone_reply answer;	/* what it gets; id is filled in */
	uint32_t last_reply_id;
};

/* Open a device and connect to it: the VMM has started, no driver yet. */
void fe_open(struct front_end *fe);

/* fe_open(), add the pool, start the driver and the guest's thread, wait until it is ready. */
void fe_boot(struct front_end *fe);

/* Stop the guest, hang up, close the device. */
void fe_close(struct front_end *fe);

/* Send, with an answer if the request has one or need_ack is set (then its u64 is returned). */
void fe_send(struct front_end *fe, uint32_t request, const void *payload, uint32_t size,
	     const int *fd, uint32_t flags);
void fe_receive(struct front_end *fe, uint32_t request, struct vhost_user_message *reply);
uint64_t fe_ask(struct front_end *fe, uint32_t request);
uint64_t fe_command(struct front_end *fe, uint32_t request, const void *payload, uint32_t size,
		    const int *fd);

/* DRIVER_OK and its opposite, as QEMU turns them into messages. base: per queue, NULL is 0. */
void fe_driver_start(struct front_end *fe, const uint16_t *base);
void fe_driver_stop(struct front_end *fe, uint16_t *ret_base);
void fe_add_memory(struct front_end *fe);
void fe_add_region(struct front_end *fe, uint64_t gpa, uint64_t size, uint64_t user,
		   uint64_t offset, int fd);

void fe_guest_start(struct front_end *fe);
void fe_guest_stop(struct front_end *fe);

/* Answer a request; count says how many values. Not while the guest's thread runs. */
void fe_reply(struct front_end *fe, const struct virtio_czone_reply *reply);

/* What the guest answers to requests that it has no rule for, and the last one of these. */
void fe_set_answer(struct front_end *fe, struct virtio_czone_reply answer);
struct virtio_czone_request fe_last(struct front_end *fe);

/* Raw rings. */
void *fe_at(struct front_end *fe, uint64_t gpa);
uint64_t fe_alloc(struct front_end *fe, uint64_t size);
uint16_t fe_desc(struct fe_queue *q, uint64_t addr, uint32_t len, uint16_t flags);
void fe_expose(struct fe_queue *q, uint16_t head);
void fe_kick(struct fe_queue *q);	/* only if the device wants it */
bool fe_wait_used(struct fe_queue *q, unsigned int timeout_ms, struct vring_used_elem *ret);
void fe_post_events(struct front_end *fe, unsigned int from, unsigned int n);

/* A report; returns where its status will be. */
uint64_t fe_report_begin(struct front_end *fe, uint32_t zone, const struct device_range *range,
			 uint32_t n, uint32_t claimed);
struct virtio_czone_report_status fe_report_end(struct front_end *fe, uint64_t status_gpa);
struct virtio_czone_report_status fe_report(struct front_end *fe, uint32_t zone,
					    const struct device_range *range, uint32_t n);

uint64_t fe_allocated(int fd);
void fe_fill(char *memory, uint64_t offset, uint64_t size);
unsigned int fe_open_fds(void);
uint64_t fe_now_ms(void);

/* fallocate() of the whole program comes here: counted, and held up while the gate is shut. */
extern atomic_uint fe_punches;
void fe_gate(bool shut);

/* Of this file from now on: fe_punches at the first one. */
void fe_watch(int fd);
extern atomic_uint fe_watched_at;

/* The library's clock is so much later, where a test is linked with --wrap=now_ms and its like. */
extern atomic_uint_least64_t fe_clock_skip_ms;
void fe_gate_wait(void);	/* until somebody stands before it */

#endif /* TESTS_UNIT_FRONT_END_H */
