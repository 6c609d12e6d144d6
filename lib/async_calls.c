/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The asynchronous form of each call: its arguments, and where its results go. */
#include "async.h"
#include "options.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A new operation in a variable of its own type, or out with the failure. */
#define NEW_OP(op, kind, vm, zone)						\
	do {									\
		(op) = (void *)czone_op_new(&(kind), (vm), (zone));		\
		if (!(op))							\
			return -ENOMEM;						\
	} while (0)

#define START(op, timeout_ms)							\
	czone_op_start(&(op)->base, (timeout_ms), done, userdata, ret_op)

/* ------------------------------------------------------------------- waiting */

static int wait_run(struct czone_op *op, uint32_t timeout_ms)
{
	return czone_vm_wait(op->vm, timeout_ms);
}

static const struct op_kind wait_kind = { .size = sizeof(struct czone_op), .run = wait_run };

int czone_vm_wait_async(czone_vm *vm, uint32_t timeout_ms, czone_done_fn *done, void *userdata,
			czone_op **ret_op)
{
	struct czone_op *op;
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	NEW_OP(op, wait_kind, vm, NULL);
	return czone_op_start(op, czone_timeout(timeout_ms), done, userdata, ret_op);
}

/* -------------------------------------------------------------------- create */

struct create_op {
	struct czone_op base;
	struct czone_create_opts opts;
	char *cgroup;
	czone *file_zone, *zone, **ret_zone;
};

static int create_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct create_op *op = (struct create_op *)base;

	op->opts.timeout_ms = timeout_ms;
	return czone_create(base->vm, &op->opts, &op->zone);
}

static void create_tell(struct czone_op *base, int result)
{
	struct create_op *op = (struct create_op *)base;

	if (result == 0) {
		*op->ret_zone = op->zone;
		op->zone = NULL;
	}
}

static void create_undo(struct czone_op *base)
{
	struct create_op *op = (struct create_op *)base;

	if (czone_destroy(op->zone, 0, 0, NULL) < 0)
		czone_log(CZONE_LOG_ERROR, "zone %u of a create that was cancelled is left over: %s",
			  czone_id(op->zone), czone_error_detail());
}

static void create_clear(struct czone_op *base)
{
	struct create_op *op = (struct create_op *)base;

	free(op->cgroup);
	czone_unref(op->file_zone);
	czone_unref(op->zone);
}

static const struct op_kind create_kind = {
	.size = sizeof(struct create_op), .whole = true,
	.run = create_run, .tell = create_tell, .undo = create_undo, .clear = create_clear,
};

int czone_create_async(czone_vm *vm, const struct czone_create_opts *opts, czone **ret_zone,
		       czone_done_fn *done, void *userdata, czone_op **ret_op)
{
	struct czone_create_opts o;
	struct create_op *op;
	int r = czone_vm_check(vm);

	if (r == 0 && !ret_zone)
		r = czone_fail(-EINVAL, "create: ret_zone is NULL");
	if (r == 0)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_create_opts, timeout_ms),
				     "create options");
	if (r < 0)
		return r;
	NEW_OP(op, create_kind, vm, NULL);
	op->opts = o;
	op->file_zone = op->opts.file_zone = czone_ref(o.file_zone);
	op->ret_zone = ret_zone;
	if (o.cgroup) {
		op->opts.cgroup = op->cgroup = strdup(o.cgroup);
		if (!op->cgroup) {
			czone_op_discard(&op->base);
			return czone_fail(-ENOMEM, "no memory for a path");
		}
	}
	return START(op, czone_timeout(o.timeout_ms));
}

/* -------------------------------------------------------------------- attach */

struct attach_op {
	struct czone_op base;
	char *path;
	uint32_t flags;
	struct czone_attach_report report, *ret_report;
};

static int attach_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct attach_op *op = (struct attach_op *)base;

	return czone_attach_cgroup(base->zone, op->path, op->flags, timeout_ms, &op->report);
}

static void attach_tell(struct czone_op *base, int result)
{
	struct attach_op *op = (struct attach_op *)base;

	if (op->ret_report && (result == 0 || result == -ENOSPC || result == -ETIMEDOUT))
		czone_results_out(op->ret_report, &op->report, sizeof(op->report));
}

static void attach_clear(struct czone_op *base)
{
	free(((struct attach_op *)base)->path);
}

