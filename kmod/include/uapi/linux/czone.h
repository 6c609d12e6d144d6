/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * czone: per-container memory zones, the generic-netlink interface.
 *
 * This header and virtio_czone.h are all that the kernel and user space share.
 * Sizes and addresses are bytes unless a name says otherwise.
 */
#ifndef _UAPI_LINUX_CZONE_H
#define _UAPI_LINUX_CZONE_H

#include <linux/types.h>

#define CZONE_GENL_NAME		"czone"
#define CZONE_GENL_VERSION	1

/* Zones are made and resized in steps of one block. */
#define CZONE_BLOCK_SHIFT	22
#define CZONE_BLOCK_SIZE	(1UL << CZONE_BLOCK_SHIFT)

/* Zone id 0 is the VM itself: its pool and its boot memory. */
#define CZONE_ID_VM		0

/*
 * Commands. All but CZONE_CMD_GET need CAP_SYS_ADMIN in the initial user
 * namespace; without it GET leaves EXTENTS out. A request that fails answers
 * with a negative errno and, where there is more to say, an extended-ack
 * message.
 *
 * ATTACH, DESTROY and RECLAIM tell in RESULT what they did, also when they fail
 * after that, as with EBUSY, ENOSPC or ETIMEDOUT. Two messages come then: the reply with
 * RESULT, and after it NLMSG_ERROR with the errno. Ask for NLM_F_ACK, so that
 * NLMSG_ERROR always comes, and read until it does.
 *
 * GET tells at most 2048 extents of a zone, a dump at most 128 of each;
 * CZONE_STAT_EXTENTS says how many there are. The VM has none, and is not part
 * of a dump.
 */
enum czone_cmd {
	CZONE_CMD_UNSPEC,
	CZONE_CMD_CREATE,	/* SIZE [FLAGS] [FILE_ZONE] -> ID */
	CZONE_CMD_RESIZE,	/* ID SIZE */
	CZONE_CMD_ATTACH,	/* ID CGROUP_FD [FLAGS] [TIMEOUT_MS] -> RESULT */
	CZONE_CMD_DESTROY,	/* ID [FLAGS] [TIMEOUT_MS] -> RESULT, also on EBUSY */
	CZONE_CMD_RECLAIM,	/* ID BYTES [FLAGS] [TIMEOUT_MS] -> RESULT */
	CZONE_CMD_GET,		/* ID -> ID STATS EXTENTS; dump: every zone */
	CZONE_CMD_SET_IDLE,	/* ID IDLE_DELAY_MS [IDLE_FLOOR] */

	__CZONE_CMD_MAX,
};

#define CZONE_CMD_MAX (__CZONE_CMD_MAX - 1)

enum czone_attr {
	CZONE_A_UNSPEC,
	CZONE_A_PAD,
	CZONE_A_ID,		/* u32 */
	CZONE_A_SIZE,		/* u64, a multiple of CZONE_BLOCK_SIZE */
	CZONE_A_FLAGS,		/* u32, the flags of the command */
	CZONE_A_CGROUP_FD,	/* u32, an open directory of cgroup v2 */
	CZONE_A_BYTES,		/* u64, 0 means as much as there is */
	CZONE_A_TIMEOUT_MS,	/* u32, 0 means the default */
	CZONE_A_STATS,		/* array of u64, indexed by enum czone_stat */
	CZONE_A_RESULT,		/* array of u64, indexed by enum czone_result */
	CZONE_A_EXTENTS,	/* array of struct czone_extent */
	CZONE_A_FILE_ZONE,	/* u32, a zone for the cache of read-only file systems */
	CZONE_A_IDLE_DELAY_MS,	/* u32, 0 is off, CZONE_IDLE_DELAY_MAX_MS at most */
	CZONE_A_IDLE_FLOOR,	/* u64, bytes */

	__CZONE_A_MAX,
};

#define CZONE_A_MAX (__CZONE_A_MAX - 1)

/* CZONE_CMD_CREATE */
#define CZONE_CREATE_SPILL	(1U << 0)	/* full: fall back to the VM's own memory */

