/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The czone-virtio device of one VM, served by this process: what the rest of
 * the host half sees of it. Nothing here knows libvirt or QEMU.
 */
#ifndef LIB_HOST_DEVICE_H
#define LIB_HOST_DEVICE_H

#include <czone.h>
#include <linux/virtio_czone.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct device;

/* Listen on a unix socket (mode 0600, removed at close) for one VMM to connect. */
int device_open(const char *socket_path, struct device **ret_device);

/*
 * Go on with the device of a running VM whose process has died or has let it go:
 * the one that was opened with this socket path, and handed over. -ENOENT: there
 * is none; -EBUSY: its process lives; -EPERM: we may not.
 */
int device_adopt(const char *socket_path, struct device **ret_device);

/*
 * What the VMM must hold, so that another process can adopt the device: duplicates
 * of our end of its socket, and of the state. -ENOTCONN: it has not connected.
 */
int device_hand_over(struct device *device, int ret_fds[2]);

/* Stop serving: every call fails with -ESHUTDOWN from now on. */
void device_shut(struct device *device);

/* Stop serving, wake every waiter with -ESHUTDOWN, free. NULL is fine. */
void device_close(struct device *device);

/*
 * Which guest-physical range is the pool, and the host page size behind it.
 * Before the guest's driver starts, or later for one that is hot-added. The
 * device offers it to the guest (VIRTIO_CZONE_OP_ADD_REGION) once the VMM has
 * handed over the memory, and releases nothing outside pool ranges, except
 * reports for CZONE_ID_VM inside boot memory.
 */
int device_add_pool(struct device *device, uint64_t start, uint64_t size, unsigned int backing_shift);

/*
 * The least that a report may name, log2. Before the guest's driver starts.
 * -EINVAL: a guest's driver would not take it.
 */
int device_set_report_shift(struct device *device, unsigned int shift);

/*
 * Who is told what happens to the guest, from now on. Called with the device's
 * lock held, in threads that must not wait.
 */
typedef void device_news_fn(void *userdata, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
			    int error);
void device_set_news(struct device *device, device_news_fn *fn, void *userdata);

/* Calls that wait look whether they were cancelled. */
void device_wake(struct device *device);

/*
 * Wait until the driver is up and has taken every pool range; that it has refused
 * one is a failure if it is the first. -ECANCELED: czone_cancelled().
 */
int device_wait_ready(struct device *device, uint32_t timeout_ms);

/*
 * How the pool range that begins there stands: 1: the guest has it; 0: not yet; or
 * why it has refused it; -ENOENT: there is none. After device_add_pool(), which
 * offers again what was refused. -ECANCELED: czone_cancelled().
 */
int device_pool_state(struct device *device, uint64_t start);
int device_wait_pool(struct device *device, uint64_t start, uint32_t timeout_ms);

struct device_request {
	uint16_t op;		/* enum virtio_czone_op */
	uint32_t zone;
	uint64_t arg[4];
	const char *path;	/* or NULL */
};

struct device_reply {
	uint32_t zone;
	uint32_t count;
	uint64_t value[VIRTIO_CZONE_VALUES_MAX];
};

/*
 * Ask the guest and wait. Any thread. Returns the guest's status as a negative
 * errno (the reply is filled then, too), -ETIMEDOUT when there was no answer a
 * little after timeout_ms, -ENOTCONN without a driver, -ESHUTDOWN when the VM
 * has gone or the device is closed, -ECANCELED when czone_cancelled().
 */
int device_ask(struct device *device, const struct device_request *request, uint32_t timeout_ms,
	       struct device_reply *ret_reply);

struct device_range {
	uint64_t start;
	uint64_t size;
};

/*
 * Can these be parts of a zone? Blocks inside the pools, and no more than the
 * pools have: so what the guest says of them bounds the work that it makes.
 */
bool device_plausible(struct device *device, const struct device_range *range, size_t n);

/* Host memory behind guest-physical ranges, by SEEK_DATA and SEEK_HOLE. */
int device_resident(struct device *device, const struct device_range *range, size_t n,
		    uint64_t *ret_bytes);

/* Allocated blocks of the files behind the pool and behind the boot memory, each inode once. */
int device_allocated(struct device *device, uint64_t *ret_pool, uint64_t *ret_boot);

/* Where zones can be: the pools without their memory map; how many. */
size_t device_pools(struct device *device, struct device_range ret_range[]);

/*
 * Release these parts of the pools, which were found plausible, and which the
 * caller knows that nobody uses. Waits for the host only, and looks at the time after each
 * part. -EBUSY: another call does so; -ENOTCONN: the guest is another one now, or none.
 */
int device_release(struct device *device, const struct device_range *range, size_t n,
		   uint32_t timeout_ms, uint64_t *ret_bytes);

/*
 * What zones that the guest makes by itself may have, all of them and each; 0: no limit. Those
 * beyond it are destroyed when its kernel tells, which is news: CZONE_EVENT_OVER_QUOTA.
 */
void device_set_quota(struct device *device, uint64_t pool_bytes, uint64_t zone_bytes);

/* Bytes that reports have brought back so far. */
uint64_t device_returned(struct device *device);

/* The VMM's process, from the socket's credentials; 0 before it has connected. */
pid_t device_peer(struct device *device);

#endif /* LIB_HOST_DEVICE_H */
