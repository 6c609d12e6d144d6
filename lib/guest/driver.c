/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct guest {
	struct netlink netlink;
	pthread_mutex_t lock;		/* for what follows */
	int cgroups;			/* root of the hierarchy, when it has been looked for; or -1 */
	char mount[PATH_MAX];
};

static void init_reply(struct netlink_reply *reply)
{
	memset(reply, 0, sizeof(*reply));
	for (int i = 0; i < __CZONE_STAT_MAX; i++)
		reply->stat[i] = CZONE_UNKNOWN;
}

static struct nl_msg *request(struct czone_vm *vm, enum czone_cmd cmd, int flags)
{
	const struct guest *guest = vm->priv;

	return netlink_request(guest->netlink.family, cmd, flags);
}

/* A request that changes something; msg is NULL when there was no memory for it. */
static int ask_privileged(struct czone_vm *vm, struct nl_msg *msg, struct netlink_reply *reply,
			  const char *what)
{
	struct guest *guest = vm->priv;
	bool raised;
	int r;

	if (!msg)
		return czone_fail(-ENOMEM, "%s: no memory for a request", what);
	r = caps_raise(&raised);
	if (r < 0) {
		nlmsg_free(msg);
		return r;
	}
	r = netlink_ask(&guest->netlink, msg, reply, what);
	caps_lower(raised);
	return r;
}

/* Attributes of a request are few and small: a message always has room for them. */
static struct nl_msg *zone_request(struct czone_vm *vm, enum czone_cmd cmd, uint32_t id)
{
	struct nl_msg *msg = request(vm, cmd, NLM_F_ACK);

	if (msg)
		nla_put_u32(msg, CZONE_A_ID, id);
	return msg;
}

/* Where cgroups are does not change, and mountinfo can be long: looked for once. */
static int cgroups_root(struct guest *guest)
{
	int r = 0;

	pthread_mutex_lock(&guest->lock);
	if (guest->cgroups < 0) {
		r = cgroup_find_mount("/proc/self/mountinfo", guest->mount, sizeof(guest->mount));
		if (r == 0)
			r = cgroup_open_root(guest->mount);
		if (r >= 0)
			guest->cgroups = r;
	}
	pthread_mutex_unlock(&guest->lock);
	return r < 0 ? r : guest->cgroups;
}

static int open_cgroup(struct guest *guest, const char *path)
{
	int root = cgroups_root(guest);

	return root < 0 ? root : cgroup_open_at(root, guest->mount, path);
}

/* The kernel says in short what is missing; we know what to do about it. */
static int attach_failed(struct guest *guest, int r, int cgroup, const char *path)
{
	int cause = r == -EOPNOTSUPP ? cgroup_check_memory(cgroup, guest->mount, path) : 0;

	return cause < 0 ? cause : r;
}

static int guest_create(struct czone_vm *vm, uint64_t size, uint32_t flags, uint32_t file_zone,
			uint32_t timeout_ms, uint32_t *ret_id)
{
	/* the answer says it all, or there is an error: no need for an acknowledgement */
	struct nl_msg *msg = request(vm, CZONE_CMD_CREATE, 0);
	struct netlink_reply reply;
	char what[64];
	int r;

	(void)timeout_ms;	/* the kernel waits for nobody here */
	snprintf(what, sizeof(what), "create of %" PRIu64 " MiB", size >> 20);
	if (msg) {
		nla_put_u64(msg, CZONE_A_SIZE, size);
		nla_put_u32(msg, CZONE_A_FLAGS, flags);
		/* a kernel that does not know it refuses it */
		if (file_zone)
			nla_put_u32(msg, CZONE_A_FILE_ZONE, file_zone);
	}
	init_reply(&reply);
	r = ask_privileged(vm, msg, &reply, what);
	if (r < 0)
		return r;
	if (reply.id == CZONE_ID_VM)
		return czone_fail(-EPROTO, "%s: the kernel told no id", what);
	*ret_id = reply.id;
	return 0;
}

