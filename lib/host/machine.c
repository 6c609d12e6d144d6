// SPDX-License-Identifier: LGPL-2.1-or-later
#include "machine.h"
#include "../driver.h"

#include <errno.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

/* /dev/kvm alone proves nothing: the CPU's own virtualisation must show. */
bool machine_has_kvm(void)
{
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *f;

	if (access("/dev/kvm", R_OK | W_OK))
		return false;
	f = fopen("/proc/cpuinfo", "re");
	if (!f)
		return false;
	while (!found && getline(&line, &size, f) > 0)
		found = !strncmp(line, "flags", 5) && (strstr(line, " vmx ") || strstr(line, " svm "));
	free(line);
	fclose(f);
	return found;
}

char *machine_find_emulator(void)
{
	const char *named = getenv("CZONE_QEMU"), *path = getenv("PATH");
	char *copy, *dir, *save, *found = NULL;

	if (named && *named)
		return strdup(named);
	copy = strdup(path ? path : "/usr/bin");
	for (dir = copy ? strtok_r(copy, ":", &save) : NULL; dir && !found; dir = strtok_r(NULL, ":", &save)) {
		if (asprintf(&found, "%s/qemu-system-x86_64", dir) < 0)
			found = NULL;
		if (found && access(found, X_OK)) {
			free(found);
			found = NULL;
		}
	}
	free(copy);
	return found;
}

/* Does this kernel use huge pages for shared memory that nobody asked them for? */
static bool shmem_huge(const char *mode)
{
	char text[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	bool found = false;

	if (f) {
		found = fgets(text, sizeof(text), f) && strstr(text, mode);
		fclose(f);
	}
	return found;
}

/* Pages from a store that the host's administrator has filled. */
static int hugetlb_shift(const struct czone_vm_opts *o, uint64_t page_size, unsigned int *ret_shift)
{
	if (page_size > CZONE_BLOCK)
		return czone_fail(-EOPNOTSUPP, "pool_dir %s is on a hugetlbfs with pages of %llu MiB: a zone's blocks have 4 MiB, so such a page could never be given back; mount it with pagesize=2M",
				  o->pool_dir, (unsigned long long)page_size >> 20);
	*ret_shift = __builtin_ctzll(page_size);
	return 0;
}

int machine_pool_shifts(const struct czone_vm_opts *o, unsigned int *ret_backing,
			unsigned int *ret_report)
{
	char buffer[8192], *real;
	struct mntent mount;
	size_t best = 0;
	struct statfs fs;
	bool huge = false;
	FILE *f;

	*ret_backing = *ret_report = 12;
	if (o->pool_backing == CZONE_POOL_MEMFD) {
		if (shmem_huge("[always]") || shmem_huge("[within_size]") || shmem_huge("[force]"))
			*ret_backing = 21;
		return 0;
	}
	real = realpath(o->pool_dir, NULL);
	if (!real || statfs(real, &fs)) {
		int error = -errno;

		free(real);
		return czone_fail(error, "pool_dir %s: %s", o->pool_dir, strerror(-error));
	}
	if (fs.f_type == HUGETLBFS_MAGIC) {
		free(real);
		return hugetlb_shift(o, fs.f_bsize, ret_backing) ?: hugetlb_shift(o, fs.f_bsize, ret_report);
	}
	if (fs.f_type != TMPFS_MAGIC) {
		free(real);
		return czone_fail(-EINVAL, "pool_dir %s is not on a tmpfs or hugetlbfs, so it is no memory",
				  o->pool_dir);
	}
	/* the mount with the longest path above it is the one it is on */
	f = setmntent("/proc/self/mounts", "re");
	while (f && getmntent_r(f, &mount, buffer, sizeof(buffer))) {
		size_t n = strlen(mount.mnt_dir);
		const char *option;

		if (n >= best && !strncmp(real, mount.mnt_dir, n) &&
		    (n == 1 || !real[n] || real[n] == '/')) {
			best = n;
			option = hasmntopt(&mount, "huge");
			huge = option && strncmp(option, "huge=never", 10);
		}
	}
	if (f)
		endmntent(f);
	free(real);
	if ((huge && !shmem_huge("[deny]")) || shmem_huge("[force]"))
		*ret_backing = 21;
	return 0;
}
