// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * entry: the first program of a container under measurement. Its first
 * instructions say so, as the byte 'f' on /io/marks; then it becomes the
 * command that it was given, which says 'r' there when it is ready.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open("/io/marks", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "f", 1) != 1) {
		perror("/io/marks");
		return 2;
	}
	if (argc < 2)
		return pause();
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
