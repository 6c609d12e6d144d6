/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the public calls promise, whatever driver is behind them. */
#include "fake.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* A failed call says what is wrong: the result, and a word of the detail. */
#define refused(call, error, word) do {						\
	int result_ = (call);							\
	cr_assert_eq(result_, (error), "%s: %d (%s)", #call, result_,		\
		     czone_error_detail());					\
	cr_assert(strstr(czone_error_detail(), (word)), "%s: \"%s\" lacks \"%s\"", #call, \
		  czone_error_detail(), (word));				\
} while (0)

static struct fake fake;
static czone_vm *vm;

static void guest(void)
{
	vm = fake_vm(&fake, &fake_driver);
}

static void host(void)
{
	vm = fake_vm(&fake, &fake_host_driver);
}

static void end(void)
{
	czone_vm_unref(vm);
	cr_assert(fake.closed, "something still refers to the VM");
}

static czone *new_zone(uint64_t size, const char *cgroup)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone = NULL;

	opts.size = size;
	opts.cgroup = cgroup;
	cr_assert_eq(czone_create(vm, &opts, &zone), 0, "%s", czone_error_detail());
	return zone;
}

/* ---- contexts */

Test(version, is_that_of_the_header)
{
	cr_assert_str_eq(czone_version(), "0.1.0");
}

Test(open, refuses_what_it_does_not_know)
{
	czone_vm *other;

	refused(czone_open("qemu:///system", &other), -EINVAL, "\"qemu:///system\"");
	refused(czone_open("", &other), -EINVAL, "unknown URI");
	refused(czone_open("guest:", &other), -EINVAL, "\"guest:///\" and \"test:///default\"");
	refused(czone_open("test:///other", &other), -EINVAL, "test:///other");
	refused(czone_open(NULL, NULL), -EINVAL, "ret_vm");
}

Test(open, on_this_kernel_works_or_says_what_is_missing)
{
	czone_vm *here = (czone_vm *)&fake;
	int r = czone_open("guest:///", &here);

	if (r == 0) {
		czone_vm_unref(here);
		return;
	}
	cr_assert_eq(r, -EOPNOTSUPP);
	cr_assert(strstr(czone_error_detail(), "CONFIG_CZONE"), "%s", czone_error_detail());
	cr_assert_eq(here, (czone_vm *)&fake, "an output was touched on failure");
}

Test(vm_start, says_which_option_is_wrong)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);
	czone_vm *started;

	refused(czone_vm_start(NULL, &started), -EINVAL, "vm options is NULL");
	refused(czone_vm_start(&opts, NULL), -EINVAL, "ret_vm");
	refused(czone_vm_start(&opts, &started), -EINVAL, "state_dir");
	opts.state_dir = "/nonexistent/czone";
	refused(czone_vm_start(&opts, &started), -EINVAL, "kernel");
	opts.kernel = "";
	refused(czone_vm_start(&opts, &started), -EINVAL, "kernel");
	opts.kernel = "/nonexistent/kernel";
	opts.pool_bytes = 100 * MIB;
	refused(czone_vm_start(&opts, &started), -EINVAL, "pool_bytes is 104857600");
	opts.pool_bytes = 256 * MIB;
	opts.pool_max_bytes = 128 * MIB;
	refused(czone_vm_start(&opts, &started), -EINVAL, "pool_max_bytes");
	opts.pool_bytes = opts.pool_max_bytes = 0;
	opts.pool_backing = CZONE_POOL_FILE;
	refused(czone_vm_start(&opts, &started), -EINVAL, "pool_dir");
	opts.pool_backing = 9;
	refused(czone_vm_start(&opts, &started), -EINVAL, "pool_backing is 9");
	opts.pool_backing = CZONE_POOL_MEMFD;
	opts.kvm = 3;
	refused(czone_vm_start(&opts, &started), -EINVAL, "kvm is 3");
	opts.kvm = 0;
	opts.event_loop = 5;
	refused(czone_vm_start(&opts, &started), -EINVAL, "event_loop is 5");
	opts.struct_size = 3;
	refused(czone_vm_start(&opts, &started), -EINVAL, "struct_size is 3");
}

Test(vm_stop, is_for_vms_that_were_started, .init = guest, .fini = end)
{
	refused(czone_vm_stop(vm), -EOPNOTSUPP, "cannot be stopped");
	refused(czone_vm_stop(NULL), -EINVAL, "vm is NULL");
}

Test(vm_stop, reaches_the_driver, .init = host, .fini = end)
{
	cr_assert_eq(czone_vm_stop(vm), 0);
}

/* ---- handles */

