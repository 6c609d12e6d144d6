/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a zone: create, attach, resize, reclaim, destroy. */
#include "audit.h"
#include "handle.h"
#include "options.h"
#include "thread.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_PATH_MAX 975		/* what a request to a guest has room for */

/* The flags have other names outside, so that one program can include both headers. */
_Static_assert(CZONE_CREATE_SPILL_ZONE == CZONE_CREATE_SPILL, "create flags");
_Static_assert(CZONE_ATTACH_WITH_PAGES == CZONE_ATTACH_MIGRATE, "attach flags");
_Static_assert(CZONE_DESTROY_WITH_TASKS == CZONE_DESTROY_FORCE, "destroy flags");
_Static_assert(CZONE_RECLAIM_WITH_CACHE == CZONE_RECLAIM_CACHE, "reclaim flags");
_Static_assert(CZONE_BLOCK == CZONE_BLOCK_SIZE, "block size");

static int check_flags(uint32_t flags, uint32_t known, const char *what)
{
	if (flags & ~known)
		return czone_fail(-EINVAL, "%s: unknown flags 0x%" PRIx32, what, flags & ~known);
	return 0;
}

static int round_size(uint64_t size, const char *what, uint64_t *ret_size)
{
	if (!size)
		return czone_fail(-EINVAL, "%s: size is 0", what);
	if (size > UINT64_MAX - CZONE_BLOCK + 1)
		return czone_fail(-EINVAL, "%s: size %" PRIu64 " is too large", what, size);
	*ret_size = (size + CZONE_BLOCK - 1) & ~(CZONE_BLOCK - 1);
	return 0;
}

int czone_cgroup_path_check(const char *path)
{
	if (!path)
		return czone_fail(-EINVAL, "cgroup path is NULL");
	if (path[0] != '/')
		return czone_fail(-EINVAL, "cgroup path \"%s\" does not begin with /", path);
	if (strlen(path) > CGROUP_PATH_MAX)
		return czone_fail(-EINVAL, "cgroup path is longer than %d bytes", CGROUP_PATH_MAX);
	if (strchr(path, '\n'))
		return czone_fail(-EINVAL, "cgroup path has a newline");
	for (const char *part = path; *part; part += strcspn(part, "/")) {
		part++;
		if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2]))
			return czone_fail(-EINVAL, "cgroup path \"%s\" has a part \"..\"", path);
	}
	return 0;
}

/* Take back a zone that could not be attached; the reason for that stays the detail. */
static void undo_create(struct czone_vm *vm, uint32_t id, uint32_t timeout_ms)
{
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	char reason[1536];
	int r;

	snprintf(reason, sizeof(reason), "%s", czone_error_detail());
	r = vm->driver->destroy(vm, id, 0, timeout_ms, result);
	if (r < 0)
		czone_log(CZONE_LOG_ERROR, "zone %u is left over: it could not be attached (%s) nor destroyed (%s)",
			  id, reason, czone_error_detail());
	czone_fail(0, "%s", reason);
}

/* The id of the zone for shared file cache, 0 without. */
static int file_zone_id(const struct czone_vm *vm, czone *zone, uint32_t *ret_id)
{
	int r;

	*ret_id = 0;
	if (!zone)
		return 0;
	r = czone_zone_check(zone);
	if (r < 0)
		return r;
	if (zone->vm != vm)
		return czone_fail(-EINVAL, "create: file_zone is a zone of another VM");
	*ret_id = zone->id;
	return 0;
}

