/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One socket for each request that is under way: any number of threads may wait
 * for the kernel without holding up one another. A handle keeps a few of those
 * that are done, as to make one costs more than to ask.
 */
#include "guest.h"
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* libnl's errors are its own; those that a socket can give. */
static int nl_to_errno(int error)
{
	switch (error < 0 ? -error : error) {
	case NLE_SUCCESS:
		return 0;
	case NLE_NOMEM:
	case NLE_MSGSIZE:
		return -ENOMEM;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_AGAIN:
		return -ETIMEDOUT;
	case NLE_INTR:
		return -EINTR;
	case NLE_OBJ_NOTFOUND:
	case NLE_AF_NOSUPPORT:
	case NLE_PROTO_MISMATCH:
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

/* A kernel may send fewer values than we know, or more. */
static int get_values(const struct nlattr *attr, uint64_t *values, size_t max, const char *what)
{
	size_t n = nla_len(attr) / sizeof(uint64_t);

	if (nla_len(attr) % sizeof(uint64_t))
		return czone_fail(-EPROTO, "the kernel sent %s of %d bytes", what, nla_len(attr));
	memcpy(values, nla_data(attr), (n < max ? n : max) * sizeof(uint64_t));
	return 0;
}

static int parse_answer(struct nlmsghdr *hdr, struct netlink_reply *reply)
{
	struct nlattr *attr[CZONE_A_MAX + 1];
	int r;

	if (!genlmsg_valid_hdr(hdr, 0) || genlmsg_parse(hdr, 0, attr, CZONE_A_MAX, NULL) < 0)
		return czone_fail(-EPROTO, "the kernel sent a message that is no czone answer");
	if (attr[CZONE_A_ID]) {
		if (nla_len(attr[CZONE_A_ID]) != sizeof(uint32_t))
			return czone_fail(-EPROTO, "the kernel sent an id of %d bytes",
					  nla_len(attr[CZONE_A_ID]));
		reply->id = nla_get_u32(attr[CZONE_A_ID]);
		if (reply->n_ids < reply->max_ids)
			reply->ids[reply->n_ids] = reply->id;
		reply->n_ids++;
	}
	if (attr[CZONE_A_STATS]) {
		r = get_values(attr[CZONE_A_STATS], reply->stat, __CZONE_STAT_MAX, "statistics");
		if (r < 0)
			return r;
	}
	if (attr[CZONE_A_RESULT]) {
		r = get_values(attr[CZONE_A_RESULT], reply->result, __CZONE_RESULT_MAX, "a result");
		if (r < 0)
			return r;
	}
	if (attr[CZONE_A_EXTENTS]) {
		size_t size = sizeof(struct czone_extent);
		size_t n = nla_len(attr[CZONE_A_EXTENTS]) / size;

		if (nla_len(attr[CZONE_A_EXTENTS]) % size)
			return czone_fail(-EPROTO, "the kernel sent extents of %d bytes",
					  nla_len(attr[CZONE_A_EXTENTS]));
		reply->n_extents = n;
		if (n > reply->max_extents)
			n = reply->max_extents;
		if (n)
			memcpy(reply->extents, nla_data(attr[CZONE_A_EXTENTS]), n * size);
	}
	return 0;
}

/* The final message: an errno, the request (unless capped), and attributes that explain it. */
static int parse_final(struct nlmsghdr *hdr, struct netlink_reply *reply)
{
	struct nlattr *attr[NLMSGERR_ATTR_MAX + 1] = { NULL };
	int skip = hdr->nlmsg_type == NLMSG_DONE ? sizeof(int) : sizeof(struct nlmsgerr);

	reply->done = true;
	if (nlmsg_datalen(hdr) < skip) {
		if (hdr->nlmsg_type == NLMSG_DONE)
			return 0;
		return czone_fail(-EPROTO, "the kernel sent an acknowledgement of %d bytes",
				  nlmsg_datalen(hdr));
	}
	memcpy(&reply->error, nlmsg_data(hdr), sizeof(int));
	if (reply->error > 0 || reply->error < -4095)
		return czone_fail(-EPROTO, "the kernel sent %d as an error", reply->error);
	if (!(hdr->nlmsg_flags & NLM_F_ACK_TLVS))
		return 0;
	if (hdr->nlmsg_type == NLMSG_ERROR && !(hdr->nlmsg_flags & NLM_F_CAPPED)) {
		const struct nlmsgerr *err = nlmsg_data(hdr);

		if (err->msg.nlmsg_len < NLMSG_HDRLEN ||
		    err->msg.nlmsg_len > (uint32_t)nlmsg_datalen(hdr))
			return 0;
		skip += err->msg.nlmsg_len - NLMSG_HDRLEN;
	}
	skip = NLMSG_ALIGN(skip);
	if (skip >= nlmsg_datalen(hdr) ||
	    nla_parse(attr, NLMSGERR_ATTR_MAX, (struct nlattr *)((char *)nlmsg_data(hdr) + skip),
		      nlmsg_datalen(hdr) - skip, NULL) < 0)
		return 0;
	if (attr[NLMSGERR_ATTR_MSG])
		nla_strlcpy(reply->text, attr[NLMSGERR_ATTR_MSG], sizeof(reply->text));
	return 0;
}

int netlink_parse(struct nlmsghdr *hdr, struct netlink_reply *reply)
{
	switch (hdr->nlmsg_type) {
	case NLMSG_NOOP:
		return 0;
	case NLMSG_ERROR:
	case NLMSG_DONE:
		return parse_final(hdr, reply);
	case NLMSG_OVERRUN:
		return czone_fail(-EPROTO, "the kernel's answer was lost");
	default:
		/* without an acknowledgement that is all */
		reply->done = reply->unacknowledged;
		return parse_answer(hdr, reply);
	}
}

/* The kernel answers a request before send() returns; whatever is missing then does not come. */
#define ANSWER_LIMIT_MS 5000

/* No answer is longer: the extents of one zone, or what fits of a dump. */
#define ANSWER_SIZE 65536

/* That to a request for a change is shorter than this. */
#define ANSWER_TOUCH 1024

struct netlink_socket {
	struct nl_sock *sock;
	unsigned char answer[ANSWER_SIZE];
};

static void free_socket(struct netlink_socket *s)
{
	nl_socket_free(s->sock);
	free(s);
}

static int new_socket(struct netlink_socket **ret_socket)
{
	const struct timeval limit = { .tv_sec = ANSWER_LIMIT_MS / 1000 };
	struct netlink_socket *s = malloc(sizeof(*s));
	int r, on = 1;

	if (s)
		s->sock = nl_socket_alloc();
	if (!s || !s->sock) {
		free(s);
		return czone_fail(-ENOMEM, "no memory for a netlink socket");
	}
	/* libnl would ask for one each time; one that the kernel cannot allocate hides the answer */
	nl_socket_disable_auto_ack(s->sock);
	r = genl_connect(s->sock);
	if (r < 0) {
		free_socket(s);
		return czone_fail(nl_to_errno(r), "netlink socket: %s", nl_geterror(r));
	}
	setsockopt(nl_socket_get_fd(s->sock), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	/* a kernel without these says less, that is all */
	setsockopt(nl_socket_get_fd(s->sock), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(nl_socket_get_fd(s->sock), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	*ret_socket = s;
	return 0;
}

void netlink_init(struct netlink *nl, int family)
{
	*nl = (struct netlink){ .family = family, .owner = getpid() };
	pthread_mutex_init(&nl->lock, NULL);
}

void netlink_fini(struct netlink *nl)
{
	while (nl->n_idle)
		free_socket(nl->idle[--nl->n_idle]);
	pthread_mutex_destroy(&nl->lock);
}

static int get_socket(struct netlink *nl, struct netlink_socket **ret_socket)
{
	struct netlink_socket *s = NULL;
	pid_t self = getpid();

	if (!nl)
		return new_socket(ret_socket);
	pthread_mutex_lock(&nl->lock);
	/* a child of fork() must not read its parent's answers */
	if (nl->owner != self) {
		while (nl->n_idle)
			free_socket(nl->idle[--nl->n_idle]);
		nl->owner = self;
	}
	if (nl->n_idle)
		s = nl->idle[--nl->n_idle];
	pthread_mutex_unlock(&nl->lock);
	if (!s)
		return new_socket(ret_socket);
	*ret_socket = s;
	return 0;
}

/* One that has not got its whole answer is of no more use. */
static void put_socket(struct netlink *nl, struct netlink_socket *s, bool reusable)
{
	bool kept = false;

	if (nl && reusable) {
		pthread_mutex_lock(&nl->lock);
		kept = nl->n_idle < NETLINK_IDLE_MAX;
		if (kept)
			nl->idle[nl->n_idle++] = s;
		pthread_mutex_unlock(&nl->lock);
	}
	if (!kept)
		free_socket(s);
}

int netlink_resolve(void)
{
	struct netlink_socket *s;
	int family, r;

	r = new_socket(&s);
	if (r < 0)
		return r;
	family = genl_ctrl_resolve(s->sock, CZONE_GENL_NAME);
	free_socket(s);
	if (family == -NLE_OBJ_NOTFOUND)
		return czone_fail(-EOPNOTSUPP,
				  "this kernel has no zones: boot one with CONFIG_CZONE, and be in its initial network namespace");
	if (family < 0)
		return czone_fail(nl_to_errno(family), "netlink family " CZONE_GENL_NAME ": %s",
				  nl_geterror(family));
	return family;
}

/* A few attributes of a few bytes each. */
#define REQUEST_SIZE 256

struct nl_msg *netlink_request(int family, int cmd, int flags)
{
	struct nl_msg *msg = nlmsg_alloc_size(REQUEST_SIZE);

	if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, NLM_F_REQUEST | flags,
				cmd, CZONE_GENL_VERSION)) {
		nlmsg_free(msg);
		msg = NULL;
	}
	return msg;
}

/* Take in one datagram. */
static int receive(struct netlink_socket *s, const struct nlmsghdr *request,
		   struct netlink_reply *reply)
{
	struct sockaddr_nl from = { 0 };
	socklen_t from_len = sizeof(from);
	struct nlmsghdr *hdr;
	ssize_t got;
	int n, r = 0;

	do {
		got = recvfrom(nl_socket_get_fd(s->sock), s->answer, sizeof(s->answer), MSG_TRUNC,
			       (struct sockaddr *)&from, &from_len);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return czone_fail(-ETIMEDOUT, "the kernel did not answer within %d ms", ANSWER_LIMIT_MS);
	if (got < 0)
		return czone_fail(-errno, "receiving from the kernel: %s", strerror(errno));
	if (got == 0)
		return czone_fail(-EPROTO, "the kernel closed the netlink socket");
	if ((size_t)got > sizeof(s->answer))
		return czone_fail(-EPROTO, "the kernel sent an answer of %zd bytes", got);
	n = got;
	for (hdr = (struct nlmsghdr *)s->answer; r == 0 && !reply->done && nlmsg_ok(hdr, n);
	     hdr = nlmsg_next(hdr, &n)) {
		/* only from the kernel, only in answer to this request */
		if (from.nl_pid == 0 && hdr->nlmsg_seq == request->nlmsg_seq)
			r = netlink_parse(hdr, reply);
	}
	return r;
}

int netlink_ask(struct netlink *nl, struct nl_msg *request, struct netlink_reply *reply,
		const char *what)
{
	struct netlink_socket *s;
	int r;

	r = get_socket(nl, &s);
	if (r < 0) {
		nlmsg_free(request);
		return r;
	}
	/*
	 * The kernel answers in one go with what it does. When memory is short it
	 * may find none for a page of ours that is not there, and drops the answer:
	 * nobody would know of a zone that was made. So get the page before.
	 */
	s->answer[0] = s->answer[ANSWER_TOUCH - 1] = 0;
	reply->unacknowledged = !(nlmsg_hdr(request)->nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP));
	r = nl_send_auto(s->sock, request);
	r = r < 0 ? czone_fail(nl_to_errno(r), "%s: sending to the kernel: %s", what, nl_geterror(r)) : 0;
	while (r == 0 && !reply->done)
		r = receive(s, nlmsg_hdr(request), reply);
	put_socket(nl, s, r == 0);
	nlmsg_free(request);
	if (r < 0 || reply->error == 0)
		return r;
	if (reply->text[0])
		return czone_fail(reply->error, "%s: %s", what, reply->text);
	if (reply->error == -EPERM)
		return czone_fail(-EPERM, "%s: needs CAP_SYS_ADMIN in the initial user namespace", what);
	return czone_fail(reply->error, "%s: %s", what, strerror(-reply->error));
}
