/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a failure is called, and what the last one in this thread was about. */
#include "driver.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[1536];

int czone_fail(int error, const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	errno = saved;
	return error;
}

const char *czone_error_detail(void)
{
	return detail;
}

const char *czone_strerror(int error)
{
	const char *text;

	/* the errors that czone.h names, in its words */
	switch (error) {
	case 0:
		return "success";
	case -E2BIG:
		return "options that this library is too old for";
	case -EACCES:
	case -EPERM:
		return "missing privilege";
	case -EBUSY:
		return "in use";
	case -EADDRINUSE:
		return "somebody serves this socket";
	case -EALREADY:
		return "over already";
	case -ECANCELED:
		return "cancelled";
	case -EDQUOT:
		return "beyond the quota of the zones";
	case -EEXIST:
		return "has a zone already";
	case -EINVAL:
		return "bad argument";
	case -EIO:
		return "libvirt failed";
	case -ENAMETOOLONG:
		return "a path is too long";
	case -ENOENT:
		return "no such zone or cgroup";
	case -ENOEXEC:
		return "no usable QEMU";
	case -ENOMEM:
		return "out of memory";
	case -ENOSPC:
		return "not enough room in the pool, or in the zone";
	case -ENOTCONN:
		return "the guest's driver is not there";
	case -EOPNOTSUPP:
		return "not possible on this side or with this kernel";
	case -EPROTO:
		return "an answer that makes no sense";
	case -ESHUTDOWN:
		return "the VM has gone";
	case -ETIMEDOUT:
		return "no answer in time";
	}
	/* anything else comes from the system and has its words */
	text = error > -4096 && error < 0 ? strerrordesc_np(-error) : NULL;
	return text ? text : "unknown error";
}