Test(handles, null_is_fine_where_the_header_says_so)
{
	cr_assert_null(czone_ref(NULL));
	cr_assert_null(czone_unref(NULL));
	cr_assert_null(czone_vm_ref(NULL));
	cr_assert_null(czone_vm_unref(NULL));
	cr_assert_eq(czone_id(NULL), 0);
}

Test(handles, the_vm_is_closed_with_its_last_reference, .init = guest)
{
	czone *zone = new_zone(MIB, NULL);

	cr_assert_eq(czone_vm_ref(vm), vm);
	czone_vm_unref(vm);
	czone_vm_unref(vm);
	cr_assert_not(fake.closed, "closed, though a zone refers to it");
	cr_assert_eq(czone_ref(zone), zone);
	czone_unref(zone);
	cr_assert_not(fake.closed, "closed, though a zone refers to it");
	cr_assert_null(czone_unref(zone));
	cr_assert(fake.closed);
}

Test(handles, giving_one_up_keeps_the_zone, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);
	uint32_t id = czone_id(zone);

	czone_unref(zone);
	cr_assert_eq(czone_lookup(vm, id, &zone), 0);
	cr_assert_eq(czone_id(zone), id);
	czone_unref(zone);
}

Test(handles, of_a_destroyed_zone_name_nothing, .init = guest, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_range range;
	uint64_t returned = 77;
	czone *zone = new_zone(MIB, NULL);

	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	refused(czone_attach_cgroup(zone, "/a", 0, 0, NULL), -ENOENT, "destroyed");
	refused(czone_resize(zone, MIB, 0), -ENOENT, "destroyed");
	refused(czone_reclaim(zone, MIB, NULL, &returned), -ENOENT, "destroyed");
	refused(czone_stats(zone, &stats), -ENOENT, "destroyed");
	refused(czone_ranges(zone, &range, 1), -ENOENT, "destroyed");
	refused(czone_destroy(zone, 0, 0, NULL), -ENOENT, "destroyed");
	cr_assert_eq(returned, 77);
	cr_assert_eq(fake.destroys, 1, "a driver was asked about a zone that has gone");
	czone_unref(zone);
}

Test(handles, all_on_one_zone_learn_of_its_end, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL), *other;

	cr_assert_eq(czone_lookup(vm, czone_id(zone), &other), 0);
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	refused(czone_resize(other, MIB, 0), -ENOENT, "destroyed");
	czone_unref(zone);
	czone_unref(other);
}

Test(handles, never_reach_the_next_zone_of_the_same_id, .init = guest, .fini = end)
{
	czone *old = new_zone(MIB, NULL), *zone;
	uint32_t id = czone_id(old);

	/* somebody else destroys it, and the id goes to another zone */
	fake.size[id] = 0;
	fake.last_id = id - 1;
	zone = new_zone(8 * MIB, NULL);
	cr_assert_eq(czone_id(zone), id);
	refused(czone_destroy(old, 0, 0, NULL), -ENOENT, "destroyed");
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	czone_unref(old);
	czone_unref(zone);
}

Test(handles, learn_from_the_kernel_that_the_zone_has_gone, .init = guest, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	czone *zone = new_zone(MIB, NULL);

	fake.size[czone_id(zone)] = 0;
	refused(czone_stats(zone, &stats), -ENOENT, "no zone");
	fake.size[czone_id(zone)] = MIB;
	refused(czone_stats(zone, &stats), -ENOENT, "destroyed");
	czone_unref(zone);
}

/* ---- create */

Test(create, checks_its_arguments, .init = guest, .fini = end)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone;

	refused(czone_create(NULL, &opts, &zone), -EINVAL, "vm is NULL");
	refused(czone_create(vm, NULL, &zone), -EINVAL, "create options is NULL");
	refused(czone_create(vm, &opts, NULL), -EINVAL, "ret_zone");
	refused(czone_create(vm, &opts, &zone), -EINVAL, "size is 0");
	opts.size = UINT64_MAX;
	refused(czone_create(vm, &opts, &zone), -EINVAL, "too large");
	opts.size = MIB;
	opts.flags = 0x80;
	refused(czone_create(vm, &opts, &zone), -EINVAL, "0x80");
	opts.flags = 0;
	opts.cgroup = "relative";
	refused(czone_create(vm, &opts, &zone), -EINVAL, "does not begin with /");
	opts.struct_size = 0;
	refused(czone_create(vm, &opts, &zone), -EINVAL, "struct_size is 0");
	cr_assert_eq(fake.last_id, 0, "a driver was asked");
}

