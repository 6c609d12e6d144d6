/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "top.h"
#include <ftw.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ZONES_MAX 65536

struct row {
	struct czone_zone_stats stats;
	char cgroup[64];
};

/* nftw() has no argument for its caller. */
static _Thread_local struct row *wanted;
static _Thread_local int wanted_rows;
static _Thread_local size_t root_length;

static int note_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type != FTW_D)
		return 0;
	for (int i = 0; i < wanted_rows; i++) {
		if (wanted[i].stats.cgroup_id == st->st_ino)
			snprintf(wanted[i].cgroup, sizeof(wanted[i].cgroup), "%.63s", path + root_length);
	}
	return 0;
}

static int most_backed_first(const void *a, const void *b)
{
	const struct czone_zone_stats *x = &((const struct row *)a)->stats, *y = &((const struct row *)b)->stats;
	uint64_t left = x->used + x->free_backed, right = y->used + y->free_backed;

	return (left < right) - (left > right);
}

static void print_size(FILE *out, uint64_t bytes)
{
	if (bytes == CZONE_UNKNOWN)
		fprintf(out, " %9s", "-");
	else
		fprintf(out, " %9.1f", (double)bytes / (1 << 20));
}

static int print_zones(FILE *out, czone_vm *vm, const char *cgroups)
{
	uint32_t *ids = calloc(ZONES_MAX, sizeof(*ids));
	int n = ids ? czone_list(vm, ids, ZONES_MAX) : -1;
	struct row *rows = n > 0 ? calloc(n, sizeof(*rows)) : NULL;
	int count = 0;

	for (int i = 0; rows && i < n && i < ZONES_MAX; i++) {
		czone *zone;

		rows[count].stats = (struct czone_zone_stats)CZONE_INIT(rows[count].stats);
		if (czone_lookup(vm, ids[i], &zone) < 0)
			continue;		/* gone meanwhile */
		if (czone_stats(zone, &rows[count].stats) == 0) {
			if (rows[count].stats.cgroup_id)
				snprintf(rows[count].cgroup, sizeof(rows[count].cgroup), "%" PRIu64,
					 rows[count].stats.cgroup_id);
			count++;
		}
		czone_unref(zone);
	}
	if (cgroups && count) {
		wanted = rows;
		wanted_rows = count;
		root_length = strlen(cgroups);
		nftw(cgroups, note_path, 16, FTW_PHYS);
	}
	if (count) {
		qsort(rows, count, sizeof(*rows), most_backed_first);
		fprintf(out, "%6s %9s %9s %9s %9s %9s %9s %9s  %s\n", "ZONE", "SIZE", "USED", "RECLAIM", "CACHE",
			"HOST", "RETURNED", "SPILLED", "CGROUP");
	}
	for (int i = 0; i < count; i++) {
		const struct czone_zone_stats *s = &rows[i].stats;

		fprintf(out, "%6" PRIu32, s->id);
		print_size(out, s->size);
		print_size(out, s->used);
		print_size(out, s->free_backed);
		print_size(out, s->file);
		print_size(out, s->host_resident);
		print_size(out, s->returned);
		print_size(out, s->spilled);
		fprintf(out, "  %s\n", rows[i].cgroup);
	}
	free(rows);
	free(ids);
	return n < 0 ? n : 0;
}

int top_print(FILE *out, czone_vm *const *vms, const char *const *names, size_t n, const char *cgroups)
{
	int result = 0, r;

	for (size_t i = 0; i < n; i++) {
		struct czone_vm_stats s = CZONE_INIT(s);

		r = czone_vm_stats(vms[i], &s);
		if (r == 0) {
			fprintf(out, "%s: %" PRIu64 " zones; MiB: pool", names[i], s.zones);
			print_size(out, s.pool_size);
			fputs(", in zones", out);
			print_size(out, s.pool_used);
			fputs(", host memory of it", out);
			print_size(out, s.host_pool);
			fputs(", returned", out);
			print_size(out, s.returned);
			fputc('\n', out);
			r = print_zones(out, vms[i], cgroups);
		}
		if (r < 0) {
			fprintf(out, "%s: %s\n", names[i], czone_error_detail());
			result = r;
		}
	}
	return result;
}
