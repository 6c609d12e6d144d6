/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"
#include <errno.h>
#include <string.h>
#include <sys/capability.h>

static int set_effective(cap_t caps, cap_flag_value_t value)
{
	const cap_value_t cap = CAP_SYS_ADMIN;

	if (cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, value) < 0 || cap_set_proc(caps) < 0)
		return czone_fail(-errno, "CAP_SYS_ADMIN could not be %s: %s",
				  value == CAP_SET ? "raised" : "lowered", strerror(errno));
	return 0;
}

int caps_raise(bool *ret_raised)
{
	cap_flag_value_t effective = CAP_CLEAR, permitted = CAP_CLEAR;
	cap_t caps = cap_get_proc();
	int r = 0;

	*ret_raised = false;
	if (!caps)
		return czone_fail(-errno, "capabilities could not be read: %s", strerror(errno));
	cap_get_flag(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE, &effective);
	cap_get_flag(caps, CAP_SYS_ADMIN, CAP_PERMITTED, &permitted);
	if (effective == CAP_CLEAR && permitted == CAP_CLEAR) {
		r = czone_fail(-EPERM, "changing zones needs the capability CAP_SYS_ADMIN, which this thread does not have");
	} else if (effective == CAP_CLEAR) {
		r = set_effective(caps, CAP_SET);
		*ret_raised = r == 0;
	}
	cap_free(caps);
	return r;
}

void caps_lower(bool raised)
{
	cap_t caps;

	if (!raised)
		return;
	caps = cap_get_proc();
	if (!caps || set_effective(caps, CAP_CLEAR) < 0)
		czone_log(CZONE_LOG_WARNING, "CAP_SYS_ADMIN stays effective: %s", strerror(errno));
	if (caps)
		cap_free(caps);
}
