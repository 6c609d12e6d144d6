/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest half: this kernel, by generic netlink. */
#ifndef LIB_GUEST_GUEST_H
#define LIB_GUEST_GUEST_H

#include "../driver.h"
#include <netlink/msg.h>

/* ---- caps.c */

/*
 * Make CAP_SYS_ADMIN effective in this thread. -EPERM with a detail when it is
 * not permitted. Pass *ret_raised to caps_lower() after the call.
 */
int caps_raise(bool *ret_raised);
void caps_lower(bool raised);

/* ---- cgroup.c */

/*
 * Where the cgroup v2 hierarchy is mounted with its root, from a file like
 * /proc/self/mountinfo. -EOPNOTSUPP when it is not.
 */
int cgroup_find_mount(const char *mountinfo, char *ret_path, size_t size);

/* A descriptor of the hierarchy's root, for cgroup_open_at(). */
int cgroup_open_root(const char *mount);

/* A descriptor of a cgroup; path begins with "/", from the root. The mount's name is for messages. */
int cgroup_open_at(int root, const char *mount, const char *path);

/* -EOPNOTSUPP where the memory controller is not enabled for this cgroup. */
int cgroup_check_memory(int cgroup, const char *mount, const char *path);

/* All of these: a descriptor of a cgroup with the memory controller. */
int cgroup_open(const char *mount, const char *path);

/*
 * A descriptor of the cgroup with this id (inode) somewhere below the mount, or of
 * `path`, if it is not NULL and below that. -ENOENT or -EINVAL otherwise.
 */
int cgroup_open_id(const char *mount, uint64_t id, const char *path);

/* ---- spawn.c */

/* Start a command in a cgroup; -1: in this process's. Arguments as for czone_driver.spawn. */
int spawn_in(int cgroup, const struct czone_spawn_opts *opts, int *ret_pidfd, pid_t *ret_pid);

/* ---- netlink.c */

/* What the kernel said in answer to one request. */
struct netlink_reply {
	bool done;
	bool unacknowledged;		/* the request asked for no final message; there is one for an error */
	int error;			/* negative errno of the final message, 0 */
	char text[256];			/* of the extended ack, or "" */
	uint32_t id;
	uint64_t stat[__CZONE_STAT_MAX];	/* CZONE_UNKNOWN where nothing came */
	uint64_t result[__CZONE_RESULT_MAX];	/* 0 where nothing came */
	struct czone_extent *extents;	/* room for max_extents, the caller's */
	size_t max_extents;
	size_t n_extents;		/* how many came */
	uint32_t *ids;			/* of a dump: room for max_ids, the caller's */
	size_t max_ids;
	size_t n_ids;
};

/* Take in one message. -EPROTO with a detail when it makes no sense. */
int netlink_parse(struct nlmsghdr *hdr, struct netlink_reply *reply);

/* The number of the czone family. -EOPNOTSUPP when this kernel has none. */
int netlink_resolve(void);

/* A request to send; NULL without memory. */
struct nl_msg *netlink_request(int family, int cmd, int flags);

#define NETLINK_IDLE_MAX 4

/* What the requests of one handle share, from any thread. */
struct netlink {
	int family;
	pthread_mutex_t lock;		/* for all that follows */
	pid_t owner;			/* the process whose sockets these are */
	unsigned int n_idle;
	struct netlink_socket *idle[NETLINK_IDLE_MAX];
};

void netlink_init(struct netlink *nl, int family);
void netlink_fini(struct netlink *nl);

/*
 * Send the request, free it, wait for the whole answer, from any thread. Returns
 * the kernel's errno, with what it said about it as the detail; `what` names the
 * request there. How long the kernel works on it is up to CZONE_A_TIMEOUT_MS.
 * nl may be NULL.
 */
int netlink_ask(struct netlink *nl, struct nl_msg *request, struct netlink_reply *reply,
		const char *what);

#endif /* LIB_GUEST_GUEST_H */
