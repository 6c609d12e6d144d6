// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX (1 << 20)

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int guest_connect(const char *socket_path, int timeout_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int64_t end = now_ms() + timeout_ms;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(socket_path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "guest: socket path too long: %s\n", socket_path);
		close(fd);
		return -1;
	}
	strcpy(address.sun_path, socket_path);
	while (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (now_ms() > end) {
			fprintf(stderr, "guest: %s: %s\n", socket_path, strerror(errno));
			close(fd);
			return -1;
		}
		usleep(20000);
	}
	return fd;
}

static int read_some(int fd, char *buffer, size_t size, int64_t end)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t left = end - now_ms();
	ssize_t n;

	if (left < 0 || poll(&p, 1, left) <= 0) {
		errno = ETIMEDOUT;
		return -1;
	}
	n = read(fd, buffer, size);
	if (!n)
		errno = ECONNRESET;
	return n > 0 ? (int)n : -1;
}

char *guest_run(int fd, int timeout_ms, const char *format, ...)
{
	int64_t end = now_ms() + timeout_ms;
	char line[2048], head[64], *output;
	int status, length, n = 0;
	va_list ap;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n >= (int)sizeof(line) - 1 || strchr(line, '\n')) {
		fprintf(stderr, "guest: not one line of at most %zu bytes: %s\n", sizeof(line) - 2, line);
		return NULL;
	}
	line[n] = '\n';
	if (write(fd, line, n + 1) != n + 1) {
		fprintf(stderr, "guest: %s: %s\n", line, strerror(errno));
		return NULL;
	}
	line[n] = 0;
	for (n = 0; n == 0 || head[n - 1] != '\n'; n++) {
		if (n == sizeof(head) - 1 || read_some(fd, head + n, 1, end) < 0) {
			fprintf(stderr, "guest: no answer to '%s' within %d ms: %s\n", line, timeout_ms,
				strerror(errno));
			return NULL;
		}
	}
	head[n] = 0;
	if (sscanf(head, "%d %d", &status, &length) != 2 || length < 0 || length > OUTPUT_MAX) {
		fprintf(stderr, "guest: an answer to '%s' that makes no sense: %s\n", line, head);
		return NULL;
	}
	output = malloc(length + 1);
	for (int at = 0; output && at < length; at += n) {
		n = read_some(fd, output + at, length - at, end);
		if (n < 0) {
			fprintf(stderr, "guest: '%s': %s\n", line, strerror(errno));
			free(output);
			return NULL;
		}
	}
	if (output)
		output[length] = 0;
	if (status) {
		fprintf(stderr, "guest: '%s' ended with %d: %s\n", line, status, output ? output : "");
		free(output);
		return NULL;
	}
	return output;
}