Test(create, rounds_up_to_whole_blocks, .init = guest, .fini = end)
{
	czone *zone = new_zone(1, NULL);

	cr_assert_eq(fake.size[czone_id(zone)], CZONE_BLOCK);
	czone_unref(zone);
	zone = new_zone(CZONE_BLOCK, NULL);
	cr_assert_eq(fake.size[czone_id(zone)], CZONE_BLOCK);
	czone_unref(zone);
	zone = new_zone(CZONE_BLOCK + 1, NULL);
	cr_assert_eq(fake.size[czone_id(zone)], 2 * CZONE_BLOCK);
	czone_unref(zone);
}

Test(create, hands_on_flags_and_time_limit, .init = guest, .fini = end)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone;

	opts.size = MIB;
	opts.flags = CZONE_CREATE_SPILL_ZONE;
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	cr_assert_eq(fake.flags, CZONE_CREATE_SPILL);
	cr_assert_eq(fake.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
	czone_unref(zone);
	opts.timeout_ms = 5;
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	cr_assert_eq(fake.timeout_ms, 5);
	czone_unref(zone);
}

Test(create, hands_on_the_zone_for_file_cache, .init = guest, .fini = end)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *cache = new_zone(MIB, NULL), *zone, *none;
	struct fake other_fake = { .lock = PTHREAD_MUTEX_INITIALIZER };
	czone_vm *other = fake_vm(&other_fake, &fake_driver);

	cr_assert_eq(fake.file_zone, 0);
	opts.size = MIB;
	opts.file_zone = cache;
	refused(czone_create(other, &opts, &none), -EINVAL, "another VM");
	cr_assert_eq(czone_create(vm, &opts, &zone), 0);
	cr_assert_eq(fake.file_zone, czone_id(cache));
	cr_assert_eq(czone_destroy(cache, 0, 0, NULL), 0);
	refused(czone_create(vm, &opts, &none), -ENOENT, "destroyed");
	czone_unref(cache);
	czone_unref(zone);
	czone_vm_unref(other);
}

Test(create, attaches_at_once, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, "/pods/a");

	cr_assert_str_eq(fake.path, "/pods/a");
	cr_assert_leq(fake.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
	cr_assert_gt(fake.timeout_ms, 0);
	czone_unref(zone);
}

Test(create, leaves_no_zone_when_it_cannot_attach, .init = guest, .fini = end)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	czone *zone = (czone *)&fake;

	opts.size = MIB;
	opts.cgroup = "/pods/a";
	fake.attach_error = -EOPNOTSUPP;
	refused(czone_create(vm, &opts, &zone), -EOPNOTSUPP, "cannot attach");
	cr_assert_eq(zone, (czone *)&fake, "an output was touched on failure");
	cr_assert_eq(fake.destroys, 1);
	cr_assert_eq(czone_list(vm, NULL, 0), 0);
}

static void remember(enum czone_log_level level, const char *message, void *userdata)
{
	(void)level;
	strncat(userdata, message, 400);
}

Test(create, logs_a_zone_that_it_could_not_take_back, .init = guest, .fini = end)
{
	struct czone_create_opts opts = CZONE_INIT(opts);
	char message[512] = "";
	czone *zone;

	opts.size = MIB;
	opts.cgroup = "/pods/a";
	fake.attach_error = -EBUSY;
	fake.destroy_error = -ETIMEDOUT;
	czone_set_log(remember, message);
	refused(czone_create(vm, &opts, &zone), -EBUSY, "cannot attach");
	cr_assert(strstr(message, "zone 1 is left over"), "%s", message);
	cr_assert(strstr(message, "cannot destroy"), "%s", message);
	czone_set_log(NULL, NULL);
}

/* ---- attach */

Test(attach, checks_the_path, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);
	char path[1000];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[976] = 0;
	refused(czone_attach_cgroup(NULL, "/a", 0, 0, NULL), -EINVAL, "zone is NULL");
	refused(czone_attach_cgroup(zone, NULL, 0, 0, NULL), -EINVAL, "path is NULL");
	refused(czone_attach_cgroup(zone, "", 0, 0, NULL), -EINVAL, "does not begin with /");
	refused(czone_attach_cgroup(zone, "pods/a", 0, 0, NULL), -EINVAL, "\"pods/a\"");
	refused(czone_attach_cgroup(zone, "/a\nb", 0, 0, NULL), -EINVAL, "newline");
	refused(czone_attach_cgroup(zone, "/a/../b", 0, 0, NULL), -EINVAL, "\"..\"");
	refused(czone_attach_cgroup(zone, "/..", 0, 0, NULL), -EINVAL, "\"..\"");
	refused(czone_attach_cgroup(zone, path, 0, 0, NULL), -EINVAL, "975");
	refused(czone_attach_cgroup(zone, "/a", 2, 0, NULL), -EINVAL, "0x2");
	cr_assert_str_empty(fake.path, "a driver was asked");
	path[975] = 0;
	cr_assert_eq(czone_attach_cgroup(zone, path, 0, 0, NULL), 0);
	cr_assert_str_eq(fake.path, path);
	cr_assert_eq(czone_attach_cgroup(zone, "/a..b/..c/d..", 0, 0, NULL), 0);
	czone_unref(zone);
}

