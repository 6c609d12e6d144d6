/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages as a kernel sends them, and this kernel's own netlink. */
#include "guest/guest.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAMILY 42

static struct nl_msg *answer(void)
{
	struct nl_msg *msg = nlmsg_alloc();

	genlmsg_put(msg, 1, 1, FAMILY, 0, 0, CZONE_CMD_GET, CZONE_GENL_VERSION);
	return msg;
}

static int parse(struct nl_msg *msg, struct netlink_reply *reply)
{
	int r = netlink_parse(nlmsg_hdr(msg), reply);

	nlmsg_free(msg);
	return r;
}

static void count_up(uint64_t *values, int n)
{
	for (int i = 0; i < n; i++)
		values[i] = i + 1;
}

Test(answer, of_the_same_age_is_taken_in_whole)
{
	uint64_t stat[__CZONE_STAT_MAX], result[__CZONE_RESULT_MAX];
	const struct czone_extent sent[2] = { { 4096, 1 }, { 8192, 2 } };
	struct czone_extent extents[2];
	struct netlink_reply reply = { .extents = extents, .max_extents = 2 };
	struct nl_msg *msg = answer();

	count_up(stat, __CZONE_STAT_MAX);
	count_up(result, __CZONE_RESULT_MAX);
	nla_put_u32(msg, CZONE_A_ID, 7);
	nla_put(msg, CZONE_A_PAD, 0, NULL);
	nla_put(msg, CZONE_A_STATS, sizeof(stat), stat);
	nla_put(msg, CZONE_A_RESULT, sizeof(result), result);
	nla_put(msg, CZONE_A_EXTENTS, sizeof(sent), sent);
	cr_assert_eq(parse(msg, &reply), 0, "%s", czone_error_detail());
	cr_assert_eq(reply.id, 7);
	cr_assert_arr_eq(reply.stat, stat, sizeof(stat));
	cr_assert_arr_eq(reply.result, result, sizeof(result));
	cr_assert_eq(reply.n_extents, 2);
	cr_assert_arr_eq(extents, sent, sizeof(sent));
	cr_assert_not(reply.done, "done without an acknowledgement");
}

Test(answer, of_an_older_kernel_leaves_the_rest_as_it_was)
{
	uint64_t stat[3];
	struct netlink_reply reply = { .stat = { [3] = CZONE_UNKNOWN } };
	struct nl_msg *msg = answer();

	count_up(stat, 3);
	nla_put(msg, CZONE_A_STATS, sizeof(stat), stat);
	cr_assert_eq(parse(msg, &reply), 0);
	cr_assert_eq(reply.stat[2], 3);
	cr_assert_eq(reply.stat[3], CZONE_UNKNOWN);
}

Test(answer, of_a_newer_kernel_stays_inside_the_array)
{
	uint64_t result[__CZONE_RESULT_MAX + 50];
	struct {
		struct netlink_reply reply;
		uint64_t guard;
	} room = { .guard = 0x55 };
	struct nl_msg *msg = answer();

	count_up(result, __CZONE_RESULT_MAX + 50);
	nla_put(msg, CZONE_A_RESULT, sizeof(result), result);
	nla_put_u32(msg, CZONE_A_MAX + 9, 1);
	cr_assert_eq(parse(msg, &room.reply), 0);
	cr_assert_eq(room.reply.result[__CZONE_RESULT_MAX - 1], __CZONE_RESULT_MAX);
	cr_assert_null(room.reply.extents);
	cr_assert_eq(room.guard, 0x55);
}

Test(answer, with_more_extents_than_room_says_how_many)
{
	const struct czone_extent sent[5] = { { 1, 1 }, { 2, 2 }, { 3, 3 } };
	struct czone_extent extents[2] = { 0 };
	struct netlink_reply reply = { .extents = extents, .max_extents = 1 };
	struct nl_msg *msg = answer();

	nla_put(msg, CZONE_A_EXTENTS, sizeof(sent), sent);
	cr_assert_eq(parse(msg, &reply), 0);
	cr_assert_eq(reply.n_extents, 5);
	cr_assert_eq(extents[0].start, 1);
	cr_assert_eq(extents[1].start, 0);
}

