/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device model, shared by device.c (life, connection, queues), request.c
 * (what we ask the guest), report.c (what it gives back), pool.c (what it
 * gets), quota.c (what it may have) and release.c (what is taken from it). One lock per device; functions here are called with it held unless
 * they say otherwise.
 */
#ifndef LIB_HOST_DEVICE_INTERNAL_H
#define LIB_HOST_DEVICE_INTERNAL_H

#include "device.h"
#include "memory.h"
#include "poll_thread.h"
#include "punch.h"
#include "takeover.h"
#include "vhost_user.h"
#include "vhost_user_socket.h"

#include <czone.h>

#define DEVICE_MAX_RANGES 256

_Static_assert((int)VIRTIO_CZONE_VQ_MAX == VHOST_USER_QUEUES, "number of queues");

/* On its way to the guest, or back; on the stack of who waits, or part of a pool. */
struct request {
	struct request *next;
	struct device_request ask;
	uint64_t deadline;
	uint32_t timeout_ms;
	uint32_t id;
	bool sent;
	bool done;
	bool replied;		/* error is the guest's answer */
	int error;
	struct device_reply reply;
	void (*answered)(struct device *device, struct request *request);	/* or NULL */
};

enum pool_state {
	POOL_WAITING,	/* for the driver, or for the VMM to hand the memory over */
	POOL_CLEANING,	/* being punched, so that all of it reads as zero */
	POOL_OFFERED,
	POOL_TAKEN,
	POOL_REFUSED,
};

struct pool {
	uint64_t start, size;
	enum pool_state state;
	bool clean;		/* punched since the guest's driver started from nothing */
	bool known;		/* offered at some time: the guest may have it */
	int error;		/* why it is refused */
	struct request offer;
};

enum probe_state { PROBE_NEEDED, PROBE_ASKED, PROBE_DONE };

struct queue_source {
	struct poll_source source;
	struct device *device;
	unsigned int index;
};

struct device {
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* a request, a pool or the connection has */
	unsigned int users;		/* calls that wait or work without the lock */
	bool closing;
	bool gone;			/* the VMM has left */
	bool private_memory;

	char *path;
	int listen_fd;			/* -1 once there is a VMM */
	struct poll_source listener, connection;
	struct vhost_user_reader reader;
	pid_t peer;
	struct takeover takeover;
	bool adopted;			/* from a process that died, and not seen anew since */

	struct memory memory;
	struct vhost_user vu;
	struct queue_source kick[VHOST_USER_QUEUES];
	struct virtqueue_buffer buffer;	/* the one being looked at */

	bool up;			/* all queues run */
	unsigned int session;		/* counts how often they did */

	struct request *requests;	/* in the order in which they were made */
	uint32_t last_id;

	struct pool pool[MEMORY_POOLS_MAX];
	unsigned int n_pools;
	enum probe_state probe;
	bool guest_keeps;		/* the guest has pools from before its driver started */
	struct request probing;

	struct punch_queue punch;
	atomic_uint_least64_t returned;

	struct {		/* release.c */
		bool busy, done;
		uint64_t id;
		uint64_t bytes;
		int error;
	} release;

	uint64_t quota_pool, quota_zone;	/* quota.c; 0: none */
	unsigned int refusals;			/* requests for it that are under way */

	device_news_fn *news;
	void *news_userdata;
	bool told_ready;		/* and not yet that it is lost */
	uint64_t notices_at;		/* ms */
	unsigned int notices;

	uint64_t complaints_at;		/* ms */
	unsigned int complaints;
};

static inline struct virtqueue *device_vq(struct device *d, enum virtio_czone_vq index)
{
	return &d->vu.queue[index].ring;
}

/* Something that only a broken guest or VMM does; the rate is limited. */
void device_complain(struct device *d, const char *format, ...) CZONE_PRINTF(2, 3);

/* Tell whoever wants to know. */
void device_tell(struct device *d, enum czone_event_kind kind, uint32_t zone, uint64_t bytes);
void device_tell_error(struct device *d, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		       int error);

/* Around everything that lets go of the lock: device_close() waits for it. Without the lock. */
void device_enter(struct device *d);
void device_leave(struct device *d);

/* The driver may have come to be ready. */
void device_tell_ready(struct device *d);

/* Say so if a queue has just broken, and fail the requests that it would have carried. */
void device_check_queue(struct device *d, unsigned int index);

/* Is the memory of its rings still there? Stops the queue otherwise. */
bool device_queue_mapped(struct device *d, unsigned int index);

/* request.c: made by `start`, over when `answered` is called or done is set. */
int request_start(struct device *d, struct request *r, uint32_t timeout_ms);
void request_forget(struct device *d, struct request *r);
void requests_send(struct device *d);
void requests_fail(struct device *d, int error);
void request_take_reply(struct device *d, const struct virtqueue_buffer *b);

/* quota.c: the guest has made a zone. */
void quota_zone_made(struct device *d, uint32_t zone, uint64_t size);

/* report.c */
void report_take(struct device *d, const struct virtqueue_buffer *b);

/* pool.c */
void pools_driver_started(struct device *d, bool anew);
void pools_driver_stopped(struct device *d);
void pools_advance(struct device *d);

/* device.c: the parts of a device that any way to make one needs; without the lock. */
struct device *device_new(const char *socket_path);
void device_free(struct device *d);
void device_config_set(struct device *d, unsigned int backing_shift, unsigned int report_shift);

/* The threads that serve all devices of the process. */
int device_threads_get(void);
void device_threads_put(void);

/*
 * adopt.c: note for another process how things stand; `handled`: and that the
 * message of now is handled. Not while one is being handled.
 */
void device_save(struct device *d, bool handled);

/* Handle a message that is noted, and answer it. */
void device_answer(struct device *d, struct vhost_user_message *m);

/* Frees a job of either of the two; without the lock, or with it. */
void device_free_job(struct punch_job *job);

#endif /* LIB_HOST_DEVICE_INTERNAL_H */
