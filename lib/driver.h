/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one interface inside the library: what a side (guest, host, test) implements.
 * The public calls check arguments, take care of handles and defaults, and
 * call these; nothing here is public.
 */
#ifndef LIB_DRIVER_H
#define LIB_DRIVER_H

#include "inbox.h"

#include <czone.h>
#include <linux/czone.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct czone_vm;

#define CZONE_SPAWN_FDS_MAX 64

/*
 * Arrays are indexed as kmod/include/uapi/linux/czone.h says; entries that the
 * other side did not send are CZONE_UNKNOWN (stats) or 0 (results).
 * timeout_ms is never 0. All return 0 or a negative errno and call
 * czone_fail() for the detail.
 */
struct czone_driver {
	const char *name;
	void (*close)(struct czone_vm *vm);	/* last reference gone; frees vm->priv */
	int (*stop)(struct czone_vm *vm);
	int (*detach)(struct czone_vm *vm);
	/* by a multiple of 128 MiB; NULL where the pool is somebody else's to give */
	int (*grow)(struct czone_vm *vm, uint64_t bytes, uint32_t timeout_ms);
	int (*create)(struct czone_vm *vm, uint64_t size, uint32_t flags, uint32_t file_zone,
		      uint32_t timeout_ms, uint32_t *ret_id);
	/* result is filled on success, -ENOSPC and -ETIMEDOUT */
	int (*attach)(struct czone_vm *vm, uint32_t id, const char *path, uint32_t flags,
		      uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX]);
	int (*resize)(struct czone_vm *vm, uint32_t id, uint64_t size, uint32_t timeout_ms);
	/* result is filled on success, -EBUSY and -ETIMEDOUT */
	int (*destroy)(struct czone_vm *vm, uint32_t id, uint32_t flags, uint32_t timeout_ms,
		       uint64_t result[__CZONE_RESULT_MAX]);
	int (*reclaim)(struct czone_vm *vm, uint32_t id, uint64_t bytes, uint32_t flags,
		       uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX]);
	/* delay_ms 0 is off; NULL where zones cannot do it */
	int (*set_idle)(struct czone_vm *vm, uint32_t id, uint32_t delay_ms, uint64_t floor,
			uint32_t timeout_ms);
	/* outputs are never NULL; opts are complete; NULL where no process can be started */
	int (*spawn)(struct czone_vm *vm, uint32_t id, const struct czone_spawn_opts *opts,
		     int *ret_pidfd, pid_t *ret_pid);
	int (*stats)(struct czone_vm *vm, uint32_t id, uint64_t stat[__CZONE_STAT_MAX]);
	/* id of the first zone above `after`, 0 when there is none */
	int (*next)(struct czone_vm *vm, uint32_t after, uint32_t *ret_id);
	/* how many there are, ids ascending, copies at most max; NULL: next is asked instead */
	int (*list)(struct czone_vm *vm, uint32_t *ret_ids, size_t max);
	/* how many there are; copies at most max, from index 0 */
	int (*extents)(struct czone_vm *vm, uint32_t id, struct czone_extent *extent, size_t max);
	/* host memory behind these ranges; NULL where the side cannot know */
	int (*resident)(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			uint64_t *ret_bytes);
	/* where zones can be; how many, at most max; NULL where the side cannot know */
	int (*pools)(struct czone_vm *vm, struct czone_extent *extent, size_t max);
	/* release all host memory behind these, which nobody may be using; with `pools` */
	int (*release)(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
		       uint32_t timeout_ms, uint64_t *ret_bytes);
	/* of zones that somebody else makes; 0: none; NULL where the side has none to set */
	int (*set_quota)(struct czone_vm *vm, uint64_t pool_bytes, uint64_t zone_bytes);
	/* the host_... fields and pid of stats; NULL where the side cannot know */
	int (*host_stats)(struct czone_vm *vm, struct czone_vm_stats *stats);
	/* until the guest answers; NULL where it always does */
	int (*wait)(struct czone_vm *vm, uint32_t timeout_ms);
	/* let calls that wait look at czone_cancelled(); NULL: they end by themselves */
	void (*wake)(struct czone_vm *vm);
};

struct czone_op;

struct czone_vm {
	const struct czone_driver *driver;
	atomic_uint refs;
	void *priv;		/* the driver's */
	pthread_mutex_t lock;	/* for all that follows */
	struct czone *zones;	/* the handles on zones that exist, one for each */
	struct inbox inbox;

	/* async.c */
	struct czone_op *waiting, **waiting_end;	/* for a worker */
	unsigned int workers;
	pthread_cond_t worker_gone;

	/* event.c */
	czone_event_fn *event_fn;
	void *event_userdata;
	unsigned int events;	/* in the inbox */
	uint64_t events_lost;

	uint64_t target;	/* of the last czone_set_target(), or CZONE_UNKNOWN */

	/* audit.c */
	uint64_t quota_pool, quota_zone;	/* or 0 */
	uint64_t stray;		/* of the last audit, or CZONE_UNKNOWN */
	uint64_t taken;		/* of all of them */
};

struct czone {
	struct czone_vm *vm;
	atomic_uint refs;
	atomic_bool gone;	/* its id may belong to another zone by now */
	uint32_t id;
	struct czone *next;	/* in vm->zones, unless gone */
};

extern const struct czone_driver czone_guest_driver, czone_host_driver;

/*
 * All set vm->driver and vm->priv, or leave nothing behind. Numbers in the
 * options are complete: of those for which 0 means a default only kvm can be 0.
 */
int czone_guest_open(struct czone_vm *vm);					/* lib/guest/ */
int czone_test_open(struct czone_vm *vm);					/* lib/test/ */
int czone_host_start(struct czone_vm *vm, const struct czone_vm_opts *opts);	/* lib/host/ */
int czone_host_attach(struct czone_vm *vm, const struct czone_vm_opts *opts);
int czone_host_open_domain(struct czone_vm *vm, struct _virDomain *domain, uint32_t timeout_ms,
			   uint64_t flags);
int czone_host_serve(struct czone_vm *vm, const struct czone_serve_opts *opts);
int czone_host_domain_xml(const char *xml, const struct czone_vm_opts *opts, char **ret_xml,
			  char **ret_added);

/*
 * Note the detail text of this thread and return `error` (a negative errno), so
 * that a failure is one line: return czone_fail(-EINVAL, "size %llu ...", ...);
 */
int czone_fail(int error, const char *format, ...) CZONE_PRINTF(2, 3);

/* Tell the program, if it wants to know. Any thread; never waits. */
void czone_event(struct czone_vm *vm, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		 int error);

/* Whether the operation that this thread works at was cancelled. */
bool czone_cancelled(void);

void czone_log(enum czone_log_level level, const char *format, ...) CZONE_PRINTF(2, 3);

#endif /* LIB_DRIVER_H */