Test(attach, to_a_cgroup_that_is_not_there_leaves_the_zone, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);

	fake.attach_error = -ENOENT;
	refused(czone_attach_cgroup(zone, "/a", 0, 0, NULL), -ENOENT, "cannot attach");
	fake.attach_error = 0;
	cr_assert_eq(czone_attach_cgroup(zone, "/b", 0, 0, NULL), 0);
	czone_unref(zone);
}

Test(attach, tells_what_became_of_the_pages, .init = guest, .fini = end)
{
	static const struct { int error; bool told; } rows[] = {
		{ 0, true }, { -ENOSPC, true }, { -ETIMEDOUT, true }, { -EBUSY, false },
	};
	czone *zone = new_zone(MIB, NULL);

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct czone_attach_report report = CZONE_INIT(report);

		fake.attach_error = rows[i].error;
		cr_assert_eq(czone_attach_cgroup(zone, "/a", CZONE_ATTACH_WITH_PAGES, 7, &report),
			     rows[i].error);
		cr_assert_eq(fake.attach_flags, CZONE_ATTACH_MIGRATE);
		cr_assert_eq(fake.timeout_ms, 7);
		cr_assert_eq(report.migrated, rows[i].told ? CZONE_RESULT_MIGRATED + 1 : 0);
		cr_assert_eq(report.stuck_pinned, rows[i].told ? CZONE_RESULT_STUCK_PINNED + 1 : 0);
		cr_assert_eq(report.stuck_full, rows[i].told ? CZONE_RESULT_STUCK_FULL + 1 : 0);
		cr_assert_eq(report.stuck_other, rows[i].told ? CZONE_RESULT_STUCK_OTHER + 1 : 0);
	}
	czone_unref(zone);
}

/* ---- resize */

Test(resize, checks_and_rounds, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);

	refused(czone_resize(NULL, MIB, 0), -EINVAL, "zone is NULL");
	refused(czone_resize(zone, 0, 0), -EINVAL, "size is 0");
	refused(czone_resize(zone, UINT64_MAX - 1, 0), -EINVAL, "too large");
	cr_assert_eq(czone_resize(zone, 5 * MIB, 9), 0);
	cr_assert_eq(fake.size[czone_id(zone)], 8 * MIB);
	cr_assert_eq(fake.timeout_ms, 9);
	czone_unref(zone);
}

/* ---- reclaim */

Test(reclaim, checks_its_arguments, .init = guest, .fini = end)
{
	struct czone_reclaim_opts opts = CZONE_INIT(opts);
	czone *zone = new_zone(MIB, NULL);

	refused(czone_reclaim(NULL, MIB, NULL, NULL), -EINVAL, "zone is NULL");
	refused(czone_vm_reclaim(NULL, MIB, NULL, NULL), -EINVAL, "vm is NULL");
	opts.flags = 4;
	refused(czone_reclaim(zone, MIB, &opts, NULL), -EINVAL, "0x4");
	refused(czone_vm_reclaim(vm, MIB, &opts, NULL), -EINVAL, "0x4");
	opts.struct_size = 1;
	refused(czone_reclaim(zone, MIB, &opts, NULL), -EINVAL, "struct_size is 1");
	cr_assert_eq(fake.reclaims, 0, "a driver was asked");
	czone_unref(zone);
}

