/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hook for OCI runtimes (crun, runc): gives a container a zone when one of its
 * annotations asks for it, and takes the zone down after it. Use it where
 * containers are started by somebody else's code, in a guest: neither that nor
 * the runtime changes, only the container's config.json:
 *
 *	"annotations": { "czone.size": "256M", "czone.spill": "true" },
 *	"hooks": {
 *		"createRuntime": [ { "path": "/usr/bin/oci-hook", "args": [ "oci-hook", "create" ] } ],
 *		"poststop": [ { "path": "/usr/bin/oci-hook", "args": [ "oci-hook", "delete" ] } ]
 *	}
 *
 * The runtime gives the state of the container on standard input and takes a
 * failure of "create" as one of the container's creation: it runs in its zone or
 * not at all. What it has already, the pages of the runtime's own init, moves into
 * the zone. Why something failed goes to standard error, which crun drops unless the
 * annotation run.oci.hooks.stderr names a file, and to the system log. Which zone it was stands in a file below /run/czone until "delete".
 */
#include <czone.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define STATE_DIR "/run/czone"
#define ID_MAX 200		/* of a container's name, so that it is a file's, too */

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "oci-hook: %s: %s\n", what, why);
	syslog(LOG_ERR, "%s: %s", what, why);
	return 1;
}

/* "64M", "1G": bytes; 0 when it makes no sense. */
static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t size = strtoull(text, &end, 10);
	int shift = *end == 'G' ? 30 : *end == 'M' ? 20 : *end == 'K' ? 10 : 0;

	if (shift)
		end++;
	if (end == text || *end || text[0] == '-' || size > UINT64_MAX >> shift)
		return 0;
	return size << shift;
}

static const char *annotation(const json_t *state, const char *name)
{
	return json_string_value(json_object_get(json_object_get(state, "annotations"), name));
}

/* The file that says which zone a container has; false when its name is no file's. */
static bool state_file(const json_t *state, char *ret_path, size_t size)
{
	const char *id = json_string_value(json_object_get(state, "id"));

	if (!id || !*id || *id == '.' || strchr(id, '/') || strlen(id) > ID_MAX)
		return false;
	snprintf(ret_path, size, STATE_DIR "/%s", id);
	return true;
}

/* The cgroup v2 of a process, as a path from the root of the hierarchy. */
static bool cgroup_of(int pid, char *ret_path, size_t size)
{
	char name[64], line[1200];
	bool found = false;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	file = fopen(name, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		found = !strncmp(line, "0::/", 4) && strlen(line + 3) < size;
		if (found)
			strcpy(ret_path, line + 3);
	}
	if (file)
		fclose(file);
	return found;
}

static int create(czone_vm *vm, const json_t *state)
{
	int pid = json_integer_value(json_object_get(state, "pid"));
	const char *spill = annotation(state, "czone.spill");
	struct czone_create_opts opts = CZONE_INIT(opts);
	char path[ID_MAX + 32], cgroup[1024], id[16];
	czone *zone;
	int fd, r;

	opts.size = parse_size(annotation(state, "czone.size"));
	if (!opts.size)
		return fail("annotation czone.size", "not a size like 256M");
	if (spill && !strcmp(spill, "true"))
		opts.flags |= CZONE_CREATE_SPILL_ZONE;
	if (pid <= 0 || !cgroup_of(pid, cgroup, sizeof(cgroup)))
		return fail("state", "no pid of a process in a cgroup v2");
	if (!strcmp(cgroup, "/"))
		return fail("state", "the container has no cgroup of its own");
	if (!state_file(state, path, sizeof(path)))
		return fail("state", "no id that is a file's name");
	mkdir(STATE_DIR, 0700);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(path, strerror(errno));

	r = czone_create(vm, &opts, &zone);
	if (r == 0) {
		r = czone_attach_cgroup(zone, cgroup, CZONE_ATTACH_WITH_PAGES, 0, NULL);
		snprintf(id, sizeof(id), "%u", czone_id(zone));
		if (r == 0 && write(fd, id, strlen(id)) < 0)
			r = -errno;
		if (r < 0) {
			fail(cgroup, czone_error_detail());
			czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, NULL);
		}
		czone_unref(zone);
	} else {
		fail("zone", czone_error_detail());
	}
	close(fd);
	if (r < 0)
		unlink(path);
	return r < 0;
}

static int delete(czone_vm *vm, const json_t *state)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	char path[ID_MAX + 32], id[16] = "";
	czone *zone;
	ssize_t n;
	int fd, r;

	if (!state_file(state, path, sizeof(path)))
		return fail("state", "no id that is a file's name");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)		/* it never had a zone */
		return 0;
	n = fd < 0 ? -1 : read(fd, id, sizeof(id) - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return fail(path, strerror(errno));
	r = czone_lookup(vm, strtoul(id, NULL, 10), &zone);
	if (r == 0) {
		r = czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 0, &report);
		czone_unref(zone);
	}
	if (r < 0 && r != -ENOENT)
		return fail("destroy", czone_error_detail());
	unlink(path);
	return 0;
}

int main(int argc, char **argv)
{
	bool creating = argc == 2 && !strcmp(argv[1], "create");
	json_error_t error;
	json_t *state;
	czone_vm *vm;
	int status;

	if (!creating && (argc != 2 || strcmp(argv[1], "delete")))
		return fail("usage", "oci-hook create|delete, with a container's state on standard input");
	state = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, &error);
	if (!json_is_object(state))
		return fail("state", state ? "not an object" : error.text);
	if (!annotation(state, "czone.size")) {
		json_decref(state);
		return 0;
	}
	if (czone_open(NULL, &vm) < 0) {
		json_decref(state);
		return fail("zones", czone_error_detail());
	}
	status = creating ? create(vm, state) : delete(vm, state);
	czone_vm_unref(vm);
	json_decref(state);
	return status;
}
