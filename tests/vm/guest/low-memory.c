// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * low-memory KIB SECONDS: raise the kernel's minimum of free memory for a while,
 * above what is free. Whoever allocates then, and may wait, has somebody killed;
 * this program needs nothing.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MINIMUM "/proc/sys/vm/min_free_kbytes"

int main(int argc, char **argv)
{
	char before[32];
	ssize_t n;
	int fd;

	if (argc != 3)
		errx(2, "usage: low-memory KIB SECONDS");
	fd = open(MINIMUM, O_RDWR | O_CLOEXEC);
	n = fd < 0 ? -1 : pread(fd, before, sizeof(before), 0);
	if (n <= 0 || mlockall(MCL_CURRENT | MCL_FUTURE))
		err(1, "%s", MINIMUM);
	if (pwrite(fd, argv[1], strlen(argv[1]), 0) < 0)
		err(1, "%s", MINIMUM);
	sleep(atoi(argv[2]));
	if (pwrite(fd, before, n, 0) < 0)
		err(1, "%s", MINIMUM);
	return 0;
}