Test(reclaim, hands_on_what_was_asked_for, .init = guest, .fini = end)
{
	struct czone_reclaim_opts opts = CZONE_INIT(opts);
	czone *zone = new_zone(MIB, NULL);
	uint64_t returned = 0;

	cr_assert_eq(czone_reclaim(zone, 12345, NULL, &returned), 0);
	cr_assert_eq(fake.bytes, 12345);
	cr_assert_eq(fake.flags, 0);
	cr_assert_eq(fake.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
	cr_assert_eq(returned, CZONE_RESULT_RETURNED + 1);
	opts.flags = CZONE_RECLAIM_WITH_CACHE;
	opts.timeout_ms = 77;
	cr_assert_eq(czone_vm_reclaim(vm, UINT64_MAX, &opts, NULL), 0);
	cr_assert_eq(fake.bytes, 0, "all there is, is 0 for a driver");
	cr_assert_eq(fake.flags, CZONE_RECLAIM_CACHE);
	cr_assert_eq(fake.timeout_ms, 77);
	czone_unref(zone);
}

Test(reclaim, of_nothing_asks_nobody, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);
	uint64_t returned = 5;

	cr_assert_eq(czone_reclaim(zone, 0, NULL, &returned), 0);
	cr_assert_eq(returned, 0);
	cr_assert_eq(fake.reclaims, 0);
	czone_unref(zone);
}

Test(reclaim, tells_what_came_back_when_the_time_is_over, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);
	uint64_t returned = 55;

	fake.reclaim_error = -EBUSY;
	refused(czone_reclaim(zone, MIB, NULL, &returned), -EBUSY, "cannot reclaim");
	cr_assert_eq(returned, 55, "an output was touched on failure");
	fake.reclaim_error = -ETIMEDOUT;
	refused(czone_reclaim(zone, MIB, NULL, &returned), -ETIMEDOUT, "cannot reclaim");
	cr_assert_eq(returned, CZONE_RESULT_RETURNED + 1);
	czone_unref(zone);
}

/* ---- idle return */

Test(idle, checks_its_arguments, .init = host, .fini = end)
{
	struct czone_idle_opts opts = CZONE_INIT(opts);
	czone *zone = new_zone(MIB, NULL);

	refused(czone_set_idle_return(NULL, &opts), -EINVAL, "zone is NULL");
	opts.delay_ms = 24 * 3600 * 1000 + 1;
	refused(czone_set_idle_return(zone, &opts), -EINVAL, "86400000");
	opts.delay_ms = 0;
	opts.floor = 1;
	refused(czone_set_idle_return(zone, &opts), -EINVAL, "no delay_ms");
	opts.struct_size = 8;
	refused(czone_set_idle_return(zone, &opts), -EINVAL, "struct_size is 8");
	czone_unref(zone);
}

Test(idle, hands_on_what_was_asked_for, .init = host, .fini = end)
{
	struct czone_idle_opts opts = CZONE_INIT(opts);
	czone *zone = new_zone(MIB, NULL);

	opts.delay_ms = 500;
	opts.floor = 3 * MIB;
	cr_assert_eq(czone_set_idle_return(zone, &opts), 0);
	cr_assert_eq(fake.delay_ms, 500);
	cr_assert_eq(fake.bytes, 3 * MIB);
	cr_assert_eq(fake.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
	cr_assert_eq(czone_set_idle_return(zone, NULL), 0, "NULL is off");
	cr_assert_eq(fake.delay_ms, 0);
	cr_assert_eq(fake.bytes, 0);
	fake.idle_error = -EBUSY;
	refused(czone_set_idle_return(zone, &opts), -EBUSY, "cannot set");
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	refused(czone_set_idle_return(zone, NULL), -ENOENT, "destroyed");
	czone_unref(zone);
}

Test(idle, of_a_side_that_cannot, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL);

	refused(czone_set_idle_return(zone, NULL), -EOPNOTSUPP, "fake");
	czone_unref(zone);
}

/* ---- pool */

Test(pool, grows_as_it_was_asked_to, .init = host, .fini = end)
{
	refused(czone_pool_grow(NULL, CZONE_POOL_STEP, 0), -EINVAL, "vm is NULL");
	refused(czone_pool_grow(vm, 0, 0), -EINVAL, "128 MiB");
	refused(czone_pool_grow(vm, CZONE_POOL_STEP + CZONE_BLOCK, 0), -EINVAL, "138412032");
	cr_assert_eq(czone_pool_grow(vm, 2 * CZONE_POOL_STEP, 0), 0);
	cr_assert_eq(fake.bytes, 2 * CZONE_POOL_STEP);
	cr_assert_eq(fake.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
}

Test(pool, is_not_the_guests_to_make_larger, .init = guest, .fini = end)
{
	refused(czone_pool_grow(vm, CZONE_POOL_STEP, 0), -EOPNOTSUPP, "host");
}

Test(host, knows_what_a_guest_does_not, .init = guest, .fini = end)
{
	refused(czone_set_target(vm, MIB, NULL, NULL), -EOPNOTSUPP, "a guest does not know");
	refused(czone_set_quota(vm, NULL), -EOPNOTSUPP, "host");
	refused(czone_audit(vm, NULL, NULL), -EOPNOTSUPP, "a guest does not know");
}

/* ---- destroy */

Test(destroy, checks_its_arguments, .init = guest, .fini = end)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = new_zone(MIB, NULL);

	refused(czone_destroy(NULL, 0, 0, NULL), -EINVAL, "zone is NULL");
	refused(czone_destroy(zone, 2, 0, NULL), -EINVAL, "0x2");
	report.struct_size = 2;
	refused(czone_destroy(zone, 0, 0, &report), -EINVAL, "struct_size is 2");
	cr_assert_eq(fake.destroys, 0, "a driver was asked");
	czone_unref(zone);
}

