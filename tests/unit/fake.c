/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake.h"
#include "handle.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake *lock(struct czone_vm *vm)
{
	struct fake *fake = vm->priv;

	pthread_mutex_lock(&fake->lock);
	return fake;
}

static int done(struct fake *fake, int r)
{
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static bool exists(const struct fake *fake, uint32_t id)
{
	return id > 0 && id <= FAKE_ZONES && fake->size[id];
}

static int absent(uint32_t id)
{
	return czone_fail(-ENOENT, "fake: no zone %u", id);
}

static void fake_close(struct czone_vm *vm)
{
	struct fake *fake = vm->priv;

	fake->closed = true;
}

static int fake_create(struct czone_vm *vm, uint64_t size, uint32_t flags, uint32_t file_zone,
		       uint32_t timeout_ms, uint32_t *ret_id)
{
	struct fake *fake = lock(vm);

	fake->flags = flags;
	fake->file_zone = file_zone;
	fake->timeout_ms = timeout_ms;
	for (int i = 0; i < FAKE_ZONES; i++) {
		fake->last_id = fake->last_id % FAKE_ZONES + 1;
		if (!fake->size[fake->last_id]) {
			fake->size[fake->last_id] = size;
			*ret_id = fake->last_id;
			return done(fake, 0);
		}
	}
	return done(fake, czone_fail(-ENOSPC, "fake: full"));
}

static void count_up(uint64_t *values, int n)
{
	for (int i = 0; i < n; i++)
		values[i] = i + 1;
}

static int fake_attach(struct czone_vm *vm, uint32_t id, const char *path, uint32_t flags,
		       uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct fake *fake = lock(vm);

	if (!exists(fake, id))
		return done(fake, absent(id));
	fake->attach_flags = flags;
	fake->timeout_ms = timeout_ms;
	count_up(result, __CZONE_RESULT_MAX);
	snprintf(fake->path, sizeof(fake->path), "%s", path);
	if (fake->attach_error)
		return done(fake, czone_fail(fake->attach_error, "fake: cannot attach"));
	return done(fake, 0);
}

static int fake_resize(struct czone_vm *vm, uint32_t id, uint64_t size, uint32_t timeout_ms)
{
	struct fake *fake = lock(vm);

	if (!exists(fake, id))
		return done(fake, absent(id));
	fake->size[id] = size;
	fake->timeout_ms = timeout_ms;
	return done(fake, 0);
}

static int fake_destroy(struct czone_vm *vm, uint32_t id, uint32_t flags, uint32_t timeout_ms,
			uint64_t result[__CZONE_RESULT_MAX])
{
	struct fake *fake = lock(vm);

	fake->destroys++;
	fake->flags = flags;
	fake->timeout_ms = timeout_ms;
	if (!exists(fake, id))
		return done(fake, absent(id));
	count_up(result, __CZONE_RESULT_MAX);
	if (fake->destroy_error)
		return done(fake, czone_fail(fake->destroy_error, "fake: cannot destroy"));
	fake->size[id] = 0;
	return done(fake, 0);
}

static int fake_reclaim(struct czone_vm *vm, uint32_t id, uint64_t bytes, uint32_t flags,
			uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct fake *fake = lock(vm);

	fake->reclaims++;
	fake->bytes = bytes;
	fake->flags = flags;
	fake->timeout_ms = timeout_ms;
	if (id != CZONE_ID_VM && !exists(fake, id))
		return done(fake, absent(id));
	count_up(result, __CZONE_RESULT_MAX);
	if (fake->reclaim_error)
		return done(fake, czone_fail(fake->reclaim_error, "fake: cannot reclaim"));
	return done(fake, 0);
}

static int fake_grow(struct czone_vm *vm, uint64_t bytes, uint32_t timeout_ms)
{
	struct fake *fake = lock(vm);

	fake->bytes = bytes;
	fake->timeout_ms = timeout_ms;
	return done(fake, 0);
}

static int fake_set_idle(struct czone_vm *vm, uint32_t id, uint32_t delay_ms, uint64_t floor,
			 uint32_t timeout_ms)
{
	struct fake *fake = lock(vm);

	if (!exists(fake, id))
		return done(fake, absent(id));
	if (fake->idle_error)
		return done(fake, czone_fail(fake->idle_error, "cannot set"));
	fake->delay_ms = delay_ms;
	fake->bytes = floor;
	fake->timeout_ms = timeout_ms;
	return done(fake, 0);
}

static int fake_spawn(struct czone_vm *vm, uint32_t id, const struct czone_spawn_opts *opts,
		      int *ret_pidfd, pid_t *ret_pid)
{
	struct fake *fake = lock(vm);

	if (!exists(fake, id))
		return done(fake, absent(id));
	fake->spawn = *opts;
	*ret_pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	*ret_pid = 7;
	return done(fake, 0);
}

static int fake_stats(struct czone_vm *vm, uint32_t id, uint64_t stat[__CZONE_STAT_MAX])
{
	struct fake *fake = lock(vm);

	if (fake->stats_error)
		return done(fake, czone_fail(fake->stats_error, "fake: no statistics"));
	if (id != CZONE_ID_VM && !exists(fake, id))
		return done(fake, absent(id));
	count_up(stat, __CZONE_STAT_MAX);
	/* as an older kernel: not all are known */
	if (id == CZONE_ID_VM) {
		stat[CZONE_STAT_ZONES] = CZONE_UNKNOWN;
	} else {
		stat[CZONE_STAT_SIZE] = fake->size[id];
		stat[CZONE_STAT_SPILLED] = CZONE_UNKNOWN;
	}
	return done(fake, 0);
}

static int fake_next(struct czone_vm *vm, uint32_t after, uint32_t *ret_id)
{
	struct fake *fake = lock(vm);

	if (fake->next_answer) {
		*ret_id = fake->next_answer;
		return done(fake, 0);
	}
	if (fake->next_error)
		return done(fake, czone_fail(fake->next_error, "fake: cannot list"));
	*ret_id = 0;
	for (uint32_t id = after + 1; id <= FAKE_ZONES && !*ret_id; id++) {
		if (fake->size[id])
			*ret_id = id;
	}
	return done(fake, 0);
}

static int fake_list(struct czone_vm *vm, uint32_t *ret_ids, size_t max)
{
	struct fake *fake = lock(vm);
	size_t n = 0;

	for (uint32_t id = 1; id <= FAKE_ZONES; id++) {
		if (fake->size[id]) {
			if (n < max)
				ret_ids[n] = id;
			n++;
		}
	}
	return done(fake, n);
}

static int fake_extents(struct czone_vm *vm, uint32_t id, struct czone_extent *extent, size_t max)
{
	struct fake *fake = lock(vm);

	if (!exists(fake, id))
		return done(fake, absent(id));
	for (size_t i = 0; i < (size_t)fake->extents && i < max; i++)
		extent[i] = (struct czone_extent) { (uint64_t)id << 32 | i << 23, CZONE_BLOCK };
	return done(fake, fake->extents);
}

static int fake_resident(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			 uint64_t *ret_bytes)
{
	(void)vm;
	*ret_bytes = 0;
	for (size_t i = 0; i < n; i++)
		*ret_bytes += extent[i].size;
	return 0;
}

static int fake_host_stats(struct czone_vm *vm, struct czone_vm_stats *stats)
{
	(void)vm;
	stats->host_pool = 101;
	stats->host_boot = 102;
	stats->host_pss = 103;
	stats->pid = 104;
	return 0;
}

static int fake_stop(struct czone_vm *vm)
{
	(void)vm;
	return 0;
}

const struct czone_driver fake_driver = {
	.name = "fake",
	.close = fake_close,
	.create = fake_create,
	.attach = fake_attach,
	.resize = fake_resize,
	.destroy = fake_destroy,
	.reclaim = fake_reclaim,
	.spawn = fake_spawn,
	.stats = fake_stats,
	.list = fake_list,
	.extents = fake_extents,
};

const struct czone_driver fake_host_driver = {
	.name = "fake host",
	.close = fake_close,
	.stop = fake_stop,
	.create = fake_create,
	.attach = fake_attach,
	.resize = fake_resize,
	.destroy = fake_destroy,
	.reclaim = fake_reclaim,
	.set_idle = fake_set_idle,
	.grow = fake_grow,
	.stats = fake_stats,
	.next = fake_next,
	.extents = fake_extents,
	.resident = fake_resident,
	.host_stats = fake_host_stats,
};

czone_vm *fake_vm(struct fake *fake, const struct czone_driver *driver)
{
	struct czone_vm *vm = czone_vm_new();

	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->lock, NULL);
	fake->extents = 1;
	vm->driver = driver;
	vm->priv = fake;
	return vm;
}
