// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: the generic-netlink family, for user space of this system.
 *
 * include/uapi/linux/czone.h documents the messages.
 */
#include <linux/capability.h>
#include <linux/cgroup.h>
#include <linux/czone.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <net/genetlink.h>

/* An attribute has at most 64 KiB. CZONE_STAT_EXTENTS says how many there are. */
#define CZONE_GET_EXTENTS	(SZ_32K / sizeof(struct czone_extent))
/* In a dump every zone must fit into one small buffer. */
#define CZONE_DUMP_EXTENTS	(SZ_2K / sizeof(struct czone_extent))

static struct genl_family czone_family;

static const struct nla_policy czone_create_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_SIZE]		= { .type = NLA_U64 },
	[CZONE_A_FLAGS]		= NLA_POLICY_MASK(NLA_U32, CZONE_CREATE_SPILL),
	[CZONE_A_FILE_ZONE]	= { .type = NLA_U32 },
};

static const struct nla_policy czone_resize_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= NLA_POLICY_MIN(NLA_U32, 1),
	[CZONE_A_SIZE]		= { .type = NLA_U64 },
};

static const struct nla_policy czone_attach_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= NLA_POLICY_MIN(NLA_U32, 1),
	[CZONE_A_CGROUP_FD]	= { .type = NLA_U32 },
	[CZONE_A_FLAGS]		= NLA_POLICY_MASK(NLA_U32, CZONE_ATTACH_MIGRATE),
	[CZONE_A_TIMEOUT_MS]	= { .type = NLA_U32 },
};

static const struct nla_policy czone_destroy_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= NLA_POLICY_MIN(NLA_U32, 1),
	[CZONE_A_FLAGS]		= NLA_POLICY_MASK(NLA_U32, CZONE_DESTROY_FORCE),
	[CZONE_A_TIMEOUT_MS]	= { .type = NLA_U32 },
};

static const struct nla_policy czone_reclaim_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= { .type = NLA_U32 },
	[CZONE_A_BYTES]		= { .type = NLA_U64 },
	[CZONE_A_FLAGS]		= NLA_POLICY_MASK(NLA_U32, CZONE_RECLAIM_CACHE),
	[CZONE_A_TIMEOUT_MS]	= { .type = NLA_U32 },
};

static const struct nla_policy czone_get_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= { .type = NLA_U32 },
};

static const struct nla_policy czone_set_idle_policy[CZONE_A_MAX + 1] = {
	[CZONE_A_ID]		= NLA_POLICY_MIN(NLA_U32, 1),
	[CZONE_A_IDLE_DELAY_MS]	= { .type = NLA_U32 },
	[CZONE_A_IDLE_FLOOR]	= { .type = NLA_U64 },
};

static const char * const czone_attr_name[] = {
	[CZONE_A_ID]		= "ID",
	[CZONE_A_SIZE]		= "SIZE",
	[CZONE_A_CGROUP_FD]	= "CGROUP_FD",
	[CZONE_A_BYTES]		= "BYTES",
	[CZONE_A_IDLE_DELAY_MS]	= "IDLE_DELAY_MS",
};

static int czone_require(struct genl_info *info, int attr)
{
	if (!GENL_REQ_ATTR_CHECK(info, attr))
		return 0;
	NL_SET_ERR_MSG_FMT(info->extack, "CZONE_A_%s is missing", czone_attr_name[attr]);
	return -EINVAL;
}

static int czone_require_id(struct genl_info *info, u32 *id)
{
	int err = czone_require(info, CZONE_A_ID);

	if (!err)
		*id = nla_get_u32(info->attrs[CZONE_A_ID]);
	return err;
}

static int czone_require_size(struct genl_info *info, u64 *size)
{
	int err = czone_require(info, CZONE_A_SIZE);

	if (err)
		return err;
	*size = nla_get_u64(info->attrs[CZONE_A_SIZE]);
	if (*size && IS_ALIGNED(*size, CZONE_BLOCK_SIZE))
		return 0;
	NL_SET_ERR_MSG_ATTR_FMT(info->extack, info->attrs[CZONE_A_SIZE],
				"the size must be a positive multiple of %lu", CZONE_BLOCK_SIZE);
	return -EINVAL;
}

static u32 czone_optional_u32(struct genl_info *info, int attr)
{
	return info->attrs[attr] ? nla_get_u32(info->attrs[attr]) : 0;
}

/* What the mm side means by an error that all commands share. */
static int czone_fail(struct genl_info *info, int err)
{
	switch (err) {
	case -ENOENT:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_ID], "no such zone");
		break;
	case -ENODEV:
		NL_SET_ERR_MSG(info->extack, "there is no memory for zones, or no way to the host");
		break;
	case -ETIMEDOUT:
		NL_SET_ERR_MSG(info->extack, "not done within the time limit");
		break;
	}
	return err;
}