/* CZONE_CMD_ATTACH */
#define CZONE_ATTACH_MIGRATE	(1U << 0)	/* also what the cgroup has already */

/* CZONE_CMD_DESTROY */
#define CZONE_DESTROY_FORCE	(1U << 0)	/* also with live tasks, whose pages move out */

/* CZONE_CMD_RECLAIM */
#define CZONE_RECLAIM_CACHE	(1U << 0)	/* if free pages fall short, drop clean cache */

/*
 * CZONE_CMD_SET_IDLE: memory of the zone that has been free for the whole delay
 * goes to the host by itself, but for so much as the floor says.
 */
#define CZONE_IDLE_DELAY_MAX_MS	86400000U

/*
 * Statistics of one zone, or of the VM (id 0). For a zone
 * SIZE = USED + FREE_BACKED + FREE_UNBACKED. A kernel may know fewer or more
 * than its reader: the array's length says how many there are.
 */
enum czone_stat {
	CZONE_STAT_SIZE,		/* zone: its size; VM: the pool's */
	CZONE_STAT_USED,		/* zone: not free; VM: blocks that zones hold */
	CZONE_STAT_FREE_BACKED,		/* free, and the host still has memory behind it */
	CZONE_STAT_FREE_UNBACKED,	/* free, and the host has nothing behind it */
	CZONE_STAT_RETURNED,		/* given back so far, as the host measured it */
	CZONE_STAT_SPILLED,		/* allocated outside so far because the zone was full */
	CZONE_STAT_FILE,		/* page cache in the zone (shmem included) */
	CZONE_STAT_FLAGS,		/* CZONE_CREATE_* */
	CZONE_STAT_CGROUP,		/* id (inode) of the attached cgroup, 0 without */
	CZONE_STAT_EXTENTS,		/* number of contiguous ranges */
	CZONE_STAT_METADATA,		/* VM only: bytes of the pool in use for its memory map */
	CZONE_STAT_BOOT_SIZE,		/* VM only: memory outside the pool */
	CZONE_STAT_BOOT_FREE,		/* VM only: thereof free */
	CZONE_STAT_ZONES,		/* VM only: zones that exist */
	CZONE_STAT_KERNEL,		/* kernel memory of the cgroup, outside the zone */
	CZONE_STAT_FILE_ZONE,		/* id of the zone that shares its file cache, 0: none */
	CZONE_STAT_IDLE_DELAY_MS,	/* CZONE_CMD_SET_IDLE, 0 is off */
	CZONE_STAT_IDLE_FLOOR,
	CZONE_STAT_BOOT_FREE_BACKED,	/* VM only: of BOOT_FREE, ~0: czone.boot_map is off */

	__CZONE_STAT_MAX,
};

/* What an attach, a destroy or a reclaim did. Bytes. */
enum czone_result {
	CZONE_RESULT_RETURNED,		/* given back, as the host measured it */
	CZONE_RESULT_REPORTED,		/* handed to the host; some of it may not be backed */
	CZONE_RESULT_DROPPED,		/* clean file cache that was dropped */
	CZONE_RESULT_MIGRATED,		/* moved out of the zone; attach: into it */
	CZONE_RESULT_STUCK_PINNED,	/* stays: pinned or in use by the kernel */
	CZONE_RESULT_STUCK_POISONED,	/* stays: hardware-poisoned or quarantined */
	CZONE_RESULT_STUCK_OTHER,	/* stays: could not be isolated or migrated in time */
	CZONE_RESULT_STUCK_FULL,	/* stays: no room where it should go */

	__CZONE_RESULT_MAX,
};

/* What the kernel tells the host of by itself, each with the id of a zone. */
enum czone_notice {
	CZONE_NOTICE_NONE,
	CZONE_NOTICE_FULL,		/* an allocation found no room; once a second at most */
	CZONE_NOTICE_CREATED,		/* by somebody in the guest; and its size */
	CZONE_NOTICE_DESTROYED,		/* by somebody in the guest */
};

struct czone_extent {
	__u64 start;	/* guest-physical address */
	__u64 size;
};

#endif /* _UAPI_LINUX_CZONE_H */