Test(answer, of_a_dump_collects_ids)
{
	uint32_t ids[2] = { 0 };
	struct netlink_reply reply = { .ids = ids, .max_ids = 2 };

	for (int i = 1; i <= 3; i++) {
		struct nl_msg *msg = answer();

		nla_put_u32(msg, CZONE_A_ID, i * 10);
		cr_assert_eq(parse(msg, &reply), 0);
	}
	cr_assert_eq(reply.n_ids, 3);
	cr_assert_eq(ids[0], 10);
	cr_assert_eq(ids[1], 20);
}

Test(answer, that_makes_no_sense_is_refused_by_name)
{
	const struct {
		int attr, size;
		const char *word;
	} odd[] = {
		{ CZONE_A_STATS, 12, "statistics of 12" },
		{ CZONE_A_RESULT, 7, "a result of 7" },
		{ CZONE_A_EXTENTS, 24, "extents of 24" },
		{ CZONE_A_ID, 8, "id of 8" },
		{ CZONE_A_ID, 2, "id of 2" },
	};

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		struct netlink_reply reply = { 0 };
		struct nl_msg *msg = answer();

		nla_put(msg, odd[i].attr, odd[i].size, "xxxxxxxxxxxxxxxxxxxxxxxx");
		cr_assert_eq(parse(msg, &reply), -EPROTO, "%s", odd[i].word);
		cr_assert(strstr(czone_error_detail(), odd[i].word), "%s", czone_error_detail());
	}
}

Test(answer, without_a_generic_header_is_refused)
{
	struct netlink_reply reply = { 0 };
	struct nl_msg *msg = nlmsg_alloc();

	nlmsg_put(msg, 1, 1, FAMILY, 0, 0);
	cr_assert_eq(parse(msg, &reply), -EPROTO);
}

/* ---- the last message */

static struct nl_msg *acknowledge(int error, int flags, size_t request_payload, const char *text)
{
	struct nl_msg *msg = nlmsg_alloc();
	struct nlmsghdr *hdr = nlmsg_put(msg, 1, 1, NLMSG_ERROR, 0, flags);
	struct nlmsgerr err = { .error = error };

	err.msg.nlmsg_len = NLMSG_HDRLEN + request_payload;
	nlmsg_append(msg, &err, sizeof(err), NLMSG_ALIGNTO);
	if (!(flags & NLM_F_CAPPED) && request_payload) {
		char *payload = calloc(1, request_payload);

		nlmsg_append(msg, payload, request_payload, NLMSG_ALIGNTO);
		free(payload);
	}
	if (text)
		nla_put_string(msg, NLMSGERR_ATTR_MSG, text);
	(void)hdr;
	return msg;
}

Test(final, success_is_done)
{
	struct netlink_reply reply = { 0 };

	cr_assert_eq(parse(acknowledge(0, NLM_F_CAPPED, 20, NULL), &reply), 0);
	cr_assert(reply.done);
	cr_assert_eq(reply.error, 0);
}

Test(final, error_comes_with_the_kernel_s_words)
{
	struct netlink_reply reply = { 0 };

	cr_assert_eq(parse(acknowledge(-EBUSY, NLM_F_CAPPED | NLM_F_ACK_TLVS, 20, "in use"), &reply), 0);
	cr_assert(reply.done);
	cr_assert_eq(reply.error, -EBUSY);
	cr_assert_str_eq(reply.text, "in use");
}

Test(final, error_that_repeats_the_request_has_the_words_after_it)
{
	for (size_t payload = 0; payload < 40; payload += 4) {
		struct netlink_reply reply = { 0 };

		cr_assert_eq(parse(acknowledge(-EINVAL, NLM_F_ACK_TLVS, payload, "why"), &reply), 0);
		cr_assert_eq(reply.error, -EINVAL);
		cr_assert_str_eq(reply.text, "why", "%zu", payload);
	}
}