static int guest_attach(struct czone_vm *vm, uint32_t id, const char *path, uint32_t flags,
			uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct guest *guest = vm->priv;
	struct netlink_reply reply;
	struct nl_msg *msg;
	char what[64];
	int cgroup, r;

	cgroup = open_cgroup(guest, path);
	if (cgroup < 0)
		return cgroup;
	msg = zone_request(vm, CZONE_CMD_ATTACH, id);
	if (msg) {
		nla_put_u32(msg, CZONE_A_CGROUP_FD, cgroup);
		nla_put_u32(msg, CZONE_A_FLAGS, flags);
		nla_put_u32(msg, CZONE_A_TIMEOUT_MS, timeout_ms);
	}
	snprintf(what, sizeof(what), "attach of zone %u", id);
	init_reply(&reply);
	r = ask_privileged(vm, msg, &reply, what);
	if (r < 0)
		r = attach_failed(guest, r, cgroup, path);
	close(cgroup);
	memcpy(result, reply.result, sizeof(reply.result));
	return r;
}

static int guest_resize(struct czone_vm *vm, uint32_t id, uint64_t size, uint32_t timeout_ms)
{
	struct nl_msg *msg = zone_request(vm, CZONE_CMD_RESIZE, id);
	struct netlink_reply reply;
	char what[64];

	(void)timeout_ms;	/* the kernel has no limit for it, nor any unbounded wait */
	if (msg)
		nla_put_u64(msg, CZONE_A_SIZE, size);
	snprintf(what, sizeof(what), "resize of zone %u to %" PRIu64 " MiB", id, size >> 20);
	init_reply(&reply);
	return ask_privileged(vm, msg, &reply, what);
}

static int guest_destroy(struct czone_vm *vm, uint32_t id, uint32_t flags, uint32_t timeout_ms,
			 uint64_t result[__CZONE_RESULT_MAX])
{
	struct nl_msg *msg = zone_request(vm, CZONE_CMD_DESTROY, id);
	struct netlink_reply reply;
	char what[64];
	int r;

	if (msg) {
		nla_put_u32(msg, CZONE_A_FLAGS, flags);
		nla_put_u32(msg, CZONE_A_TIMEOUT_MS, timeout_ms);
	}
	snprintf(what, sizeof(what), "destroy of zone %u", id);
	init_reply(&reply);
	r = ask_privileged(vm, msg, &reply, what);
	memcpy(result, reply.result, sizeof(reply.result));
	return r;
}

static int guest_reclaim(struct czone_vm *vm, uint32_t id, uint64_t bytes, uint32_t flags,
			 uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct nl_msg *msg = zone_request(vm, CZONE_CMD_RECLAIM, id);
	struct netlink_reply reply;
	char what[64];
	int r;

	if (msg) {
		nla_put_u64(msg, CZONE_A_BYTES, bytes);
		nla_put_u32(msg, CZONE_A_FLAGS, flags);
		nla_put_u32(msg, CZONE_A_TIMEOUT_MS, timeout_ms);
	}
	if (id == CZONE_ID_VM)
		snprintf(what, sizeof(what), "reclaim");
	else
		snprintf(what, sizeof(what), "reclaim from zone %u", id);
	init_reply(&reply);
	r = ask_privileged(vm, msg, &reply, what);
	memcpy(result, reply.result, sizeof(reply.result));
	return r;
}

static int guest_set_idle(struct czone_vm *vm, uint32_t id, uint32_t delay_ms, uint64_t floor,
			  uint32_t timeout_ms)
{
	struct nl_msg *msg = zone_request(vm, CZONE_CMD_SET_IDLE, id);
	struct netlink_reply reply;
	char what[64];

	(void)timeout_ms;	/* the kernel has a limit of its own */
	if (msg) {
		nla_put_u32(msg, CZONE_A_IDLE_DELAY_MS, delay_ms);
		nla_put_u64(msg, CZONE_A_IDLE_FLOOR, floor);
	}
	snprintf(what, sizeof(what), "idle return of zone %u", id);
	init_reply(&reply);
	return ask_privileged(vm, msg, &reply, what);
}

