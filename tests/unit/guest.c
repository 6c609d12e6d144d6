/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capabilities of this process, cgroups of this system. */
#include "guest/guest.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- capabilities; every test is a process of its own */

static void set_caps(bool permitted, bool effective)
{
	const cap_value_t cap = CAP_SYS_ADMIN;
	cap_t caps = cap_get_proc();

	if (!permitted)
		cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_CLEAR);
	cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, effective ? CAP_SET : CAP_CLEAR);
	cr_assert_eq(cap_set_proc(caps), 0, "%s", strerror(errno));
	cap_free(caps);
}

static bool has(cap_flag_t flag)
{
	cap_flag_value_t value = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	cap_get_flag(caps, CAP_SYS_ADMIN, flag, &value);
	cap_free(caps);
	return value == CAP_SET;
}

Test(caps, without_the_capability_the_call_is_refused_by_its_name)
{
	bool raised;

	set_caps(false, false);
	cr_assert_eq(caps_raise(&raised), -EPERM);
	cr_assert_not(raised);
	cr_assert(strstr(czone_error_detail(), "CAP_SYS_ADMIN"), "%s", czone_error_detail());
}

Test(caps, a_permitted_one_is_effective_during_the_call_only)
{
	bool raised;

	if (!has(CAP_PERMITTED))
		cr_skip_test("needs CAP_SYS_ADMIN");
	set_caps(true, false);
	cr_assert_eq(caps_raise(&raised), 0);
	cr_assert(raised);
	cr_assert(has(CAP_EFFECTIVE));
	caps_lower(raised);
	cr_assert_not(has(CAP_EFFECTIVE));
	cr_assert(has(CAP_PERMITTED));
}

Test(caps, an_effective_one_stays)
{
	bool raised;

	if (!has(CAP_EFFECTIVE))
		cr_skip_test("needs CAP_SYS_ADMIN");
	cr_assert_eq(caps_raise(&raised), 0);
	cr_assert_not(raised);
	caps_lower(raised);
	cr_assert(has(CAP_EFFECTIVE));
}

/* ---- the mount of cgroup v2 */

static int find_in(const char *text, char *path, size_t size)
{
	char name[] = "/tmp/czone-mountinfo-XXXXXX";
	int fd = mkstemp(name), r;

	cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	r = cgroup_find_mount(name, path, size);
	unlink(name);
	return r;
}

#define OTHER_MOUNTS								\
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"		\
	"30 22 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n"		\
	"31 30 0:27 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory\n"

Test(mount, is_found_among_others)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in(OTHER_MOUNTS "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			     path, sizeof(path)), 0, "%s", czone_error_detail());
	cr_assert_str_eq(path, "/sys/fs/cgroup/unified");
}

Test(mount, may_have_optional_fields_and_an_escaped_path)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in("32 30 0:28 / /mnt/a\\040b\\134c rw shared:9 master:2 - cgroup2 none rw\n",
			     path, sizeof(path)), 0);
	cr_assert_str_eq(path, "/mnt/a b\\c");
}

Test(mount, of_a_part_of_the_hierarchy_will_not_do)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in("32 30 0:28 /pods /mnt rw - cgroup2 none rw\n", path, sizeof(path)),
		     -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "root of its hierarchy"), "%s", czone_error_detail());
	cr_assert_eq(find_in("32 30 0:28 /pods /mnt rw - cgroup2 none rw\n"
			     "33 30 0:28 / /all rw - cgroup2 none rw\n", path, sizeof(path)), 0);
	cr_assert_str_eq(path, "/all");
}

Test(mount, that_is_missing_is_told_of)
{
	char path[PATH_MAX];

	cr_assert_eq(find_in(OTHER_MOUNTS, path, sizeof(path)), -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "mount -t cgroup2"), "%s", czone_error_detail());
	cr_assert_eq(cgroup_find_mount("/nonexistent/mountinfo", path, sizeof(path)), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/nonexistent/mountinfo"), "%s", czone_error_detail());
}

Test(mount, lines_cut_short_do_no_harm)
{
	const char *line = "32 30 0:28 / /mnt rw - cgroup2 none rw\n";
	char path[PATH_MAX], cut[64];

	for (size_t n = 0; n < strlen(line); n++) {
		int r;

		snprintf(cut, sizeof(cut), "%.*s", (int)n, line);
		r = find_in(cut, path, sizeof(path));
		cr_assert(r == 0 || r == -EOPNOTSUPP, "\"%s\": %d", cut, r);
	}
	cr_assert_eq(find_in(" - cgroup2 x\n", path, sizeof(path)), -EOPNOTSUPP);
}

/* ---- cgroups */

static char directory[PATH_MAX];

static void make_directory(void)
{
	strcpy(directory, "/tmp/czone-cgroup-XXXXXX");
	cr_assert_not_null(mkdtemp(directory), "%s", strerror(errno));
}

static void remove_directory(void)
{
	char command[PATH_MAX + 16];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	cr_assert_eq(system(command), 0);
}

Test(cgroup, that_is_not_there_is_named, .init = make_directory, .fini = remove_directory)
{
	cr_assert_eq(cgroup_open(directory, "/pods/a"), -ENOENT);
	cr_assert(strstr(czone_error_detail(), "/pods/a"), "%s", czone_error_detail());
	cr_assert(strstr(czone_error_detail(), directory), "%s", czone_error_detail());
}

Test(cgroup, is_not_just_any_directory, .init = make_directory, .fini = remove_directory)
{
	cr_assert_eq(cgroup_open(directory, "/"), -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "not in cgroup v2"), "%s", czone_error_detail());
}

Test(cgroup, is_below_the_mount_whatever_links_say, .init = make_directory, .fini = remove_directory)
{
	char name[PATH_MAX + 16];

	snprintf(name, sizeof(name), "%s/out", directory);
	cr_assert_eq(symlink("/sys/fs/cgroup", name), 0);
	cr_assert_eq(cgroup_open(directory, "/out"), -EXDEV, "%s", czone_error_detail());
	snprintf(name, sizeof(name), "%s/file", directory);
	close(open(name, O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(cgroup_open(directory, "/file"), -ENOTDIR, "%s", czone_error_detail());
}

Test(cgroup, of_this_system_is_opened_or_lacks_the_memory_controller)
{
	char mount[PATH_MAX], path[PATH_MAX + 32], controllers[1024] = "";
	FILE *file;
	int fd;

	if (cgroup_find_mount("/proc/self/mountinfo", mount, sizeof(mount)) < 0)
		cr_skip_test("no cgroup v2 here");
	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount);
	file = fopen(path, "r");
	cr_assert_not_null(file, "%s: %s", path, strerror(errno));
	if (fgets(controllers, sizeof(controllers), file) == NULL)
		controllers[0] = 0;
	fclose(file);
	fd = cgroup_open(mount, "/");
	if (strstr(controllers, "memory")) {
		cr_assert_geq(fd, 0, "%s", czone_error_detail());
		close(fd);
	} else {
		cr_assert_eq(fd, -EOPNOTSUPP);
		cr_assert(strstr(czone_error_detail(), "subtree_control"), "%s", czone_error_detail());
	}
}
