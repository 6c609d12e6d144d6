// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * pagemap PID: the guest-physical pages that a process has mapped, one run per
 * line: "START COUNT anon|shm|file|image", start in hex, from
 * /proc/PID/pagemap. image: its program, from the read-only root.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096ULL
#define PRESENT (1ULL << 63)
#define FRAME ((1ULL << 55) - 1)

static void area(int fd, uint64_t start, uint64_t end, const char *kind)
{
	uint64_t run = 0, count = 0, entry[512];

	for (uint64_t at = start; at < end; ) {
		size_t n = (end - at) / PAGE < 512 ? (end - at) / PAGE : 512;

		if (pread(fd, entry, n * 8, at / PAGE * 8) != (ssize_t)(n * 8))
			err(1, "pagemap");
		for (size_t i = 0; i < n; i++, at += PAGE) {
			uint64_t frame = entry[i] & PRESENT ? (entry[i] & FRAME) * PAGE : 0;

			if (entry[i] & PRESENT && !frame)
				errx(1, "no page frame numbers: not root?");
			if (count && frame == run + count * PAGE) {
				count++;
				continue;
			}
			if (count)
				printf("%llx %llu %s\n", (unsigned long long)run, (unsigned long long)count, kind);
			run = frame;
			count = frame ? 1 : 0;
		}
	}
	if (count)
		printf("%llx %llu %s\n", (unsigned long long)run, (unsigned long long)count, kind);
}

int main(int argc, char **argv)
{
	char name[64], line[512];
	FILE *maps;
	int fd;

	if (argc != 2)
		errx(2, "usage: pagemap PID");
	snprintf(name, sizeof(name), "/proc/%d/maps", atoi(argv[1]));
	maps = fopen(name, "r");
	snprintf(name, sizeof(name), "/proc/%d/pagemap", atoi(argv[1]));
	fd = open(name, O_RDONLY);
	if (!maps || fd < 0)
		err(1, "%s", name);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, inode;
		char path[256] = "";

		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu %255s", &start, &end, &inode, path) < 3)
			errx(1, "cannot read: %s", line);
		/* the kernel's own pages, not the process's */
		if (!strcmp(path, "[vvar]") || !strcmp(path, "[vdso]") || !strcmp(path, "[vsyscall]") ||
		    !strcmp(path, "[vvar_vclock]"))
			continue;
		area(fd, start, end, !inode ? "anon" : !strncmp(path, "/tmp/", 5) ? "shm" :
		     !strncmp(path, "/data/", 6) ||
		     !strncmp(path, "/scratch/", 9) ? "file" : "image");
	}
	return 0;
}
