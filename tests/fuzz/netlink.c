// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the guest half takes for an answer of its kernel: statistics, ids,
 * ranges, results, and errors with their text.
 *
 * Input: one byte of settings, then messages as they come out of a socket.
 */
#include "fuzz.h"
#include "guest/guest.h"

#include <linux/netlink.h>

#define MESSAGES_MAX 4096
#define EXTENTS 3
#define IDS 2

static void check(const struct netlink_reply *reply, int r)
{
	FUZZ_CHECK(r == 0 || r == -EPROTO);
	FUZZ_CHECK(r < 0 || (reply->error <= 0 && reply->error >= -4095));
	FUZZ_CHECK(memchr(reply->text, 0, sizeof(reply->text)));
	FUZZ_CHECK(reply->max_extents <= EXTENTS && reply->max_ids <= IDS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t flags = fuzz_take8(&in);
	struct netlink_reply reply = {
		.max_extents = flags & 1 ? EXTENTS : 0, .max_ids = flags & 2 ? IDS : 0,
	};
	int n = in.left < MESSAGES_MAX ? in.left : MESSAGES_MAX, r = 0;
	/* exactly as large as they are said to be, for the sanitizer to see */
	struct nlmsghdr *hdr, *messages = malloc(n ? n : 1);

	reply.extents = malloc(sizeof(*reply.extents) * reply.max_extents);
	reply.ids = malloc(sizeof(*reply.ids) * reply.max_ids);
	fuzz_take(&in, messages, n);
	for (hdr = messages; r == 0 && !reply.done && nlmsg_ok(hdr, n); hdr = nlmsg_next(hdr, &n)) {
		r = netlink_parse(hdr, &reply);
		check(&reply, r);
	}
	free(reply.ids);
	free(reply.extents);
	free(messages);
	return 0;
}