static const struct op_kind attach_kind = {
	.size = sizeof(struct attach_op),
	.run = attach_run, .tell = attach_tell, .clear = attach_clear,
};

int czone_attach_cgroup_async(czone *zone, const char *path, uint32_t flags, uint32_t timeout_ms,
			      struct czone_attach_report *ret_report, czone_done_fn *done,
			      void *userdata, czone_op **ret_op)
{
	struct attach_op *op;
	int r = czone_zone_check(zone);

	if (r == 0)
		r = czone_cgroup_path_check(path);
	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_attach_report, stuck_other),
					"attach report");
	if (r < 0)
		return r;
	NEW_OP(op, attach_kind, zone->vm, zone);
	op->report = (struct czone_attach_report)CZONE_INIT(op->report);
	op->ret_report = ret_report;
	op->flags = flags;
	op->path = strdup(path);
	if (!op->path) {
		czone_op_discard(&op->base);
		return czone_fail(-ENOMEM, "no memory for a path");
	}
	return START(op, czone_timeout(timeout_ms));
}

/* -------------------------------------------------------------------- resize */

struct resize_op {
	struct czone_op base;
	uint64_t size;
};

static int resize_run(struct czone_op *base, uint32_t timeout_ms)
{
	return czone_resize(base->zone, ((struct resize_op *)base)->size, timeout_ms);
}

static const struct op_kind resize_kind = { .size = sizeof(struct resize_op), .run = resize_run };

int czone_resize_async(czone *zone, uint64_t size, uint32_t timeout_ms, czone_done_fn *done,
		       void *userdata, czone_op **ret_op)
{
	struct resize_op *op;
	int r = czone_zone_check(zone);

	if (r < 0)
		return r;
	NEW_OP(op, resize_kind, zone->vm, zone);
	op->size = size;
	return START(op, czone_timeout(timeout_ms));
}

/* -------------------------------------------------------------- a larger pool */

struct grow_op {
	struct czone_op base;
	uint64_t bytes;
};

static int grow_run(struct czone_op *base, uint32_t timeout_ms)
{
	return czone_pool_grow(base->vm, ((struct grow_op *)base)->bytes, timeout_ms);
}

static const struct op_kind grow_kind = { .size = sizeof(struct grow_op), .run = grow_run };

int czone_pool_grow_async(czone_vm *vm, uint64_t bytes, uint32_t timeout_ms, czone_done_fn *done,
			  void *userdata, czone_op **ret_op)
{
	struct grow_op *op;
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	NEW_OP(op, grow_kind, vm, NULL);
	op->bytes = bytes;
	return START(op, czone_timeout(timeout_ms));
}

/* ------------------------------------------------ reclaim, and down to a target */

struct reclaim_op {
	struct czone_op base;
	uint64_t bytes, result, *ret_result;
	uint32_t flags;
};

static int reclaim_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct reclaim_op *op = (struct reclaim_op *)base;
	struct czone_reclaim_opts o = CZONE_INIT(o);

	o.flags = op->flags;
	o.timeout_ms = timeout_ms;
	if (base->zone)
		return czone_reclaim(base->zone, op->bytes, &o, &op->result);
	return czone_vm_reclaim(base->vm, op->bytes, &o, &op->result);
}

static void reclaim_tell(struct czone_op *base, int result)
{
	struct reclaim_op *op = (struct reclaim_op *)base;

	if (op->ret_result && (result == 0 || result == -ETIMEDOUT))
		*op->ret_result = op->result;
}

static const struct op_kind reclaim_kind = {
	.size = sizeof(struct reclaim_op), .run = reclaim_run, .tell = reclaim_tell,
};

static int start_reclaim(czone_vm *vm, czone *zone, uint64_t bytes,
			 const struct czone_reclaim_opts *opts, uint64_t *ret_returned,
			 czone_done_fn *done, void *userdata, czone_op **ret_op)
{
	struct czone_reclaim_opts o = CZONE_INIT(o);
	struct reclaim_op *op;
	int r = 0;

	if (opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_reclaim_opts, timeout_ms),
				     "reclaim options");
	if (r < 0)
		return r;
	NEW_OP(op, reclaim_kind, vm, zone);
	op->bytes = bytes;
	op->flags = o.flags;
	op->ret_result = ret_returned;
	return START(op, czone_timeout(o.timeout_ms));
}