int czone_create(czone_vm *vm, const struct czone_create_opts *opts, czone **ret_zone)
{
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	struct czone_create_opts o;
	uint64_t size = 0, deadline;
	uint32_t timeout_ms, file_zone, id;
	int r;

	r = czone_vm_check(vm);
	if (r < 0)
		return r;
	if (!ret_zone)
		return czone_fail(-EINVAL, "create: ret_zone is NULL");
	r = czone_options_in(&o, sizeof(o), opts,
			     czone_size_upto(struct czone_create_opts, timeout_ms), "create options");
	if (r == 0)
		r = check_flags(o.flags, CZONE_CREATE_SPILL_ZONE, "create");
	if (r == 0)
		r = round_size(o.size, "create", &size);
	if (r == 0 && o.cgroup)
		r = czone_cgroup_path_check(o.cgroup);
	if (r == 0)
		r = file_zone_id(vm, o.file_zone, &file_zone);
	if (r < 0)
		return r;

	r = czone_quota_check(vm, size, size, "create");
	if (r < 0)
		return r;

	timeout_ms = czone_timeout(o.timeout_ms);
	deadline = czone_now_ms() + timeout_ms;
	r = vm->driver->create(vm, size, o.flags, file_zone, timeout_ms, &id);
	if (r < 0)
		return r;
	czone_handle_forget(vm, id);
	r = czone_quota_check(vm, size, 0, "create");	/* others may have made some, too */
	if (r == 0 && o.cgroup) {
		uint64_t now = czone_now_ms();

		r = vm->driver->attach(vm, id, o.cgroup, 0, now < deadline ? deadline - now : 1,
				       result);
	}
	if (r == 0)
		r = czone_handle_get(vm, id, ret_zone);
	if (r < 0)
		undo_create(vm, id, timeout_ms);
	else
		czone_event(vm, CZONE_EVENT_ZONE_CREATED, id, size, 0);
	return r;
}

int czone_attach_cgroup(czone *zone, const char *path, uint32_t flags, uint32_t timeout_ms,
			struct czone_attach_report *ret_report)
{
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	int r = czone_zone_check(zone);

	if (r == 0)
		r = check_flags(flags, CZONE_ATTACH_WITH_PAGES, "attach");
	if (r == 0)
		r = czone_cgroup_path_check(path);
	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_attach_report, stuck_other),
					"attach report");
	if (r < 0)
		return r;
	/* -ENOENT may be about the cgroup */
	r = zone->vm->driver->attach(zone->vm, zone->id, path, flags, czone_timeout(timeout_ms),
				     result);
	if (ret_report && (r == 0 || r == -ENOSPC || r == -ETIMEDOUT)) {
		struct czone_attach_report report = {
			.migrated = result[CZONE_RESULT_MIGRATED],
			.stuck_pinned = result[CZONE_RESULT_STUCK_PINNED],
			.stuck_full = result[CZONE_RESULT_STUCK_FULL],
			.stuck_other = result[CZONE_RESULT_STUCK_OTHER],
		};

		czone_results_out(ret_report, &report, sizeof(report));
	}
	return r;
}

static int check_spawn(const struct czone_spawn_opts *o)
{
	if (!o->argv || !o->argv[0] || !*o->argv[0])
		return czone_fail(-EINVAL, "spawn options: argv is missing");
	if (o->n_fds && !o->fds)
		return czone_fail(-EINVAL, "spawn options: n_fds is %u, but fds is NULL", o->n_fds);
	if (o->n_fds > CZONE_SPAWN_FDS_MAX)
		return czone_fail(-EINVAL, "spawn options: n_fds is %u, more than %d", o->n_fds,
				  CZONE_SPAWN_FDS_MAX);
	return o->cgroup ? czone_cgroup_path_check(o->cgroup) : 0;
}

int czone_spawn(czone *zone, const struct czone_spawn_opts *opts, int *ret_pidfd, int64_t *ret_pid)
{
	struct czone_spawn_opts o = CZONE_INIT(o);
	const struct czone_driver *driver;
	int r = czone_zone_check(zone), pidfd;
	pid_t pid;

	if (r == 0)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_spawn_opts, timeout_ms),
				     "spawn options");
	if (r == 0)
		r = check_spawn(&o);
	if (r < 0)
		return r;
	driver = zone->vm->driver;
	if (!driver->spawn)
		return czone_fail(-EOPNOTSUPP, "%s: only on the guest side can a command be started", driver->name);
	o.timeout_ms = czone_timeout(o.timeout_ms);
	/* -ENOENT may be about the command */
	r = driver->spawn(zone->vm, zone->id, &o, &pidfd, &pid);
	if (r < 0)
		return r;
	if (ret_pidfd)
		*ret_pidfd = pidfd;
	else
		close(pidfd);
	if (ret_pid)
		*ret_pid = pid;
	return 0;
}

int czone_resize(czone *zone, uint64_t size, uint32_t timeout_ms)
{
	int r = czone_zone_check(zone);

	if (r == 0)
		r = round_size(size, "resize", &size);
	if (r < 0)
		return r;
	r = czone_quota_check_resize(zone->vm, zone->id, size);
	if (r == 0)
		r = zone->vm->driver->resize(zone->vm, zone->id, size, czone_timeout(timeout_ms));
	return czone_handle_result(zone, r);
}

