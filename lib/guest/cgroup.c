/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CGROUP_DEPTH_MAX 64	/* deeper ones are not looked at */

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

int cgroup_find_mount(const char *mountinfo, char *ret_path, size_t size)
{
	bool found = false, elsewhere = false;
	FILE *file = fopen(mountinfo, "re");
	char *line = NULL;
	size_t room = 0;
	int r;

	/* What procfs also says when it is short of memory for an inode. */
	if (!file && errno == ENOENT)
		file = fopen(mountinfo, "re");
	if (!file)
		return czone_fail(-errno, "%s: %s", mountinfo, strerror(errno));
	/* ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - FSTYPE SOURCE OPTIONS */
	while (!found && getline(&line, &room, file) > 0) {
		char *type = strstr(line, " - ");
		char *field = line, *next = line, *root = NULL;
		int n;

		if (!type || strncmp(type + 3, "cgroup2 ", 8))
			continue;
		for (n = 0; n < 5 && next; n++) {
			field = strsep(&next, " ");
			if (n == 3)
				root = field;
		}
		if (n < 5)
			continue;
		unescape(field);
		if (strcmp(root, "/"))
			elsewhere = true;
		else if (strlen(field) < size)
			found = strcpy(ret_path, field);
	}
	r = found || feof(file) ? 0 : -errno;
	free(line);
	fclose(file);
	if (found)
		return 0;
	if (r < 0)
		return czone_fail(r, "%s: %s", mountinfo, strerror(-r));
	if (elsewhere)
		return czone_fail(-EOPNOTSUPP, "cgroup v2 is mounted here without the root of its hierarchy");
	return czone_fail(-EOPNOTSUPP, "cgroup v2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup");
}

/* Whether the list in the cgroup's own cgroup.controllers has "memory". */
int cgroup_check_memory(int cgroup, const char *mount, const char *path)
{
	int fd = openat(cgroup, "cgroup.controllers", O_RDONLY | O_CLOEXEC);
	char list[1024], *rest = list, *word;
	ssize_t n;

	if (fd < 0)
		return czone_fail(-errno, "%s%s/cgroup.controllers: %s", mount, path, strerror(errno));
	n = read(fd, list, sizeof(list) - 1);
	if (n < 0)
		n = czone_fail(-errno, "%s%s/cgroup.controllers: %s", mount, path, strerror(errno));
	close(fd);
	if (n < 0)
		return n;
	list[n] = 0;
	while ((word = strsep(&rest, " \n"))) {
		if (!strcmp(word, "memory"))
			return 0;
	}
	return czone_fail(-EOPNOTSUPP,
			  "cgroup %s is without the memory controller: write +memory to the cgroup.subtree_control of its parent",
			  path);
}

static int open_directory(const char *mount)
{
	int fd = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? czone_fail(-errno, "%s: %s", mount, strerror(errno)) : fd;
}

/* Closes fd where it is not in cgroup v2. */
static int check_version(int fd, const char *mount, const char *path)
{
	struct statfs fs;
	int r;

	if (fstatfs(fd, &fs) < 0)
		r = czone_fail(-errno, "%s%s: %s", mount, path, strerror(errno));
	else if ((unsigned long)fs.f_type != CGROUP2_SUPER_MAGIC)
		r = czone_fail(-EOPNOTSUPP, "%s%s is not in cgroup v2", mount, path);
	else
		return fd;
	close(fd);
	return r;
}

int cgroup_open_root(const char *mount)
{
	int root = open_directory(mount);

	return root < 0 ? root : check_version(root, mount, "");
}

int cgroup_open_at(int root, const char *mount, const char *path)
{
	/* a path from here stays here, whatever is mounted over it */
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};
	const char *relative = path + strspn(path, "/");
	int fd = syscall(SYS_openat2, root, *relative ? relative : ".", &how, sizeof(how));

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return czone_fail(-ENOENT, "no such cgroup: %s in %s", path, mount);
	return czone_fail(-errno, "cgroup %s in %s: %s", path, mount, strerror(errno));
}

int cgroup_open(const char *mount, const char *path)
{
	int root = open_directory(mount), fd, r;

	if (root < 0)
		return root;
	fd = cgroup_open_at(root, mount, path);
	close(root);
	if (fd >= 0)
		fd = check_version(fd, mount, path);
	if (fd < 0)
		return fd;
	r = cgroup_check_memory(fd, mount, path);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* Look below an open directory, which this closes. A descriptor, or -ENOENT. */
static int find_id(int directory, ino_t id, int depth)
{
	DIR *dir = fdopendir(directory);
	struct dirent *entry;
	int found = -ENOENT;

	if (!dir) {
		close(directory);
		return -errno;
	}
	while (found == -ENOENT && (entry = readdir(dir))) {
		int fd;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		fd = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)		/* gone meanwhile */
			continue;
		if (entry->d_ino == id)
			found = fd;
		else if (depth < CGROUP_DEPTH_MAX)
			found = find_id(fd, id, depth + 1);
		else
			close(fd);
	}
	closedir(dir);
	return found;
}

/* Whether the cgroup with this id is `cgroup` or one above it. */
static bool is_below(int cgroup, uint64_t id)
{
	int at = dup(cgroup), up;
	struct stat here, above;

	for (int depth = 0; at >= 0 && depth < CGROUP_DEPTH_MAX && fstat(at, &here) == 0; depth++) {
		if (here.st_ino == id)
			break;
		up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = up;
		/* the mount ends here */
		if (at >= 0 && (fstat(at, &above) < 0 || above.st_dev != here.st_dev)) {
			close(at);
			at = -1;
		}
	}
	if (at < 0)
		return false;
	close(at);
	return here.st_ino == id;
}

int cgroup_open_id(const char *mount, uint64_t id, const char *path)
{
	int fd;

	if (path) {
		fd = cgroup_open(mount, path);
		if (fd >= 0 && !is_below(fd, id)) {
			close(fd);
			return czone_fail(-EINVAL, "cgroup %s is not below the one that has the zone", path);
		}
		return fd;
	}
	fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return czone_fail(-errno, "%s: %s", mount, strerror(errno));
	fd = find_id(fd, id, 0);
	if (fd == -ENOENT)
		return czone_fail(-ENOENT, "the zone's cgroup (%llu) is not below %s", (unsigned long long)id, mount);
	return fd < 0 ? czone_fail(fd, "looking for the zone's cgroup below %s: %s", mount, strerror(-fd)) : fd;
}