static struct sk_buff *czone_reply_new(struct genl_info *info, size_t payload, void **head)
{
	struct sk_buff *skb = genlmsg_new(payload, GFP_KERNEL);

	if (!skb)
		return NULL;
	*head = genlmsg_put_reply(skb, info, &czone_family, 0, info->genlhdr->cmd);
	if (*head)
		return skb;
	nlmsg_free(skb);
	return NULL;
}

static int czone_nl_create(struct sk_buff *request, struct genl_info *info)
{
	u32 file_zone = czone_optional_u32(info, CZONE_A_FILE_ZONE);
	u32 flags = czone_optional_u32(info, CZONE_A_FLAGS);
	struct sk_buff *skb;
	void *head;
	u64 size;
	u32 id;
	int err;

	err = czone_require_size(info, &size);
	if (err)
		return err;

	/* Memory for the reply first: a zone that nobody hears of would be lost. */
	skb = czone_reply_new(info, nla_total_size(sizeof(id)), &head);
	if (!skb)
		return -ENOMEM;

	err = czone_create(size, flags, file_zone, &id);
	if (err) {
		nlmsg_free(skb);
		switch (err) {
		case -ENOSPC:
			NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_SIZE],
					    "the pool has not enough free memory");
			return err;
		case -ENOENT:
			NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_FILE_ZONE],
					    "no such zone to share file cache in");
			return err;
		case -EINVAL:
			NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_FILE_ZONE],
					    "the zone to share file cache in leaves its own to another");
			return err;
		}
		return czone_fail(info, err);
	}

	WARN_ON_ONCE(nla_put_u32(skb, CZONE_A_ID, id));
	genlmsg_end(skb, head);
	err = genlmsg_reply(skb, info);
	if (err) {
		u64 result[__CZONE_RESULT_MAX];

		czone_destroy(id, 0, 0, result);
	} else {
		czone_tell(CZONE_NOTICE_CREATED, id, size);
	}
	return err;
}

static int czone_nl_resize(struct sk_buff *request, struct genl_info *info)
{
	u64 size;
	u32 id;
	int err;

	err = czone_require_id(info, &id) ?: czone_require_size(info, &size);
	if (err)
		return err;

	err = czone_resize(id, size);
	switch (err) {
	case -ENOSPC:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_SIZE],
				    "the pool has not enough free memory");
		break;
	case -EBUSY:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_SIZE],
				    "too much of the zone is in use, or another operation is under way");
		break;
	}
	return czone_fail(info, err);
}

/* What was done is told even when it was not all that was asked for. */
static int czone_reply_result(struct genl_info *info, struct sk_buff *skb, void *head,
			      const u64 result[__CZONE_RESULT_MAX], int err)
{
	int sent;

	if (err && err != -EBUSY && err != -ETIMEDOUT &&
	    !memchr_inv(result, 0, sizeof(u64) * __CZONE_RESULT_MAX)) {
		nlmsg_free(skb);
		return czone_fail(info, err);
	}

	WARN_ON_ONCE(nla_put_64bit(skb, CZONE_A_RESULT, sizeof(u64) * __CZONE_RESULT_MAX, result,
				   CZONE_A_PAD));
	genlmsg_end(skb, head);
	sent = genlmsg_reply(skb, info);
	return err ? czone_fail(info, err) : sent;
}

static int czone_nl_attach(struct sk_buff *request, struct genl_info *info)
{
	unsigned int timeout_ms = czone_optional_u32(info, CZONE_A_TIMEOUT_MS);
	u32 flags = czone_optional_u32(info, CZONE_A_FLAGS);
	u64 result[__CZONE_RESULT_MAX] = {};
	struct cgroup *cgrp;
	struct sk_buff *skb;
	void *head;
	u32 id;
	int err;

	err = czone_require_id(info, &id) ?: czone_require(info, CZONE_A_CGROUP_FD);
	if (err)
		return err;

	/* Called in the context of the sender, whose file it is. */
	cgrp = cgroup_get_from_fd(nla_get_u32(info->attrs[CZONE_A_CGROUP_FD]));
	if (IS_ERR(cgrp)) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_CGROUP_FD],
				    "not an open directory of cgroup v2");
		return PTR_ERR(cgrp);
	}

	skb = czone_reply_new(info, nla_total_size_64bit(sizeof(result)), &head);
	if (!skb) {
		cgroup_put(cgrp);
		return -ENOMEM;
	}

	err = czone_attach(id, cgrp, flags, timeout_ms, result);
	cgroup_put(cgrp);
	switch (err) {
	case -ENOSPC:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_ID],
				    "attached, but the zone has no room for all pages of the cgroup");
		break;
	case -EBUSY:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_ID],
				    "the zone has another cgroup, or another operation is under way");
		break;
	case -EEXIST:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_CGROUP_FD],
				    "the cgroup, or one above or below it, has a zone");
		break;
	case -EOPNOTSUPP:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_CGROUP_FD],
				    "the memory controller is not enabled for the cgroup");
		break;
	case -EINVAL:
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CZONE_A_CGROUP_FD],
				    "the root cgroup cannot have a zone");
		break;
	}
	return czone_reply_result(info, skb, head, result, err);
}

