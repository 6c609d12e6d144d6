// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * pagemap PID: the guest-physical pages that a process has mapped, one run per
 * line: "START COUNT anon|shm|file|image", start in hex, from
 * /proc/PID/pagemap. image: its program, from the read-only root. The page of
 * zeroes that is everybody's is left out.
 *
 * pagemap --born CGROUP: those that a new process, born in that cgroup, has for
 * itself when it has written to its stack, to data that it shared with its
 * parent, and to new memory.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ULL
#define PRESENT (1ULL << 63)
#define EXCLUSIVE (1ULL << 56)
#define FRAME ((1ULL << 55) - 1)

static uint64_t wanted = PRESENT, zero_page;

/* What memory is until it is written to. */
static void find_zero_page(void)
{
	volatile char *untouched = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (untouched == MAP_FAILED || *untouched ||
	    pread(fd, &entry, 8, (uintptr_t)untouched / PAGE * 8) != 8)
		err(1, "pagemap");
	zero_page = (entry & FRAME) * PAGE;
	munmap((void *)untouched, PAGE);
	close(fd);
}

static void area(int fd, uint64_t start, uint64_t end, const char *kind)
{
	uint64_t run = 0, count = 0, entry[512];

	for (uint64_t at = start; at < end; ) {
		size_t n = (end - at) / PAGE < 512 ? (end - at) / PAGE : 512;

		if (pread(fd, entry, n * 8, at / PAGE * 8) != (ssize_t)(n * 8))
			err(1, "pagemap");
		for (size_t i = 0; i < n; i++, at += PAGE) {
			bool shown = (entry[i] & wanted) == wanted;
			uint64_t frame = shown ? (entry[i] & FRAME) * PAGE : 0;

			if (shown && !frame)
				errx(1, "no page frame numbers: not root?");
			if (frame == zero_page)
				frame = 0;
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

static void show(const char *pid)
{
	char name[64], line[512];
	FILE *maps;
	int fd;

	snprintf(name, sizeof(name), "/proc/%s/maps", pid);
	maps = fopen(name, "r");
	snprintf(name, sizeof(name), "/proc/%s/pagemap", pid);
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
	fclose(maps);
	close(fd);
}

static char shared[16 * PAGE];

/*
 * No exec, no loader; and the parent waits, or it would be the one that gets the
 * copy of a page that both write to.
 */
static void born(const char *cgroup)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP | CLONE_VFORK, .exit_signal = SIGCHLD };
	int status, fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *new;
	long pid;

	memset(shared, 1, sizeof(shared));
	args.cgroup = fd;
	pid = fd < 0 ? -1 : syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		err(1, "%s", cgroup);
	if (pid) {
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
			errx(1, "the new process failed");
		return;
	}
	memset(shared, 2, sizeof(shared));
	new = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (new == MAP_FAILED)
		err(1, "mmap");
	memset(new, 3, sizeof(shared));
	wanted = PRESENT | EXCLUSIVE;
	show("self");
	exit(0);
}

int main(int argc, char **argv)
{
	find_zero_page();
	if (argc == 3 && !strcmp(argv[1], "--born"))
		born(argv[2]);
	else if (argc == 2)
		show(argv[1]);
	else
		errx(2, "usage: pagemap PID | --born CGROUP");
	return 0;
}