int czone_reclaim_async(czone *zone, uint64_t bytes, const struct czone_reclaim_opts *opts,
			uint64_t *ret_returned, czone_done_fn *done, void *userdata,
			czone_op **ret_op)
{
	int r = czone_zone_check(zone);

	return r < 0 ? r : start_reclaim(zone->vm, zone, bytes, opts, ret_returned, done, userdata,
					 ret_op);
}

int czone_vm_reclaim_async(czone_vm *vm, uint64_t bytes, const struct czone_reclaim_opts *opts,
			   uint64_t *ret_returned, czone_done_fn *done, void *userdata,
			   czone_op **ret_op)
{
	int r = czone_vm_check(vm);

	return r < 0 ? r : start_reclaim(vm, NULL, bytes, opts, ret_returned, done, userdata,
					 ret_op);
}

static int target_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct reclaim_op *op = (struct reclaim_op *)base;
	struct czone_target_opts o = CZONE_INIT(o);

	o.flags = op->flags;
	o.timeout_ms = timeout_ms;
	return czone_set_target(base->vm, op->bytes, &o, &op->result);
}

static void target_tell(struct czone_op *base, int result)
{
	struct reclaim_op *op = (struct reclaim_op *)base;

	if (op->ret_result && (result == 0 || result == -EBUSY || result == -ETIMEDOUT))
		*op->ret_result = op->result;
}

static const struct op_kind target_kind = {
	.size = sizeof(struct reclaim_op), .run = target_run, .tell = target_tell,
};

int czone_set_target_async(czone_vm *vm, uint64_t bytes, const struct czone_target_opts *opts,
			   uint64_t *ret_actual, czone_done_fn *done, void *userdata,
			   czone_op **ret_op)
{
	struct czone_target_opts o = CZONE_INIT(o);
	struct reclaim_op *op;
	int r = czone_vm_check(vm);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_target_opts, flags),
				     "target options");
	if (r < 0)
		return r;
	NEW_OP(op, target_kind, vm, NULL);
	op->bytes = bytes;
	op->flags = o.flags;
	op->ret_result = ret_actual;
	op->result = CZONE_UNKNOWN;
	return START(op, czone_timeout(o.timeout_ms));
}

/* -------------------------------------------------------------------- audit */

struct audit_op {
	struct czone_op base;
	uint32_t flags;
	struct czone_audit_report report, *ret_report;
};

static int audit_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct audit_op *op = (struct audit_op *)base;
	struct czone_audit_opts o = CZONE_INIT(o);

	o.flags = op->flags;
	o.timeout_ms = timeout_ms;
	return czone_audit(base->vm, &o, &op->report);
}

static void audit_tell(struct czone_op *base, int result)
{
	struct audit_op *op = (struct audit_op *)base;

	if (op->ret_report && (result == 0 || result == -EBUSY))
		czone_results_out(op->ret_report, &op->report, sizeof(op->report));
}

static const struct op_kind audit_kind = {
	.size = sizeof(struct audit_op), .whole = true,	/* it has a zone meanwhile */
	.run = audit_run, .tell = audit_tell,
};

int czone_audit_async(czone_vm *vm, const struct czone_audit_opts *opts,
		      struct czone_audit_report *ret_report, czone_done_fn *done, void *userdata,
		      czone_op **ret_op)
{
	struct czone_audit_opts o = CZONE_INIT(o);
	struct audit_op *op;
	int r = czone_vm_check(vm);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_audit_opts, timeout_ms),
				     "audit options");
	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_audit_report, over_quota),
					"audit report");
	if (r < 0)
		return r;
	NEW_OP(op, audit_kind, vm, NULL);
	op->flags = o.flags;
	op->report = (struct czone_audit_report)CZONE_INIT(op->report);
	op->ret_report = ret_report;
	return START(op, czone_timeout(o.timeout_ms));
}

/* --------------------------------------------------------------- idle return */

struct idle_op {
	struct czone_op base;
	struct czone_idle_opts opts;
};

static int idle_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct idle_op *op = (struct idle_op *)base;

	op->opts.timeout_ms = timeout_ms;
	return czone_set_idle_return(base->zone, &op->opts);
}

static const struct op_kind idle_kind = { .size = sizeof(struct idle_op), .run = idle_run };