Test(destroy, reports_every_cause, .init = guest, .fini = end)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = new_zone(MIB, NULL);

	cr_assert_eq(czone_destroy(zone, CZONE_DESTROY_WITH_TASKS, 3, &report), 0);
	cr_assert_eq(fake.flags, CZONE_DESTROY_FORCE);
	cr_assert_eq(fake.timeout_ms, 3);
	cr_assert_eq(report.returned, CZONE_RESULT_RETURNED + 1);
	cr_assert_eq(report.dropped, CZONE_RESULT_DROPPED + 1);
	cr_assert_eq(report.migrated, CZONE_RESULT_MIGRATED + 1);
	cr_assert_eq(report.stuck_pinned, CZONE_RESULT_STUCK_PINNED + 1);
	cr_assert_eq(report.stuck_poisoned, CZONE_RESULT_STUCK_POISONED + 1);
	cr_assert_eq(report.stuck_other, CZONE_RESULT_STUCK_OTHER + 1);
	cr_assert_eq(report.struct_size, sizeof(report));
	czone_unref(zone);
}

Test(destroy, that_finds_the_zone_busy_can_be_repeated, .init = guest, .fini = end)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = new_zone(MIB, NULL);

	fake.destroy_error = -EBUSY;
	refused(czone_destroy(zone, 0, 0, &report), -EBUSY, "cannot destroy");
	cr_assert_eq(report.stuck_pinned, CZONE_RESULT_STUCK_PINNED + 1);
	cr_assert_eq(czone_resize(zone, MIB, 0), 0, "the zone is still there");
	fake.destroy_error = 0;
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	czone_unref(zone);
}

Test(destroy, that_fails_otherwise_touches_no_output, .init = guest, .fini = end)
{
	struct czone_destroy_report report = CZONE_INIT(report);
	czone *zone = new_zone(MIB, NULL);

	report.returned = 42;
	fake.destroy_error = -ENOTCONN;
	refused(czone_destroy(zone, 0, 0, &report), -ENOTCONN, "cannot destroy");
	cr_assert_eq(report.returned, 42);
	czone_unref(zone);
}

/* ---- statistics */

Test(stats, check_their_arguments, .init = guest, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_vm_stats vm_stats = CZONE_INIT(vm_stats);
	czone *zone = new_zone(MIB, NULL);

	refused(czone_stats(NULL, &stats), -EINVAL, "zone is NULL");
	refused(czone_stats(zone, NULL), -EINVAL, "zone statistics is NULL");
	refused(czone_vm_stats(NULL, &vm_stats), -EINVAL, "vm is NULL");
	refused(czone_vm_stats(vm, NULL), -EINVAL, "VM statistics is NULL");
	stats.struct_size = 8;
	refused(czone_stats(zone, &stats), -EINVAL, "struct_size is 8");
	vm_stats.struct_size = 0;
	refused(czone_vm_stats(vm, &vm_stats), -EINVAL, "struct_size is 0");
	czone_unref(zone);
}

Test(stats, of_a_zone_in_a_guest, .init = guest, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	czone *zone = new_zone(CZONE_BLOCK, NULL);

	cr_assert_eq(czone_stats(zone, &stats), 0);
	cr_assert_eq(stats.id, czone_id(zone));
	cr_assert_eq(stats.size, CZONE_BLOCK);
	cr_assert_eq(stats.used, CZONE_STAT_USED + 1);
	cr_assert_eq(stats.free_backed, CZONE_STAT_FREE_BACKED + 1);
	cr_assert_eq(stats.free_unbacked, CZONE_STAT_FREE_UNBACKED + 1);
	cr_assert_eq(stats.file, CZONE_STAT_FILE + 1);
	cr_assert_eq(stats.returned, CZONE_STAT_RETURNED + 1);
	cr_assert_eq(stats.flags, CZONE_STAT_FLAGS + 1);
	cr_assert_eq(stats.cgroup_id, CZONE_STAT_CGROUP + 1);
	cr_assert_eq(stats.kernel, CZONE_STAT_KERNEL + 1);
	cr_assert_eq(stats.file_zone, CZONE_STAT_FILE_ZONE + 1);
	cr_assert_eq(stats.spilled, CZONE_UNKNOWN, "the kernel did not tell");
	cr_assert_eq(stats.host_resident, CZONE_UNKNOWN, "a guest cannot know");
	czone_unref(zone);
}