Test(final, error_without_words_has_none)
{
	struct netlink_reply reply = { 0 };

	cr_assert_eq(parse(acknowledge(-EINVAL, 0, 8, NULL), &reply), 0);
	cr_assert_eq(reply.error, -EINVAL);
	cr_assert_str_empty(reply.text);
}

Test(final, words_that_are_too_long_are_cut)
{
	struct netlink_reply reply = { 0 };
	char text[1000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	cr_assert_eq(parse(acknowledge(-EINVAL, NLM_F_CAPPED | NLM_F_ACK_TLVS, 8, text), &reply), 0);
	cr_assert_eq(strlen(reply.text), sizeof(reply.text) - 1);
}

Test(final, error_beyond_errno_is_refused)
{
	struct netlink_reply reply = { 0 };

	cr_assert_eq(parse(acknowledge(5, 0, 0, NULL), &reply), -EPROTO);
	cr_assert_eq(parse(acknowledge(-5000, 0, 0, NULL), &reply), -EPROTO);
}

Test(final, end_of_a_dump_is_done_with_its_error)
{
	struct netlink_reply reply = { 0 };
	struct nl_msg *msg = nlmsg_alloc();
	int error = -ENODEV;

	nlmsg_put(msg, 1, 1, NLMSG_DONE, 0, 0);
	nlmsg_append(msg, &error, sizeof(error), NLMSG_ALIGNTO);
	cr_assert_eq(parse(msg, &reply), 0);
	cr_assert(reply.done);
	cr_assert_eq(reply.error, -ENODEV);
}

Test(final, messages_cut_short_stay_inside_their_bounds)
{
	/* every length of a whole one, in a block of just that size */
	for (int flags = 0; flags < 4; flags++) {
		struct nl_msg *whole = acknowledge(-EBUSY, (flags & 1 ? NLM_F_CAPPED : 0) |
						   (flags & 2 ? NLM_F_ACK_TLVS : 0), 12, "in use");
		size_t size = nlmsg_hdr(whole)->nlmsg_len;

		for (size_t n = NLMSG_HDRLEN; n <= size; n++) {
			struct nlmsghdr *cut = malloc(n);
			struct netlink_reply reply = { 0 };
			int r;

			memcpy(cut, nlmsg_hdr(whole), n);
			cut->nlmsg_len = n;
			r = netlink_parse(cut, &reply);
			cr_assert(r == 0 || r == -EPROTO, "%zu bytes: %d", n, r);
			cr_assert(r < 0 || reply.error == -EBUSY);
			free(cut);
		}
		nlmsg_free(whole);
	}
}

Test(answer, of_random_bytes_is_refused_or_understood)
{
	unsigned short seed[3] = { 1, 2, 3 };

	for (int round = 0; round < 20000; round++) {
		struct czone_extent extents[4];
		uint32_t ids[4];
		struct netlink_reply reply = {
			.extents = extents, .max_extents = 4, .ids = ids, .max_ids = 4,
		};
		size_t n = NLMSG_HDRLEN + nrand48(seed) % 120;
		unsigned char *bytes = malloc(n);
		struct nlmsghdr *hdr = (struct nlmsghdr *)bytes;
		int r;

		for (size_t i = 0; i < n; i++)
			bytes[i] = nrand48(seed) % 3 ? nrand48(seed) % 16 : nrand48(seed);
		hdr->nlmsg_len = n;
		r = netlink_parse(hdr, &reply);
		cr_assert(r == 0 || r == -EPROTO, "round %d: %d", round, r);
		free(bytes);
	}
}

/* ---- this kernel */

Test(kernel, has_the_family_or_says_what_is_missing)
{
	int family = netlink_resolve();

	if (family >= 0)
		cr_assert_geq(family, GENL_MIN_ID);
	else
		cr_assert_eq(family, -EOPNOTSUPP, "%s", czone_error_detail());
}

Test(kernel, refusal_becomes_an_errno_with_a_name)
{
	struct netlink_reply reply = { 0 };

	/* the controller of generic netlink has no such command */
	cr_assert_eq(netlink_ask(NULL, netlink_request(GENL_ID_CTRL, 200, NLM_F_ACK), &reply, "this"),
		     -EOPNOTSUPP);
	cr_assert_eq(strncmp(czone_error_detail(), "this: ", 6), 0, "%s", czone_error_detail());
	/* and needs a name or a number for this one */
	memset(&reply, 0, sizeof(reply));
	cr_assert_eq(netlink_ask(NULL, netlink_request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK), &reply,
				 "that"), -EINVAL);
	cr_assert_eq(strncmp(czone_error_detail(), "that: ", 6), 0, "%s", czone_error_detail());
}