int czone_set_idle_return_async(czone *zone, const struct czone_idle_opts *opts,
				czone_done_fn *done, void *userdata, czone_op **ret_op)
{
	struct czone_idle_opts o = CZONE_INIT(o);
	struct idle_op *op;
	int r = czone_zone_check(zone);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_idle_opts, floor), "idle options");
	if (r < 0)
		return r;
	NEW_OP(op, idle_kind, zone->vm, zone);
	op->opts = o;
	return START(op, czone_timeout(o.timeout_ms));
}

/* ------------------------------------------------------------------- destroy */

struct destroy_op {
	struct czone_op base;
	uint32_t flags;
	struct czone_destroy_report report, *ret_report;
};

static int destroy_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct destroy_op *op = (struct destroy_op *)base;

	return czone_destroy(base->zone, op->flags, timeout_ms, &op->report);
}

static void destroy_tell(struct czone_op *base, int result)
{
	struct destroy_op *op = (struct destroy_op *)base;

	if (op->ret_report && (result == 0 || result == -EBUSY || result == -ETIMEDOUT))
		czone_results_out(op->ret_report, &op->report, sizeof(op->report));
}

static const struct op_kind destroy_kind = {
	.size = sizeof(struct destroy_op), .run = destroy_run, .tell = destroy_tell,
};

int czone_destroy_async(czone *zone, uint32_t flags, uint32_t timeout_ms,
			struct czone_destroy_report *ret_report, czone_done_fn *done,
			void *userdata, czone_op **ret_op)
{
	struct destroy_op *op;
	int r = czone_zone_check(zone);

	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_destroy_report, stuck_other),
					"destroy report");
	if (r < 0)
		return r;
	NEW_OP(op, destroy_kind, zone->vm, zone);
	op->report = (struct czone_destroy_report)CZONE_INIT(op->report);
	op->ret_report = ret_report;
	op->flags = flags;
	return START(op, czone_timeout(timeout_ms));
}

/* ---------------------------------------------------------------- statistics */

struct stats_op {
	struct czone_op base;
	struct czone_zone_stats stats, *ret_stats;
};

static int stats_run(struct czone_op *base, uint32_t timeout_ms)
{
	(void)timeout_ms;
	return czone_stats(base->zone, &((struct stats_op *)base)->stats);
}

static void stats_tell(struct czone_op *base, int result)
{
	struct stats_op *op = (struct stats_op *)base;

	if (result == 0)
		czone_results_out(op->ret_stats, &op->stats, sizeof(op->stats));
}

static const struct op_kind stats_kind = {
	.size = sizeof(struct stats_op), .run = stats_run, .tell = stats_tell,
};

int czone_stats_async(czone *zone, struct czone_zone_stats *ret_stats, czone_done_fn *done,
		      void *userdata, czone_op **ret_op)
{
	struct stats_op *op;
	int r = czone_zone_check(zone);

	if (r == 0)
		r = czone_results_check(ret_stats,
					czone_size_upto(struct czone_zone_stats, cgroup_id),
					"zone statistics");
	if (r < 0)
		return r;
	NEW_OP(op, stats_kind, zone->vm, zone);
	op->stats = (struct czone_zone_stats)CZONE_INIT(op->stats);
	op->ret_stats = ret_stats;
	return START(op, 0);
}

struct vm_stats_op {
	struct czone_op base;
	struct czone_vm_stats stats, *ret_stats;
};

static int vm_stats_run(struct czone_op *base, uint32_t timeout_ms)
{
	(void)timeout_ms;
	return czone_vm_stats(base->vm, &((struct vm_stats_op *)base)->stats);
}

static void vm_stats_tell(struct czone_op *base, int result)
{
	struct vm_stats_op *op = (struct vm_stats_op *)base;

	if (result == 0)
		czone_results_out(op->ret_stats, &op->stats, sizeof(op->stats));
}

static const struct op_kind vm_stats_kind = {
	.size = sizeof(struct vm_stats_op), .run = vm_stats_run, .tell = vm_stats_tell,
};

int czone_vm_stats_async(czone_vm *vm, struct czone_vm_stats *ret_stats, czone_done_fn *done,
			 void *userdata, czone_op **ret_op)
{
	struct vm_stats_op *op;
	int r = czone_vm_check(vm);

	if (r == 0)
		r = czone_results_check(ret_stats, czone_size_upto(struct czone_vm_stats, pid),
					"VM statistics");
	if (r < 0)
		return r;
	NEW_OP(op, vm_stats_kind, vm, NULL);
	op->stats = (struct czone_vm_stats)CZONE_INIT(op->stats);
	op->ret_stats = ret_stats;
	return START(op, 0);
}