Test(stats, of_a_zone_on_a_host_count_all_of_its_ranges, .init = host, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	czone *zone = new_zone(CZONE_BLOCK, NULL);

	fake.extents = 100;
	cr_assert_eq(czone_stats(zone, &stats), 0);
	cr_assert_eq(stats.host_resident, 100 * CZONE_BLOCK);
	czone_unref(zone);
}

Test(stats, that_fail_touch_no_output, .init = host, .fini = end)
{
	struct czone_zone_stats stats = CZONE_INIT(stats);
	struct czone_vm_stats vm_stats = CZONE_INIT(vm_stats);
	czone *zone = new_zone(CZONE_BLOCK, NULL);

	fake.stats_error = -ENOTCONN;
	stats.size = vm_stats.pool_size = 42;
	refused(czone_stats(zone, &stats), -ENOTCONN, "no statistics");
	refused(czone_vm_stats(vm, &vm_stats), -ENOTCONN, "no statistics");
	cr_assert_eq(stats.size, 42);
	cr_assert_eq(vm_stats.pool_size, 42);
	czone_unref(zone);
}

Test(stats, of_a_vm_in_a_guest, .init = guest, .fini = end)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);

	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.pool_size, CZONE_STAT_SIZE + 1);
	cr_assert_eq(stats.pool_used, CZONE_STAT_USED + 1);
	cr_assert_eq(stats.metadata, CZONE_STAT_METADATA + 1);
	cr_assert_eq(stats.boot_size, CZONE_STAT_BOOT_SIZE + 1);
	cr_assert_eq(stats.boot_free, CZONE_STAT_BOOT_FREE + 1);
	cr_assert_eq(stats.boot_free_backed, CZONE_STAT_BOOT_FREE_BACKED + 1);
	cr_assert_eq(stats.returned, CZONE_STAT_RETURNED + 1);
	cr_assert_eq(stats.zones, CZONE_UNKNOWN, "the kernel did not tell");
	cr_assert_eq(stats.host_pool, CZONE_UNKNOWN);
	cr_assert_eq(stats.host_boot, CZONE_UNKNOWN);
	cr_assert_eq(stats.host_pss, CZONE_UNKNOWN);
	cr_assert_eq(stats.pid, 0);
}

Test(stats, of_a_vm_on_a_host, .init = host, .fini = end)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);

	cr_assert_eq(czone_vm_stats(vm, &stats), 0);
	cr_assert_eq(stats.pool_size, CZONE_STAT_SIZE + 1);
	cr_assert_eq(stats.host_pool, 101);
	cr_assert_eq(stats.host_boot, 102);
	cr_assert_eq(stats.host_pss, 103);
	cr_assert_eq(stats.pid, 104);
}

Test(ranges, are_counted_beyond_the_room_for_them, .init = guest, .fini = end)
{
	struct czone_range ranges[40] = { 0 };
	czone *zone = new_zone(MIB, NULL);

	fake.extents = 39;
	cr_assert_eq(czone_ranges(zone, NULL, 0), 39);
	cr_assert_eq(czone_ranges(zone, ranges, 2), 39);
	cr_assert_eq(ranges[1].start, (uint64_t)czone_id(zone) << 32 | 1 << 23);
	cr_assert_eq(ranges[2].size, 0, "more than there was room for");
	cr_assert_eq(czone_ranges(zone, ranges, 40), 39);
	cr_assert_eq(ranges[38].size, CZONE_BLOCK);
	cr_assert_eq(ranges[39].size, 0);
	refused(czone_ranges(zone, NULL, 1), -EINVAL, "ret_ranges");
	refused(czone_ranges(NULL, ranges, 1), -EINVAL, "zone is NULL");
	czone_unref(zone);
}

/* ---- lists */

static void check_list(void)
{
	uint32_t ids[8] = { 0 };

	cr_assert_eq(czone_list(vm, ids, 8), 0);
	for (int i = 0; i < 5; i++)
		czone_unref(new_zone(MIB, NULL));
	fake.size[3] = 0;
	cr_assert_eq(czone_list(vm, NULL, 0), 4);
	cr_assert_eq(czone_list(vm, ids, 3), 4);
	cr_assert_eq(ids[3], 0, "more than there was room for");
	cr_assert_eq(czone_list(vm, ids, 8), 4);
	cr_assert_eq(ids[0], 1);
	cr_assert_eq(ids[1], 2);
	cr_assert_eq(ids[2], 4);
	cr_assert_eq(ids[3], 5);
	refused(czone_list(vm, NULL, 1), -EINVAL, "ret_ids");
	refused(czone_list(NULL, ids, 1), -EINVAL, "vm is NULL");
}

