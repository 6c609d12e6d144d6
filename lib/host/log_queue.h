/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages from places that must not wait: a log function of the program may
 * block, and a blocked device thread freezes its VMs. A thread of its own
 * passes them on.
 */
#ifndef LIB_HOST_LOG_QUEUE_H
#define LIB_HOST_LOG_QUEUE_H

#include <czone.h>

int log_queue_get(void);
void log_queue_put(void);	/* the last one delivers what is queued first */

/* Between get and put; never blocks, drops and counts when too many are queued. */
void log_later(enum czone_log_level level, const char *format, ...) CZONE_PRINTF(2, 3);

#endif /* LIB_HOST_LOG_QUEUE_H */