static void *ask_many(void *ret_failures)
{
	for (int i = 0; i < 200; i++) {
		struct netlink_reply reply = { 0 };
		int r = netlink_ask(NULL, netlink_request(GENL_ID_CTRL, 200, NLM_F_ACK), &reply, "this");

		*(int *)ret_failures += r != -EOPNOTSUPP;
	}
	return NULL;
}

Test(kernel, answers_many_threads_at_once)
{
	pthread_t threads[4];
	int failures[4] = { 0 };

	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, ask_many, &failures[i]), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(failures[i], 0);
	}
}

/* ---- sockets of a handle */

static int ask_nonsense(struct netlink *nl)
{
	struct netlink_reply reply = { 0 };

	return netlink_ask(nl, netlink_request(GENL_ID_CTRL, 200, NLM_F_ACK), &reply, "this");
}

Test(sockets, are_used_again)
{
	struct netlink nl;
	struct netlink_socket *first;

	netlink_init(&nl, GENL_ID_CTRL);
	cr_assert_eq(ask_nonsense(&nl), -EOPNOTSUPP);
	cr_assert_eq(nl.n_idle, 1);
	first = nl.idle[0];
	for (int i = 0; i < 10; i++)
		cr_assert_eq(ask_nonsense(&nl), -EOPNOTSUPP);
	cr_assert_eq(nl.n_idle, 1);
	cr_assert_eq(nl.idle[0], first);
	netlink_fini(&nl);
}

Test(sockets, of_a_parent_are_not_its_child_s)
{
	struct netlink nl;
	int status;
	pid_t pid;

	netlink_init(&nl, GENL_ID_CTRL);
	cr_assert_eq(ask_nonsense(&nl), -EOPNOTSUPP);
	pid = fork();
	if (!pid) {
		bool good = ask_nonsense(&nl) == -EOPNOTSUPP && nl.owner == getpid() &&
			    nl.n_idle == 1;

		netlink_fini(&nl);
		_exit(!good);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_eq(ask_nonsense(&nl), -EOPNOTSUPP);
	netlink_fini(&nl);
}

static void *ask_one_handle(void *arg)
{
	for (int i = 0; i < 100; i++)
		if (ask_nonsense(arg) != -EOPNOTSUPP)
			return arg;
	return NULL;
}

Test(sockets, serve_many_threads_of_one_handle)
{
	pthread_t threads[8];
	struct netlink nl;
	void *failed;

	netlink_init(&nl, GENL_ID_CTRL);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, ask_one_handle, &nl), 0);
	for (int i = 0; i < 8; i++) {
		cr_assert_eq(pthread_join(threads[i], &failed), 0);
		cr_assert_null(failed);
	}
	cr_assert_leq(nl.n_idle, NETLINK_IDLE_MAX);
	netlink_fini(&nl);
}

Test(answer, is_all_when_no_acknowledgement_was_asked_for)
{
	struct netlink_reply reply = { .unacknowledged = true };
	struct nl_msg *msg = netlink_request(GENL_MIN_ID, CZONE_CMD_CREATE, 0);

	nla_put_u32(msg, CZONE_A_ID, 7);
	cr_assert_eq(netlink_parse(nlmsg_hdr(msg), &reply), 0);
	cr_assert(reply.done);
	cr_assert_eq(reply.id, 7);
	cr_assert_eq(reply.error, 0);
	nlmsg_free(msg);
}