Test(list, is_counted_beyond_the_room_for_it, .init = guest, .fini = end)
{
	check_list();
}

Test(list, is_the_same_where_zones_are_asked_for_one_by_one, .init = host, .fini = end)
{
	check_list();
}

Test(list, does_not_believe_a_guest_that_goes_in_circles, .init = host, .fini = end)
{
	uint32_t ids[8] = { 0 };

	fake.next_answer = 2;
	refused(czone_list(vm, ids, 8), -EPROTO, "zone 2");
	fake.next_answer = 0;
	fake.next_error = -ENOTCONN;
	refused(czone_list(vm, ids, 8), -ENOTCONN, "cannot list");
}

Test(lookup, finds_only_what_exists, .init = guest, .fini = end)
{
	czone *zone = new_zone(MIB, NULL), *found = NULL;

	cr_assert_eq(czone_lookup(vm, czone_id(zone), &found), 0);
	cr_assert_eq(czone_id(found), czone_id(zone));
	czone_unref(found);
	found = (czone *)&fake;
	refused(czone_lookup(vm, 63, &found), -ENOENT, "no zone 63");
	refused(czone_lookup(vm, 0, &found), -ENOENT, "no zone's id");
	refused(czone_lookup(vm, 1, NULL), -EINVAL, "ret_zone");
	refused(czone_lookup(NULL, 1, &found), -EINVAL, "vm is NULL");
	cr_assert_eq(found, (czone *)&fake, "an output was touched on failure");
	czone_unref(zone);
}

/* ---- spawn */

Test(spawn, says_which_option_is_wrong, .init = guest, .fini = end)
{
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { NULL, NULL };
	czone *zone = new_zone(MIB, NULL);

	refused(czone_spawn(NULL, &opts, NULL, NULL), -EINVAL, "zone is NULL");
	refused(czone_spawn(zone, NULL, NULL, NULL), -EINVAL, "spawn options is NULL");
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "argv");
	opts.argv = argv;
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "argv");
	argv[0] = "";
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "argv");
	argv[0] = "true";
	opts.cgroup = "c";
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "does not begin with /");
	opts.cgroup = NULL;
	opts.n_fds = 1;
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "fds is NULL");
	opts.fds = (int []) { 0 };
	opts.n_fds = 65;
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "n_fds is 65");
	opts.struct_size = 8;
	refused(czone_spawn(zone, &opts, NULL, NULL), -EINVAL, "struct_size is 8");
	czone_unref(zone);
}

Test(spawn, reaches_the_driver, .init = guest, .fini = end)
{
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "true", NULL };
	czone *zone = new_zone(MIB, NULL);
	int64_t pid = 0;
	int pidfd = -1;

	opts.argv = argv;
	cr_assert_eq(czone_spawn(zone, &opts, &pidfd, &pid), 0);
	cr_assert_eq(pid, 7);
	cr_assert_geq(pidfd, 0);
	cr_assert_eq(close(pidfd), 0);
	cr_assert_eq(fake.spawn.timeout_ms, CZONE_TIMEOUT_DEFAULT_MS);
	opts.timeout_ms = 5;
	cr_assert_eq(czone_spawn(zone, &opts, NULL, NULL), 0);
	cr_assert_eq(close(pidfd), -1, "a pidfd that nobody wanted is open");
	cr_assert_eq(fake.spawn.timeout_ms, 5);
	cr_assert_eq(czone_destroy(zone, 0, 0, NULL), 0);
	refused(czone_spawn(zone, &opts, &pidfd, &pid), -ENOENT, "destroyed");
	czone_unref(zone);
}

Test(spawn, is_for_the_guest_side, .init = host, .fini = end)
{
	struct czone_spawn_opts opts = CZONE_INIT(opts);
	const char *argv[] = { "true", NULL };
	czone *zone = new_zone(MIB, NULL);
	int64_t pid = 5;
	int pidfd = 6;

	opts.argv = argv;
	refused(czone_spawn(zone, &opts, &pidfd, &pid), -EOPNOTSUPP, "guest side");
	cr_assert(pid == 5 && pidfd == 6, "an output was touched on failure");
	czone_unref(zone);
}