/* ------------------------------------------------------------ ranges and ids */

struct array_op {
	struct czone_op base;
	size_t element, max;
	void *array, *ret_array;
};

static int ranges_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct array_op *op = (struct array_op *)base;

	(void)timeout_ms;
	return czone_ranges(base->zone, op->array, op->max);
}

static int list_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct array_op *op = (struct array_op *)base;

	(void)timeout_ms;
	return czone_list(base->vm, op->array, op->max);
}

static void array_tell(struct czone_op *base, int result)
{
	struct array_op *op = (struct array_op *)base;
	size_t n = result < 0 ? 0 : result;

	if (n > op->max)
		n = op->max;
	if (n)
		memcpy(op->ret_array, op->array, n * op->element);
}

static void array_clear(struct czone_op *base)
{
	free(((struct array_op *)base)->array);
}

static const struct op_kind ranges_kind = {
	.size = sizeof(struct array_op),
	.run = ranges_run, .tell = array_tell, .clear = array_clear,
};

static const struct op_kind list_kind = {
	.size = sizeof(struct array_op),
	.run = list_run, .tell = array_tell, .clear = array_clear,
};

static int start_array(const struct op_kind *kind, czone_vm *vm, czone *zone, void *ret_array,
		       size_t element, size_t max, czone_done_fn *done, void *userdata,
		       czone_op **ret_op)
{
	struct array_op *op;

	if (!ret_array && max)
		return czone_fail(-EINVAL, "no array, but max is %zu", max);
	NEW_OP(op, *kind, vm, zone);
	op->ret_array = ret_array;
	op->element = element;
	op->max = max;
	op->array = calloc(max ? max : 1, element);
	if (!op->array) {
		czone_op_discard(&op->base);
		return czone_fail(-ENOMEM, "no memory for %zu elements", max);
	}
	return START(op, 0);
}

int czone_ranges_async(czone *zone, struct czone_range *ret_ranges, size_t max,
		       czone_done_fn *done, void *userdata, czone_op **ret_op)
{
	int r = czone_zone_check(zone);

	return r < 0 ? r : start_array(&ranges_kind, zone->vm, zone, ret_ranges,
				       sizeof(*ret_ranges), max, done, userdata, ret_op);
}

int czone_list_async(czone_vm *vm, uint32_t *ret_ids, size_t max, czone_done_fn *done,
		     void *userdata, czone_op **ret_op)
{
	int r = czone_vm_check(vm);

	return r < 0 ? r : start_array(&list_kind, vm, NULL, ret_ids, sizeof(*ret_ids), max, done,
				       userdata, ret_op);
}

/* -------------------------------------------------------------------- lookup */

struct lookup_op {
	struct czone_op base;
	uint32_t id;
	czone *zone, **ret_zone;
};

static int lookup_run(struct czone_op *base, uint32_t timeout_ms)
{
	struct lookup_op *op = (struct lookup_op *)base;

	(void)timeout_ms;
	return czone_lookup(base->vm, op->id, &op->zone);
}

static void lookup_tell(struct czone_op *base, int result)
{
	struct lookup_op *op = (struct lookup_op *)base;

	if (result == 0) {
		*op->ret_zone = op->zone;
		op->zone = NULL;
	}
}

static void lookup_clear(struct czone_op *base)
{
	czone_unref(((struct lookup_op *)base)->zone);
}

static const struct op_kind lookup_kind = {
	.size = sizeof(struct lookup_op),
	.run = lookup_run, .tell = lookup_tell, .clear = lookup_clear,
};

int czone_lookup_async(czone_vm *vm, uint32_t id, czone **ret_zone, czone_done_fn *done,
		       void *userdata, czone_op **ret_op)
{
	struct lookup_op *op;
	int r = czone_vm_check(vm);

	if (r == 0 && !ret_zone)
		r = czone_fail(-EINVAL, "lookup: ret_zone is NULL");
	if (r < 0)
		return r;
	NEW_OP(op, lookup_kind, vm, NULL);
	op->id = id;
	op->ret_zone = ret_zone;
	return START(op, 0);
}