static int reclaim(struct czone_vm *vm, uint32_t id, uint64_t bytes,
		   const struct czone_reclaim_opts *opts, uint64_t *ret_returned)
{
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	struct czone_reclaim_opts o = CZONE_INIT(o);
	int r;

	if (opts) {
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_reclaim_opts, timeout_ms),
				     "reclaim options");
		if (r < 0)
			return r;
	}
	r = check_flags(o.flags, CZONE_RECLAIM_WITH_CACHE, "reclaim");
	if (r < 0)
		return r;
	if (bytes)		/* for a driver 0 is all there is */
		r = vm->driver->reclaim(vm, id, bytes == UINT64_MAX ? 0 : bytes, o.flags,
					czone_timeout(o.timeout_ms), result);
	czone_event(vm, CZONE_EVENT_RECLAIMED, id, result[CZONE_RESULT_RETURNED], r);
	if (ret_returned && (r == 0 || r == -ETIMEDOUT))
		*ret_returned = result[CZONE_RESULT_RETURNED];
	return r;
}

int czone_reclaim(czone *zone, uint64_t bytes, const struct czone_reclaim_opts *opts,
		  uint64_t *ret_returned)
{
	int r = czone_zone_check(zone);

	if (r < 0)
		return r;
	return czone_handle_result(zone, reclaim(zone->vm, zone->id, bytes, opts, ret_returned));
}

int czone_vm_reclaim(czone_vm *vm, uint64_t bytes, const struct czone_reclaim_opts *opts,
		     uint64_t *ret_returned)
{
	int r = czone_vm_check(vm);

	return r < 0 ? r : reclaim(vm, CZONE_ID_VM, bytes, opts, ret_returned);
}

int czone_set_idle_return(czone *zone, const struct czone_idle_opts *opts)
{
	struct czone_idle_opts o = CZONE_INIT(o);
	const struct czone_driver *driver;
	int r = czone_zone_check(zone);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_idle_opts, floor), "idle options");
	if (r < 0)
		return r;
	if (o.delay_ms > CZONE_IDLE_DELAY_MAX_MS)
		return czone_fail(-EINVAL, "idle options: delay_ms is more than %u",
				  CZONE_IDLE_DELAY_MAX_MS);
	if (!o.delay_ms && o.floor)
		return czone_fail(-EINVAL, "idle options: a floor, but no delay_ms");
	driver = zone->vm->driver;
	if (!driver->set_idle)
		return czone_fail(-EOPNOTSUPP, "zones of %s give nothing back by themselves",
				  driver->name);
	r = driver->set_idle(zone->vm, zone->id, o.delay_ms, o.floor, czone_timeout(o.timeout_ms));
	return czone_handle_result(zone, r);
}

int czone_destroy(czone *zone, uint32_t flags, uint32_t timeout_ms,
		  struct czone_destroy_report *ret_report)
{
	uint64_t result[__CZONE_RESULT_MAX] = { 0 };
	int r = czone_zone_check(zone);

	if (r == 0)
		r = check_flags(flags, CZONE_DESTROY_WITH_TASKS, "destroy");
	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_destroy_report, stuck_other),
					"destroy report");
	if (r < 0)
		return r;
	r = zone->vm->driver->destroy(zone->vm, zone->id, flags, czone_timeout(timeout_ms), result);
	if (r == 0 || r == -ENOENT)
		czone_handle_gone(zone);
	if (r == 0)
		czone_event(zone->vm, CZONE_EVENT_ZONE_DESTROYED, zone->id,
			    result[CZONE_RESULT_RETURNED], 0);
	if (ret_report && (r == 0 || r == -EBUSY || r == -ETIMEDOUT)) {
		struct czone_destroy_report report = {
			.returned = result[CZONE_RESULT_RETURNED],
			.dropped = result[CZONE_RESULT_DROPPED],
			.migrated = result[CZONE_RESULT_MIGRATED],
			.stuck_pinned = result[CZONE_RESULT_STUCK_PINNED],
			.stuck_poisoned = result[CZONE_RESULT_STUCK_POISONED],
			.stuck_other = result[CZONE_RESULT_STUCK_OTHER],
		};

		czone_results_out(ret_report, &report, sizeof(report));
	}
	return r;
}
