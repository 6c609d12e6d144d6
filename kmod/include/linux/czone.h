/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * czone: per-container memory zones, the interface inside the kernel.
 *
 * mm/czone*.c implements it; generic netlink and the virtio driver call it.
 * The mm side knows no transport: whoever can give memory to a host registers
 * a struct czone_transport.
 */
#ifndef _LINUX_CZONE_H
#define _LINUX_CZONE_H

#include <linux/types.h>
#include <linux/list.h>
#include <uapi/linux/czone.h>

struct cgroup;

#define CZONE_BATCH_RANGES	256

/**
 * struct czone_batch - ranges on their way to the host
 * @list:	for the owner of the moment
 * @zone:	id of the zone that they came from
 * @count:	how many ranges
 * @range:	the ranges; nobody touches them until czone_batch_complete()
 * @transport_private: for the transport
 *
 * Filled by the mm side. A transport that accepted a batch owns it until it
 * calls czone_batch_complete().
 */
struct czone_batch {
	struct list_head list;
	u32 zone;
	u32 count;
	struct czone_extent range[CZONE_BATCH_RANGES];
	void *transport_private;
};

/**
 * struct czone_transport - a way to give memory to a host
 * @name:		for messages
 * @report_shift:	log2 of the smallest range worth reporting
 * @backing_shift:	log2 of the host page that a first touch takes
 * @zeroes:		reported memory reads as zero afterwards
 * @max_ranges:		ranges per batch, at most CZONE_BATCH_RANGES
 * @submit:		hand over a batch; does not sleep longer than for a free
 *			slot, does not allocate with reclaim. 0, or -errno when the
 *			batch was not taken (-EAGAIN: all slots busy, try again;
 *			-ENODEV: the host cannot be reached).
 * @notice:		tell the host something, if that is possible right now: any
 *			task, must not sleep or allocate. Or NULL.
 *
 * A transport that goes away must make sure that the host can no longer act on
 * batches in flight, complete these with -ENODEV, then unregister.
 */
struct czone_transport {
	const char *name;
	u8 report_shift;
	u8 backing_shift;
	bool zeroes;
	u32 max_ranges;
	int (*submit)(struct czone_transport *t, struct czone_batch *batch);
	void (*notice)(struct czone_transport *t, enum czone_notice kind, u32 zone, u64 value);
};

int czone_register_transport(struct czone_transport *t);
void czone_unregister_transport(struct czone_transport *t);

/*
 * Called exactly once per accepted batch, in process or softirq context, when
 * the host has answered: @status 0 or -errno, @bytes as the host measured.
 */
void czone_batch_complete(struct czone_batch *batch, int status, u64 bytes);

/* To the host, if that is possible right now. Any task, also one that must not sleep. */
void czone_tell(enum czone_notice kind, u32 id, u64 value);

/* Bytes, each array indexed as the uapi header says. Process context, may sleep. */
int czone_region_add(u64 start, u64 size, bool zeroed);
int czone_create(u64 size, u32 flags, u32 file_zone, u32 *ret_id);
int czone_resize(u32 id, u64 size);
int czone_attach(u32 id, struct cgroup *cgrp, u32 flags, unsigned int timeout_ms,
		 u64 result[__CZONE_RESULT_MAX]);
int czone_destroy(u32 id, u32 flags, unsigned int timeout_ms,
		  u64 result[__CZONE_RESULT_MAX]);
int czone_reclaim(u32 id, u64 bytes, u32 flags, unsigned int timeout_ms,
		  u64 result[__CZONE_RESULT_MAX]);
int czone_set_idle(u32 id, u32 delay_ms, u64 floor);
int czone_stats(u32 id, u64 stat[__CZONE_STAT_MAX]);

/* The first zone with an id above @after, or 0. */
u32 czone_next(u32 after);

/* Up to @max extents from index @first on; how many were copied, or -errno. */
int czone_extents(u32 id, unsigned int first, struct czone_extent *extent,
		  unsigned int max);

#endif /* _LINUX_CZONE_H */
