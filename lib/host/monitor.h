/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's monitor, through libvirt. */
#ifndef LIB_HOST_MONITOR_H
#define LIB_HOST_MONITOR_H

#include <jansson.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

/*
 * Send a command and wait for the answer, at most so long: libvirt itself waits
 * for ever for a QEMU that stands still. arguments is given up, and may be NULL;
 * an fd goes along unless it is -1, and stays the caller's. The answer, to be
 * given up with json_decref(), has a member "return", or else "error", for
 * which the call is no failure: see monitor_error().
 */
int monitor_ask(virDomainPtr domain, const char *command, json_t *arguments, int fd,
		uint32_t timeout_ms, json_t **ret_answer);

/* What QEMU does not like about a command, or NULL. */
const char *monitor_error(const json_t *answer);

#endif /* LIB_HOST_MONITOR_H */