/* Anybody may read. */
static int get(struct czone_vm *vm, uint32_t id, struct netlink_reply *reply)
{
	struct nl_msg *msg = zone_request(vm, CZONE_CMD_GET, id);
	struct guest *guest = vm->priv;
	char what[64];

	snprintf(what, sizeof(what), "zone %u", id);
	if (!msg)
		return czone_fail(-ENOMEM, "%s: no memory for a request", what);
	return netlink_ask(&guest->netlink, msg, reply, what);
}

static int guest_stats(struct czone_vm *vm, uint32_t id, uint64_t stat[__CZONE_STAT_MAX])
{
	struct netlink_reply reply;
	int r;

	init_reply(&reply);
	r = get(vm, id, &reply);
	if (r == 0)
		memcpy(stat, reply.stat, sizeof(reply.stat));
	return r;
}

static int guest_spawn(struct czone_vm *vm, uint32_t id, const struct czone_spawn_opts *opts,
		       int *ret_pidfd, pid_t *ret_pid)
{
	uint64_t stat[__CZONE_STAT_MAX] = { 0 };
	struct guest *guest = vm->priv;
	int cgroup, r;

	r = guest_stats(vm, id, stat);
	if (r < 0)
		return r;
	if (!stat[CZONE_STAT_CGROUP] || stat[CZONE_STAT_CGROUP] == CZONE_UNKNOWN)
		return czone_fail(-ENOENT, "spawn: zone %u has no cgroup", id);
	r = cgroups_root(guest);
	if (r < 0)
		return r;
	cgroup = cgroup_open_id(guest->mount, stat[CZONE_STAT_CGROUP], opts->cgroup);
	if (cgroup < 0)
		return cgroup;
	r = spawn_in(cgroup, opts, ret_pidfd, ret_pid);
	close(cgroup);
	return r;
}

static int guest_extents(struct czone_vm *vm, uint32_t id, struct czone_extent *extent, size_t max)
{
	struct netlink_reply reply;
	int r;

	init_reply(&reply);
	reply.extents = extent;
	reply.max_extents = max;
	r = get(vm, id, &reply);
	if (r < 0)
		return r;
	/* every zone has one: they are left out for whoever may not know physical addresses */
	if (!reply.n_extents && id != CZONE_ID_VM)
		return czone_fail(-EPERM, "ranges of zone %u: physical addresses need CAP_SYS_ADMIN", id);
	return reply.n_extents;
}

static int guest_list(struct czone_vm *vm, uint32_t *ret_ids, size_t max)
{
	struct nl_msg *msg = request(vm, CZONE_CMD_GET, NLM_F_DUMP);
	struct guest *guest = vm->priv;
	struct netlink_reply reply;
	int r;

	if (!msg)
		return czone_fail(-ENOMEM, "list: no memory for a request");
	init_reply(&reply);
	reply.ids = ret_ids;
	reply.max_ids = max;
	r = netlink_ask(&guest->netlink, msg, &reply, "list");
	return r < 0 ? r : (int)reply.n_ids;
}

static void guest_close(struct czone_vm *vm)
{
	struct guest *guest = vm->priv;

	netlink_fini(&guest->netlink);
	if (guest->cgroups >= 0)
		close(guest->cgroups);
	pthread_mutex_destroy(&guest->lock);
	free(guest);
}

const struct czone_driver czone_guest_driver = {
	.name = "guest",
	.close = guest_close,
	.create = guest_create,
	.attach = guest_attach,
	.resize = guest_resize,
	.destroy = guest_destroy,
	.reclaim = guest_reclaim,
	.set_idle = guest_set_idle,
	.spawn = guest_spawn,
	.stats = guest_stats,
	.extents = guest_extents,
	.list = guest_list,
};

int czone_guest_open(struct czone_vm *vm)
{
	struct guest *guest;
	int family;

	family = netlink_resolve();
	if (family < 0)
		return family;
	guest = malloc(sizeof(*guest));
	if (!guest)
		return czone_fail(-ENOMEM, "no memory for a handle");
	netlink_init(&guest->netlink, family);
	pthread_mutex_init(&guest->lock, NULL);
	guest->cgroups = -1;
	vm->priv = guest;
	vm->driver = &czone_guest_driver;
	return 0;
}