static int czone_nl_destroy(struct sk_buff *request, struct genl_info *info)
{
	unsigned int timeout_ms = czone_optional_u32(info, CZONE_A_TIMEOUT_MS);
	u32 flags = czone_optional_u32(info, CZONE_A_FLAGS);
	u64 result[__CZONE_RESULT_MAX] = {};
	struct sk_buff *skb;
	void *head;
	u32 id;
	int err;

	err = czone_require_id(info, &id);
	if (err)
		return err;

	skb = czone_reply_new(info, nla_total_size_64bit(sizeof(result)), &head);
	if (!skb)
		return -ENOMEM;

	err = czone_destroy(id, flags, timeout_ms, result);
	if (!err)
		czone_tell(CZONE_NOTICE_DESTROYED, id, 0);
	if (err == -EBUSY)
		NL_SET_ERR_MSG(info->extack,
			       "its cgroup has tasks, pages cannot be moved, or another operation is under way");
	return czone_reply_result(info, skb, head, result, err);
}

static int czone_nl_reclaim(struct sk_buff *request, struct genl_info *info)
{
	unsigned int timeout_ms = czone_optional_u32(info, CZONE_A_TIMEOUT_MS);
	u32 flags = czone_optional_u32(info, CZONE_A_FLAGS);
	u64 result[__CZONE_RESULT_MAX] = {};
	struct sk_buff *skb;
	void *head;
	u64 bytes;
	u32 id;
	int err;

	err = czone_require_id(info, &id) ?: czone_require(info, CZONE_A_BYTES);
	if (err)
		return err;
	bytes = nla_get_u64(info->attrs[CZONE_A_BYTES]);

	skb = czone_reply_new(info, nla_total_size_64bit(sizeof(result)), &head);
	if (!skb)
		return -ENOMEM;

	err = czone_reclaim(id, bytes, flags, timeout_ms, result);
	if (err == -EBUSY)
		NL_SET_ERR_MSG(info->extack, "another operation on the zone is under way");
	return czone_reply_result(info, skb, head, result, err);
}

static int czone_nl_set_idle(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *floor = info->attrs[CZONE_A_IDLE_FLOOR];
	u32 id, delay_ms;
	int err;

	err = czone_require_id(info, &id) ?: czone_require(info, CZONE_A_IDLE_DELAY_MS);
	if (err)
		return err;
	delay_ms = nla_get_u32(info->attrs[CZONE_A_IDLE_DELAY_MS]);

	err = czone_set_idle(id, delay_ms, floor ? nla_get_u64(floor) : 0);
	switch (err) {
	case -EINVAL:
		NL_SET_ERR_MSG(info->extack, "the delay is too long, or there is none but a floor");
		break;
	case -EBUSY:
		NL_SET_ERR_MSG(info->extack, "another operation on the zone is under way");
		break;
	}
	return czone_fail(info, err);
}

static size_t czone_msg_size(unsigned int extents)
{
	return nla_total_size(sizeof(u32)) +
	       nla_total_size_64bit(sizeof(u64) * __CZONE_STAT_MAX) +
	       nla_total_size_64bit(extents * sizeof(struct czone_extent));
}

static int czone_put_extents(struct sk_buff *skb, u32 id, unsigned int max)
{
	struct nlattr *attr;
	int count;

	attr = nla_reserve_64bit(skb, CZONE_A_EXTENTS, max * sizeof(struct czone_extent),
				 CZONE_A_PAD);
	if (!attr)
		return -EMSGSIZE;

	/* A concurrent resize may have left fewer than there was room made for. */
	count = czone_extents(id, 0, nla_data(attr), max);
	if (count < 0)
		return count;
	attr->nla_len = nla_attr_size(count * sizeof(struct czone_extent));
	nlmsg_trim(skb, nla_data(attr) + count * sizeof(struct czone_extent));
	return 0;
}

