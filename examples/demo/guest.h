/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs shell lines in the microVM, through the port that its init serves. */
#ifndef DEMO_GUEST_H
#define DEMO_GUEST_H

#include <stdint.h>

/* Connect to the port's socket; tries for timeout_ms. A descriptor, or -1 with a message on stderr. */
int guest_connect(const char *socket_path, int timeout_ms);

/*
 * Run one line and wait for it, at most timeout_ms. Returns malloc'ed output
 * when it ended with status 0, else prints why not and returns NULL.
 */
char *guest_run(int fd, int timeout_ms, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif /* DEMO_GUEST_H */
