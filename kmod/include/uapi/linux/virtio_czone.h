/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * czone-virtio: a device through which a guest gives memory back to its host.
 *
 * The host asks (create a zone, reclaim so much, ...) in buffers of the event
 * queue, the guest answers on the reply queue, and hands over ranges of memory
 * on the report queue. docs/virtio-czone.md is the specification. All fields
 * are little endian.
 */
#ifndef _UAPI_LINUX_VIRTIO_CZONE_H
#define _UAPI_LINUX_VIRTIO_CZONE_H

#include <linux/types.h>
#include <linux/czone.h>

/*
 * The device borrows the id of a device that no driver uses, so a driver must
 * find the magic in the configuration space before it touches anything else.
 */
#define VIRTIO_CZONE_ID		13
#define VIRTIO_CZONE_MAGIC	0x4e4f5a43	/* "CZON" */
#define VIRTIO_CZONE_VERSION	1

/* Memory reads as zero after the device has acknowledged a report of it. */
#define VIRTIO_CZONE_F_ZEROES	0

enum virtio_czone_vq {
	VIRTIO_CZONE_VQ_EVENT,		/* device to guest: struct virtio_czone_request */
	VIRTIO_CZONE_VQ_REPLY,		/* guest to device: struct virtio_czone_reply */
	VIRTIO_CZONE_VQ_REPORT,		/* guest to device: struct virtio_czone_report */

	VIRTIO_CZONE_VQ_MAX,
};

/* Static: read once, when the driver probes. */
struct virtio_czone_config {
	__le32 magic;
	__le16 version;
	__u8 report_shift;	/* log2 of the smallest range that frees memory (12: 4 KiB) */
	__u8 backing_shift;	/* log2 of the host page that one touch takes (12 or 21) */
	__le32 max_ranges;	/* ranges that one report may carry */
	__le32 reserved[13];
};

/* The requests that the host makes. */
enum virtio_czone_op {
	VIRTIO_CZONE_OP_PING,		/* -> nothing */
	VIRTIO_CZONE_OP_ADD_REGION,	/* arg0 start, arg1 size, arg2 VIRTIO_CZONE_REGION_* */
	VIRTIO_CZONE_OP_CREATE,		/* arg0 size, arg1 flags, arg2 file zone -> zone, extents */
	VIRTIO_CZONE_OP_RESIZE,		/* zone, arg0 size -> extents */
	VIRTIO_CZONE_OP_ATTACH,		/* zone, path of a cgroup, arg0 flags; as DESTROY */
	VIRTIO_CZONE_OP_DESTROY,	/* zone, arg0 CZONE_DESTROY_* -> enum czone_result */
	VIRTIO_CZONE_OP_RECLAIM,	/* zone, arg0 bytes, arg1 CZONE_RECLAIM_*; same */
	VIRTIO_CZONE_OP_STATS,		/* zone -> enum czone_stat */
	VIRTIO_CZONE_OP_NEXT,		/* zone -> id of the first zone above it, or ENOENT */
	VIRTIO_CZONE_OP_EXTENTS,	/* zone, arg0 index of the first wanted -> extents */
	VIRTIO_CZONE_OP_SET_IDLE,	/* zone, arg0 delay in ms or 0, arg1 floor in bytes */
};

/* With VIRTIO_CZONE_F_ZEROES: the region has been released, all of it reads as zero. */
#define VIRTIO_CZONE_REGION_ZERO	1

#define VIRTIO_CZONE_PATH_MAX	976

/*
 * One request, in one buffer of the event queue. The guest posts buffers of
 * sizeof(struct virtio_czone_request) and posts each again at once.
 */
struct virtio_czone_request {
	__le32 id;		/* comes back in the reply */
	__le16 op;		/* enum virtio_czone_op */
	__le16 path_len;	/* bytes of path, without a final NUL */
	__le32 zone;
	__le32 timeout_ms;	/* answer within this time, ETIMEDOUT otherwise */
	__le64 arg[4];
	__u8 path[VIRTIO_CZONE_PATH_MAX];
};

#define VIRTIO_CZONE_VALUES_MAX	30

/* One answer. An operation that the guest does not know gets EOPNOTSUPP. */
struct virtio_czone_reply {
	__le32 id;
	__le32 status;		/* 0, or a positive errno of Linux */
	__le32 zone;
	__le32 count;		/* values that follow: of stats, of results, or pairs of extents */
	__le64 value[VIRTIO_CZONE_VALUES_MAX];
};

/*
 * A reply with this id answers nothing: it is a notice of the guest about a zone.
 * Its status is one of enum czone_notice, not an errno. No request has this id.
 */
#define VIRTIO_CZONE_NOTICE_ID	0

struct virtio_czone_range {
	__le64 start;		/* guest-physical address */
	__le64 size;
};

/*
 * Memory that the guest gives up, followed by count ranges. The guest does not
 * touch these until the device has written the status.
 */
struct virtio_czone_report {
	__le32 zone;		/* whose memory; CZONE_ID_VM for the rest */
	__le32 count;
	__le64 seq;
};

/* The device's answer, the last and only writable part of a report. */
struct virtio_czone_report_status {
	__le32 status;		/* 0, or the positive errno of the first range that failed */
	__le32 done;		/* ranges that were released */
	__le64 bytes;		/* host memory that came back, as the host measured it */
};

#endif /* _UAPI_LINUX_VIRTIO_CZONE_H */
