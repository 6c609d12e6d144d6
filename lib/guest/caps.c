/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"
#include <errno.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set_effective(cap_t caps, cap_flag_value_t value)
{
	const cap_value_t cap = CAP_SYS_ADMIN;

	if (cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, value) < 0 || cap_set_proc(caps) < 0)
		return czone_fail(-errno, "CAP_SYS_ADMIN could not be %s: %s",
				  value == CAP_SET ? "raised" : "lowered", strerror(errno));
	return 0;
}

static int raise_permitted(bool *ret_raised)
{
	cap_flag_value_t effective = CAP_CLEAR, permitted = CAP_CLEAR;
	cap_t caps = cap_get_proc();
	int r = 0;

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

/* The usual case, by one system call: libcap makes three, and allocates memory. */
static bool is_effective(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capget, &header, data) == 0 &&
	       data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

int caps_raise(bool *ret_raised)
{
	*ret_raised = false;
	return is_effective() ? 0 : raise_permitted(ret_raised);
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