/* Physical addresses are for the privileged, here as elsewhere. */
static bool czone_may_see_extents(struct sk_buff *request)
{
	return netlink_capable(request, CAP_SYS_ADMIN);
}

static int czone_put_zone(struct sk_buff *skb, struct sk_buff *request, u32 id,
			  const u64 stat[__CZONE_STAT_MAX], unsigned int extents)
{
	if (nla_put_u32(skb, CZONE_A_ID, id) ||
	    nla_put_64bit(skb, CZONE_A_STATS, sizeof(u64) * __CZONE_STAT_MAX, stat, CZONE_A_PAD))
		return -EMSGSIZE;
	if (id == CZONE_ID_VM || !czone_may_see_extents(request))
		return 0;
	return czone_put_extents(skb, id, extents);
}

static int czone_nl_get(struct sk_buff *request, struct genl_info *info)
{
	u64 stat[__CZONE_STAT_MAX] = {};
	unsigned int extents;
	struct sk_buff *skb;
	void *head;
	u32 id;
	int err;

	err = czone_require_id(info, &id);
	if (err)
		return err;

	err = czone_stats(id, stat);
	if (err)
		return czone_fail(info, err);

	extents = min_t(u64, stat[CZONE_STAT_EXTENTS], CZONE_GET_EXTENTS);
	skb = czone_reply_new(info, czone_msg_size(extents), &head);
	if (!skb)
		return -ENOMEM;

	err = czone_put_zone(skb, request, id, stat, extents);
	if (err) {
		nlmsg_free(skb);
		return czone_fail(info, err);
	}
	genlmsg_end(skb, head);
	return genlmsg_reply(skb, info);
}

static int czone_nl_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	u64 stat[__CZONE_STAT_MAX];
	unsigned int extents;
	void *head;
	u32 id;
	int err;

	/* args[0]: the last zone that is told of */
	while ((id = czone_next(cb->args[0]))) {
		memset(stat, 0, sizeof(stat));
		err = czone_stats(id, stat);
		if (err == -ENOENT)
			goto next;
		if (err)
			return err;

		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
				   &czone_family, NLM_F_MULTI, CZONE_CMD_GET);
		if (!head)
			break;
		extents = min_t(u64, stat[CZONE_STAT_EXTENTS], CZONE_DUMP_EXTENTS);
		err = czone_put_zone(skb, cb->skb, id, stat, extents);
		if (err) {
			genlmsg_cancel(skb, head);
			if (err == -ENOENT)
				goto next;
			if (err == -EMSGSIZE)
				break;
			return err;
		}
		genlmsg_end(skb, head);
next:
		cb->args[0] = id;
	}
	return skb->len;
}

static int czone_nl_pre_doit(const struct genl_split_ops *ops, struct sk_buff *skb,
			     struct genl_info *info)
{
	if (ops->cmd == CZONE_CMD_GET || netlink_capable(skb, CAP_SYS_ADMIN))
		return 0;
	NL_SET_ERR_MSG(info->extack, "needs CAP_SYS_ADMIN in the initial user namespace");
	return -EPERM;
}

#define CZONE_OP(_cmd, _name)					\
	{							\
		.cmd		= (_cmd),			\
		.doit		= czone_nl_##_name,		\
		.policy		= czone_##_name##_policy,	\
		.maxattr	= CZONE_A_MAX,			\
	}

static const struct genl_ops czone_ops[] = {
	CZONE_OP(CZONE_CMD_CREATE, create),
	CZONE_OP(CZONE_CMD_RESIZE, resize),
	CZONE_OP(CZONE_CMD_ATTACH, attach),
	CZONE_OP(CZONE_CMD_DESTROY, destroy),
	CZONE_OP(CZONE_CMD_RECLAIM, reclaim),
	CZONE_OP(CZONE_CMD_SET_IDLE, set_idle),
	{
		.cmd		= CZONE_CMD_GET,
		.doit		= czone_nl_get,
		.dumpit		= czone_nl_dump,
		.policy		= czone_get_policy,
		.maxattr	= CZONE_A_MAX,
	},
};

/*
 * Only in the initial network namespace: what runs in a container's own has no
 * business with zones. A long reclaim or destroy must not hold the lock of all
 * families, hence parallel_ops.
 */
static struct genl_family czone_family __ro_after_init = {
	.name		= CZONE_GENL_NAME,
	.version	= CZONE_GENL_VERSION,
	.ops		= czone_ops,
	.n_ops		= ARRAY_SIZE(czone_ops),
	.resv_start_op	= CZONE_CMD_CREATE,
	.pre_doit	= czone_nl_pre_doit,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
};

static int __init czone_netlink_init(void)
{
	return genl_register_family(&czone_family);
}
device_initcall(czone_netlink_init);
