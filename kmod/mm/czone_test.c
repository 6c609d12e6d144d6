// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of czone: what can be checked without a region of memory. The
 * rest is tested from outside, with a host that counts.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/percpu.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "internal.h"
#include "czone_internal.h"

/*
 * The block allocator
 */
struct run_case {
	const char *used;		/* '#' or '.', a block each */
	unsigned long want, start, len;
};

static const struct run_case run_cases[] = {
	{ "....",	4, 0, 4 },
	{ "....",	2, 0, 2 },
	{ "#...",	2, 1, 2 },
	{ "#.#..#...",	2, 3, 2 },	/* the first that fits */
	{ "#.#..#...",	3, 6, 3 },
	{ "#.#..#...",	4, 6, 3 },	/* none fits: the longest */
	{ "..#..#",	3, 0, 2 },	/* of equals, the first */
	{ "...#",	9, 0, 3 },
	{ "####",	1, 0, 0 },
	{ "",		1, 0, 0 },
};

static void run_desc(const struct run_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "\"%s\" want %lu", c->used, c->want);
}

KUNIT_ARRAY_PARAM(run, run_cases, run_desc);

static void test_find_run(struct kunit *test)
{
	const struct run_case *c = test->param_value;
	unsigned long len, start, i, size = strlen(c->used);
	DECLARE_BITMAP(used, 64) = {};

	for (i = 0; i < size; i++)
		if (c->used[i] == '#')
			__set_bit(i, used);
	start = czone_find_run(used, size, c->want, &len);
	KUNIT_EXPECT_EQ(test, len, c->len);
	if (c->len)
		KUNIT_EXPECT_EQ(test, start, c->start);
}

/*
 * Sets of blocks, in a window
 */
static void test_blocks(struct kunit *test)
{
	static const unsigned long in[] = { 1000, 1001, 1040, 1063, 1064, 1129 };
	DECLARE_BITMAP(bits, 130) = {};
	struct czone_blocks set = { .first = 1000, .nr = 130, .bits = bits };
	unsigned long block, i;

	for_each_block_in(&set, block)
		KUNIT_FAIL(test, "the empty set has block %lu", block);
	for (i = 0; i < ARRAY_SIZE(in); i++)
		czone_blocks_add(&set, in[i], 1);
	i = 0;
	for_each_block_in(&set, block) {
		KUNIT_ASSERT_LT(test, i, ARRAY_SIZE(in));
		KUNIT_EXPECT_EQ(test, block, in[i]);
		i++;
	}
	KUNIT_EXPECT_EQ(test, i, ARRAY_SIZE(in));
	czone_blocks_add(&set, 1002, 38);
	KUNIT_EXPECT_EQ(test, bitmap_weight(bits, 130), 44);
}

/*
 * Regions: how a page finds its zone and its section, while regions are added
 * above, below, and between those there are
 */
struct region_case {
	unsigned long first, end;	/* in sections */
};

static const struct region_case region_cases[] = {
	{ 32, 40 }, { 40, 41 }, { 64, 200 }, { 16, 24 }, { 50, 60 },
};

static struct czone *test_czone(struct kunit *test)
{
	struct czone *cz = kunit_kzalloc(test, sizeof(*cz), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, cz);
	return cz;
}

/* The first @n regions are there, and the first block of each has an owner. */
static void check_tables(struct kunit *test, const struct czone_tables *tables,
			 struct czone_region **region, struct czone **owner, struct zone *park,
			 int n)
{
	unsigned long first = ULONG_MAX, end = 0, nr;
	int i, at;

	for (i = 0; i < n; i++) {
		first = min(first, region_cases[i].first);
		end = max(end, region_cases[i].end);
	}
	KUNIT_ASSERT_EQ(test, tables->first, first * CZONE_SECTION_BLOCKS);
	KUNIT_ASSERT_EQ(test, tables->end, end * CZONE_SECTION_BLOCKS);
	for (nr = 0; nr < end; nr++) {
		for (at = n - 1; at >= 0; at--)
			if (nr >= region_cases[at].first && nr < region_cases[at].end)
				break;
		if (at < 0) {
			KUNIT_ASSERT_NULL(test, tables->section[nr]);
			continue;
		}
		KUNIT_ASSERT_PTR_EQ(test, tables->section[nr],
				    &region[at]->section[nr - region_cases[at].first]);
		KUNIT_ASSERT_PTR_EQ(test, tables->section[nr]->region, region[at]);
	}
	for (nr = tables->first; nr < tables->end; nr++) {
		struct zone *want = park;

		for (i = 0; i < n; i++)
			if (nr == region[i]->first)
				want = &owner[i]->zone;
		KUNIT_ASSERT_PTR_EQ(test, tables->map[nr - tables->first], want);
	}
}

static void test_regions(struct kunit *test)
{
	struct czone_region *region[ARRAY_SIZE(region_cases)];
	struct czone *owner[ARRAY_SIZE(region_cases)];
	struct zone *park = &test_czone(test)->zone;
	struct czone_tables *tables = NULL, *more;
	LIST_HEAD(regions);
	int i;

	for (i = 0; i < ARRAY_SIZE(region_cases); i++) {
		unsigned long first = region_cases[i].first * CZONE_SECTION_BLOCKS;
		unsigned long end = region_cases[i].end * CZONE_SECTION_BLOCKS, nr;

		KUNIT_ASSERT_EQ(test, czone_region_known(&regions, first, end), 0);
		region[i] = czone_region_alloc(first, end, i & 1);
		KUNIT_ASSERT_NOT_NULL(test, region[i]);
		list_add_tail(&region[i]->list, &regions);
		owner[i] = test_czone(test);
		more = czone_tables_add(tables, region[i], park);
		KUNIT_ASSERT_NOT_NULL(test, more);
		czone_tables_free(tables);
		tables = more;
		tables->map[first - tables->first] = &owner[i]->zone;
		check_tables(test, tables, region, owner, park, i + 1);

		KUNIT_EXPECT_EQ(test, czone_region_known(&regions, first, end), -EEXIST);
		KUNIT_EXPECT_EQ(test, czone_region_known(&regions, first - 1, first + 1), -EBUSY);
		KUNIT_EXPECT_EQ(test, czone_region_known(&regions, first + 1, end), -EBUSY);
		KUNIT_EXPECT_EQ(test, czone_region_known(&regions, end - 1, end + 1), -EBUSY);

		/* The memmaps lie one after the other in the blocks at the head. */
		for (nr = 0; nr < (end - first) / CZONE_SECTION_BLOCKS; nr++) {
			phys_addr_t memmap = czone_section_memmap(&region[i]->section[nr]);

			KUNIT_EXPECT_EQ(test, czone_memmap_section(region[i], memmap),
					region_cases[i].first + nr);
			KUNIT_EXPECT_LE(test, memmap + CZONE_MEMMAP_SIZE,
					PFN_PHYS(czone_block_pfn(first + region[i]->nr_meta)));
		}
	}
	czone_tables_free(tables);
	for (i = 0; i < ARRAY_SIZE(region_cases); i++)
		kvfree(region[i]);
}

/*
 * The boot memory's sections, and how they stay when regions come
 */
static void test_boot_sections(struct kunit *test)
{
	struct czone_tables *boot = czone_tables_boot(), *tables = boot, *more;
	struct zone *park = &test_czone(test)->zone;
	unsigned long nr, first, known = 0;
	struct czone_section *section;
	struct czone_region *region[2];
	int i;

	KUNIT_ASSERT_NOT_NULL(test, boot);
	KUNIT_EXPECT_NULL(test, boot->map);
	for (nr = 0; nr < boot->nr_sections; nr++) {
		section = boot->section[nr];
		KUNIT_ASSERT_EQ(test, !!section, online_section_nr(nr));
		if (!section)
			continue;
		known++;
		KUNIT_EXPECT_NULL(test, section->region);
		KUNIT_EXPECT_FALSE(test, section->online);
		KUNIT_EXPECT_TRUE(test, bitmap_full(czone_section_map(section, CZONE_MAP_BACKED),
						    PAGES_PER_SECTION));
		KUNIT_EXPECT_TRUE(test, bitmap_empty(czone_section_map(section, CZONE_MAP_ZERO),
						     PAGES_PER_SECTION));
	}
	KUNIT_EXPECT_GT(test, known, 0UL);

	/* Far above it, and right behind it. */
	for (i = 0; i < 2; i++) {
		first = (boot->nr_sections + (i ? 0 : 64)) * CZONE_SECTION_BLOCKS;
		region[i] = czone_region_alloc(first, first + 2 * CZONE_SECTION_BLOCKS, false);
		KUNIT_ASSERT_NOT_NULL(test, region[i]);
		more = czone_tables_add(tables, region[i], park);
		KUNIT_ASSERT_NOT_NULL(test, more);
		if (tables != boot)
			czone_tables_free(tables);
		tables = more;
		KUNIT_EXPECT_EQ(test, tables->first, first);
		KUNIT_EXPECT_EQ(test, tables->end, region[0]->end);
		KUNIT_EXPECT_EQ(test, tables->nr_sections, boot->nr_sections + 66);
		KUNIT_EXPECT_MEMEQ(test, tables->section, boot->section,
				   boot->nr_sections * sizeof(*boot->section));
		section = tables->section[first / CZONE_SECTION_BLOCKS];
		KUNIT_EXPECT_PTR_EQ(test, section, &region[i]->section[0]);
	}
	czone_tables_free(tables);
	for (nr = 0; nr < boot->nr_sections; nr++) {
		if (!boot->section[nr])
			continue;
		kfree(boot->section[nr]->maps);
		kfree(boot->section[nr]);
	}
	czone_tables_free(boot);
	for (i = 0; i < 2; i++)
		kvfree(region[i]);
}

/*
 * An allocation of boot memory: what changes, and who has to clear
 */
struct boot_case {
	const char *name;
	unsigned long bit, nr;		/* allocated */
	unsigned long taken, nr_taken;	/* by the host, before that */
	unsigned int host_order;
	bool zeroes;			/* the host promises them */
	bool init;
	bool clear;
	unsigned long changed;
};

static const struct boot_case boot_cases[] = {
	{ "never with the host", 8, 4, 0, 0, 0, true, true, true, 0 },
	{ "never with the host, not to be zero", 8, 4, 0, 0, 0, true, false, false, 0 },
	{ "a zero page", 9, 1, 8, 4, 0, true, true, false, 1 },
	{ "a zero page, not to be zero", 9, 1, 8, 4, 0, true, false, false, 1 },
	{ "a page that was taken, without the promise", 9, 1, 8, 4, 0, false, true, true, 1 },
	{ "a zero block", 8, 8, 0, 64, 0, true, true, false, 8 },
	{ "a block, zero in parts", 8, 8, 12, 4, 0, true, true, true, 4 },
	{ "a neighbour of what was taken", 7, 1, 8, 4, 0, true, true, true, 0 },
	{ "a large host page", 513, 1, 512, 512, 9, true, true, false, 512 },
	{ "a large host page, without the promise", 513, 1, 512, 512, 9, false, true, true, 512 },
	{ "a hole in a large host page", 513, 1, 512, 8, 9, true, true, false, 1 },
};

static void boot_desc(const struct boot_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(boot, boot_cases, boot_desc);

static void test_boot_use(struct kunit *test)
{
	const struct boot_case *c = test->param_value;
	struct czone_section section = {};
	unsigned long *backed, *zero, before, changed = 0;

	KUNIT_ASSERT_EQ(test, czone_section_alloc_maps(&section, false), 0);
	backed = czone_section_map(&section, CZONE_MAP_BACKED);
	zero = czone_section_map(&section, CZONE_MAP_ZERO);
	bitmap_fill(backed, PAGES_PER_SECTION);
	czone_bitmap_clear(backed, c->taken, c->nr_taken);
	if (c->zeroes)
		czone_bitmap_set(zero, c->taken, c->nr_taken);
	before = bitmap_weight(backed, PAGES_PER_SECTION);

	KUNIT_EXPECT_EQ(test, czone_boot_use(&section, c->bit, c->nr, c->host_order, c->init,
					     &changed), c->clear);
	KUNIT_EXPECT_EQ(test, changed, c->changed);
	KUNIT_EXPECT_EQ(test, bitmap_weight(backed, PAGES_PER_SECTION), before + changed);
	KUNIT_EXPECT_EQ(test, czone_bitmap_weight(backed, c->bit, c->nr), c->nr);
	KUNIT_EXPECT_EQ(test, czone_bitmap_weight(zero, c->bit, c->nr), 0UL);

	/* Handed out again: there is nothing left to find out. */
	KUNIT_EXPECT_EQ(test, czone_boot_use(&section, c->bit, c->nr, c->host_order, c->init,
					     &changed), c->init);
	KUNIT_EXPECT_EQ(test, changed, 0UL);
	kfree(section.maps);
}

/*
 * The map of backed pages, against an array of bytes
 */
#define MAP_BITS	2048
#define MAP_STEPS	20000

static unsigned long naive_set(u8 *array, unsigned long start, unsigned long nr, u8 value)
{
	unsigned long i, changed = 0;

	for (i = start; i < start + nr; i++) {
		changed += array[i] != value;
		array[i] = value;
	}
	return changed;
}

static unsigned long naive_weight(const u8 *array, unsigned long start, unsigned long nr)
{
	unsigned long i, weight = 0;

	for (i = start; i < start + nr; i++)
		weight += array[i];
	return weight;
}

static void test_backed_map(struct kunit *test)
{
	unsigned long *map = kunit_kcalloc(test, BITS_TO_LONGS(MAP_BITS), sizeof(long), GFP_KERNEL);
	u8 *array = kunit_kzalloc(test, MAP_BITS, GFP_KERNEL);
	long total = 0;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, map);
	KUNIT_ASSERT_NOT_NULL(test, array);
	for (i = 0; i < MAP_STEPS; i++) {
		unsigned long start, nr, a, b;

		if (get_random_u32_below(4)) {	/* what the buddy allocator does */
			nr = 1UL << get_random_u32_below(MAX_PAGE_ORDER + 1);
			start = round_down(get_random_u32_below(MAP_BITS), nr);
		} else {			/* what a report does */
			start = get_random_u32_below(MAP_BITS);
			nr = 1 + get_random_u32_below(MAP_BITS - start);
		}
		switch (get_random_u32_below(3)) {
		case 0:
			a = czone_bitmap_set(map, start, nr);
			b = naive_set(array, start, nr, 1);
			total += a;
			break;
		case 1:
			a = czone_bitmap_clear(map, start, nr);
			b = naive_set(array, start, nr, 0);
			total -= a;
			break;
		default:
			a = czone_bitmap_weight(map, start, nr);
			b = naive_weight(array, start, nr);
		}
		KUNIT_ASSERT_EQ_MSG(test, a, b, "step %d, %lu bits from %lu", i, nr, start);
	}
	KUNIT_EXPECT_EQ(test, total, (long)bitmap_weight(map, MAP_BITS));
	KUNIT_EXPECT_EQ(test, total, (long)naive_weight(array, 0, MAP_BITS));
}

/*
 * Both maps of a section, through the life of its pages
 */
static void test_zero_map(struct kunit *test)
{
	struct czone_section section = {};
	unsigned long *backed, *zero, changed;

	KUNIT_ASSERT_EQ(test, czone_section_alloc_maps(&section, false), 0);
	backed = czone_section_map(&section, CZONE_MAP_BACKED);
	zero = czone_section_map(&section, CZONE_MAP_ZERO);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(backed, PAGES_PER_SECTION));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(zero, PAGES_PER_SECTION));

	/* Nothing is known: cleared if that was asked for, and touched. */
	KUNIT_EXPECT_FALSE(test, czone_section_use(&section, 8, 4, 0, &changed));
	KUNIT_EXPECT_EQ(test, czone_bitmap_weight(backed, 0, PAGES_PER_SECTION), 4UL);

	/* The host has taken some of it. One page that it has not spoils a range. */
	czone_bitmap_clear(backed, 8, 3);
	czone_bitmap_set(zero, 8, 3);
	KUNIT_EXPECT_TRUE(test, czone_section_use(&section, 8, 1, 0, &changed));
	KUNIT_EXPECT_FALSE(test, czone_section_use(&section, 8, 1, 0, &changed));
	KUNIT_EXPECT_FALSE(test, czone_section_use(&section, 8, 4, 0, &changed));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(zero, PAGES_PER_SECTION));
	kfree(section.maps);

	/* A region that was all zero when it came, on large host pages */
	section.maps = NULL;
	KUNIT_ASSERT_EQ(test, czone_section_alloc_maps(&section, true), 0);
	backed = czone_section_map(&section, CZONE_MAP_BACKED);
	zero = czone_section_map(&section, CZONE_MAP_ZERO);
	KUNIT_EXPECT_TRUE(test, bitmap_full(zero, PAGES_PER_SECTION));
	KUNIT_EXPECT_TRUE(test, czone_section_use(&section, 512, 1, 9, &changed));
	KUNIT_EXPECT_EQ(test, czone_bitmap_weight(backed, 0, PAGES_PER_SECTION), 512UL);
	KUNIT_EXPECT_EQ(test, czone_bitmap_weight(zero, 512, 512), 511UL);
	KUNIT_EXPECT_TRUE(test, czone_section_use(&section, 513, 1, 9, &changed));
	KUNIT_EXPECT_FALSE(test, czone_section_use(&section, 512, 2, 9, &changed));
	kfree(section.maps);
}

/*
 * A touch of the first page of a host page, or of a hole in one
 */
struct touch_case {
	const char *backed;		/* '#' or '.', a page each, before */
	unsigned int host_order;
	unsigned long start, nr;
	const char *after;
};

static const struct touch_case touch_cases[] = {
	{ "........", 0, 2, 1, "..#....." },
	{ "..#.....", 0, 2, 1, "..#....." },
	{ "........", 0, 4, 4, "....####" },
	{ "........", 2, 5, 1, "....####" },	/* all of the host page */
	{ "........", 2, 4, 2, "....####" },
	{ "........", 1, 0, 4, "####...." },
	{ "....#...", 2, 6, 1, "....#.#." },	/* parts of it went back */
	{ "#.......", 2, 6, 1, "#...####" },
	{ "########", 3, 3, 1, "########" },
};

static void touch_desc(const struct touch_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "\"%s\" order %u touch %lu+%lu", c->backed,
		 c->host_order, c->start, c->nr);
}

KUNIT_ARRAY_PARAM(touch, touch_cases, touch_desc);

static void test_touch(struct kunit *test)
{
	const struct touch_case *c = test->param_value;
	unsigned long i, size = strlen(c->backed), before = 0, after = 0;
	DECLARE_BITMAP(map, BITS_PER_LONG) = {};

	for (i = 0; i < size; i++) {
		__assign_bit(i, map, c->backed[i] == '#');
		before += c->backed[i] == '#';
		after += c->after[i] == '#';
	}
	KUNIT_EXPECT_EQ(test, czone_bitmap_touch(map, c->start, c->nr, c->host_order),
			after - before);
	for (i = 0; i < size; i++)
		KUNIT_EXPECT_EQ_MSG(test, test_bit(i, map), c->after[i] == '#', "page %lu", i);
}

/*
 * Which requests go to a zone
 */
struct gfp_case {
	const char *name;
	gfp_t gfp;
	unsigned int pflags;	/* of the task */
	bool wanted;
};

#define GFP_CASE(gfp, pflags, wanted)	{ #gfp, gfp, pflags, wanted }

static const struct gfp_case gfp_cases[] = {
	GFP_CASE(GFP_HIGHUSER_MOVABLE, 0, true),
	GFP_CASE(GFP_TRANSHUGE, 0, true),
	GFP_CASE(GFP_TRANSHUGE_LIGHT, 0, true),
	GFP_CASE(GFP_HIGHUSER_MOVABLE | __GFP_ZERO | __GFP_NOWARN, 0, true),
	GFP_CASE(GFP_NOFS | __GFP_HIGHMEM | __GFP_MOVABLE, 0, true),
	/* A long-term pin must not find its page in a zone. */
	GFP_CASE(GFP_HIGHUSER_MOVABLE, PF_MEMALLOC_PIN, false),
	GFP_CASE(GFP_HIGHUSER, 0, false),
	GFP_CASE(GFP_USER, 0, false),
	/* Metadata of file systems */
	GFP_CASE(GFP_USER | __GFP_MOVABLE, 0, false),
	GFP_CASE(GFP_NOFS | __GFP_MOVABLE | __GFP_NOFAIL, 0, false),
	GFP_CASE(GFP_KERNEL, 0, false),
	GFP_CASE(GFP_KERNEL_ACCOUNT, 0, false),
	GFP_CASE(GFP_ATOMIC, 0, false),
	GFP_CASE(GFP_DMA32, 0, false),
};

static void gfp_desc(const struct gfp_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s%s", c->name, c->pflags ? " pinned" : "");
}

KUNIT_ARRAY_PARAM(gfp, gfp_cases, gfp_desc);

static void test_gfp(struct kunit *test)
{
	const struct gfp_case *c = test->param_value;
	unsigned int old = current->flags & PF_MEMALLOC_PIN;
	gfp_t gfp;

	current->flags |= c->pflags;
	gfp = current_gfp_context(c->gfp);
	if (c->pflags && !old)
		current->flags &= ~c->pflags;
	KUNIT_EXPECT_EQ(test, czone_wants_gfp(gfp), c->wanted);
}

/*
 * Where a request goes that may go to a zone
 */
struct route_case {
	const char *name;
	gfp_t gfp;
	u32 flags;		/* of the zone */
	bool tied, closing;
	bool routed;		/* to the zone */
	bool spills;		/* to the node, when the zone is full */
};

static const struct route_case route_cases[] = {
	{ "strict", GFP_HIGHUSER_MOVABLE, 0, true, false, true, false },
	{ "spilling", GFP_HIGHUSER_MOVABLE, CZONE_CREATE_SPILL, true, false, true, true },
	{ "must not fail", GFP_HIGHUSER_MOVABLE | __GFP_NOFAIL, 0, true, false, true, true },
	{ "huge page", GFP_TRANSHUGE, 0, true, false, true, false },
	{ "kernel memory", GFP_KERNEL_ACCOUNT, 0, true, false, false, false },
	{ "no zone", GFP_HIGHUSER_MOVABLE, 0, false, false, false, false },
	{ "zone that goes", GFP_HIGHUSER_MOVABLE, 0, true, true, false, false },
};

static void route_desc(const struct route_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(route, route_cases, route_desc);

static void test_route(struct kunit *test)
{
	struct mem_cgroup *memcg = kunit_kzalloc(test, sizeof(*memcg), GFP_KERNEL);
	struct czone *cz = kunit_kzalloc(test, sizeof(*cz), GFP_KERNEL);
	const struct route_case *c = test->param_value;
	struct alloc_context routed, spilled;
	struct zonelist *zonelist;
	struct mem_cgroup *old;
	int nid = first_online_node;
	struct czone *full;

	KUNIT_ASSERT_NOT_NULL(test, memcg);
	KUNIT_ASSERT_NOT_NULL(test, cz);
	KUNIT_ASSERT_EQ(test, czone_zone_init(cz, nid), 0);
	cz->flags = c->flags;
	cz->closing = c->closing;
	memcg->czone = c->tied ? cz : NULL;
	zonelist = node_zonelist(nid, c->gfp);
	routed = (struct alloc_context) {
		.zonelist = zonelist,
		.highest_zoneidx = gfp_zone(c->gfp),
		.spread_dirty_pages = true,
	};

	static_branch_inc(&czone_key);
	old = set_active_memcg(memcg);
	czone_route(&routed);
	spilled = routed;
	full = czone_spill(c->gfp, nid, NULL, &spilled);
	set_active_memcg(old);
	static_branch_dec(&czone_key);

	KUNIT_EXPECT_PTR_EQ(test, czone_serving(&routed), c->routed ? cz : NULL);
	KUNIT_EXPECT_PTR_EQ(test, routed.zonelist,
			    c->routed ? (struct zonelist *)cz->zonelist : zonelist);
	KUNIT_EXPECT_EQ(test, routed.spread_dirty_pages, !c->routed);
	KUNIT_EXPECT_PTR_EQ(test, full, c->spills ? cz : NULL);
	if (full) {
		KUNIT_EXPECT_NULL(test, czone_serving(&spilled));
		KUNIT_EXPECT_PTR_EQ(test, spilled.zonelist, zonelist);
		KUNIT_EXPECT_NOT_NULL(test, zonelist_zone(spilled.preferred_zoneref));
	}
	free_percpu(cz->zone.per_cpu_zonestats);
	free_percpu(cz->zone.per_cpu_pageset);
}

/*
 * Batches for the host
 */
#define BATCH_MAX	4

struct batch_range {
	unsigned long pfn, nr;
};

struct batch_case {
	const char *name;
	struct batch_range in[BATCH_MAX + 1];
	struct batch_range added[BATCH_MAX];	/* as they came, neighbours merged */
	struct batch_range sorted[BATCH_MAX];
};

static const struct batch_case batch_cases[] = {
	{ "one", { { 8, 4 } }, { { 8, 4 } }, { { 8, 4 } } },
	{ "neighbours", { { 8, 4 }, { 12, 1 }, { 13, 3 } }, { { 8, 8 } }, { { 8, 8 } } },
	{ "gap", { { 8, 4 }, { 13, 1 } }, { { 8, 4 }, { 13, 1 } }, { { 8, 4 }, { 13, 1 } } },
	{ "backwards", { { 12, 4 }, { 8, 4 } }, { { 12, 4 }, { 8, 4 } }, { { 8, 8 } } },
	{ "hole is filled", { { 8, 1 }, { 10, 1 }, { 9, 1 } },
	  { { 8, 1 }, { 10, 1 }, { 9, 1 } }, { { 8, 3 } } },
	{ "above 4 GiB", { { 1UL << 30, 1024 }, { 1UL << 20, 1024 } },
	  { { 1UL << 30, 1024 }, { 1UL << 20, 1024 } },
	  { { 1UL << 20, 1024 }, { 1UL << 30, 1024 } } },
	{ "full", { { 9, 1 }, { 7, 1 }, { 5, 1 }, { 3, 1 }, { 1, 1 } },
	  { { 9, 1 }, { 7, 1 }, { 5, 1 }, { 3, 1 } },
	  { { 3, 1 }, { 5, 1 }, { 7, 1 }, { 9, 1 } } },
	{ "full, but the last grows", { { 9, 1 }, { 7, 1 }, { 5, 1 }, { 1, 1 }, { 2, 1 } },
	  { { 9, 1 }, { 7, 1 }, { 5, 1 }, { 1, 2 } },
	  { { 1, 2 }, { 5, 1 }, { 7, 1 }, { 9, 1 } } },
};

static void batch_desc(const struct batch_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(batch, batch_cases, batch_desc);

static void expect_ranges(struct kunit *test, const struct czone_batch *batch,
			  const struct batch_range *want)
{
	int i, nr = 0;

	while (nr < BATCH_MAX && want[nr].nr)
		nr++;
	KUNIT_ASSERT_EQ(test, batch->count, nr);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_EQ(test, batch->range[i].start, PFN_PHYS(want[i].pfn));
		KUNIT_EXPECT_EQ(test, batch->range[i].size, PFN_PHYS(want[i].nr));
	}
}

static void test_batch(struct kunit *test)
{
	struct czone_batch *batch = kunit_kzalloc(test, sizeof(*batch), GFP_KERNEL);
	const struct batch_case *c = test->param_value;
	unsigned long in = 0, held = 0;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, batch);
	for (i = 0; i < ARRAY_SIZE(c->in) && c->in[i].nr; i++)
		if (czone_batch_add(batch, BATCH_MAX, c->in[i].pfn, c->in[i].nr))
			in += c->in[i].nr;
	expect_ranges(test, batch, c->added);
	czone_batch_sort(batch);
	expect_ranges(test, batch, c->sorted);
	for (i = 0; i < batch->count; i++)
		held += PHYS_PFN(batch->range[i].size);
	KUNIT_EXPECT_EQ(test, held, in);
}

/*
 * Pages and zones
 */
static void test_page_mark(struct kunit *test)
{
	int nid = first_online_node;
	struct page page = {};

	set_page_links(&page, ZONE_MOVABLE, nid, 0);
	KUNIT_EXPECT_FALSE(test, page.flags & CZONE_MARK);
	page.flags |= CZONE_MARK;
	KUNIT_EXPECT_EQ(test, (int)page_zonenum(&page), (int)ZONE_MOVABLE);
	KUNIT_EXPECT_EQ(test, page_to_nid(&page), nid);
	/* Ordinary flags are wiped when a page is freed, the mark must not be. */
	KUNIT_EXPECT_EQ(test, CZONE_MARK & (BIT(NR_PAGEFLAGS) - 1), 0UL);
	KUNIT_EXPECT_EQ(test, CZONE_MARK & PAGE_FLAGS_CHECK_AT_PREP, 0UL);
#ifdef CONFIG_LRU_GEN
	KUNIT_EXPECT_EQ(test, CZONE_MARK & (LRU_GEN_MASK | LRU_REFS_MASK), 0UL);
#endif
}

static void test_zone(struct kunit *test)
{
	struct czone *cz = kunit_kzalloc(test, sizeof(*cz), GFP_KERNEL);
	struct zoneref *z;
	struct zone *zone;
	int i, nr = 0;

	KUNIT_ASSERT_NOT_NULL(test, cz);
	KUNIT_ASSERT_EQ(test, czone_zone_init(cz, first_online_node), 0);
	czone_zone_reset(cz);

	static_branch_inc(&czone_key);
	KUNIT_EXPECT_TRUE(test, zone_is_czone(&cz->zone));
	KUNIT_EXPECT_EQ(test, zone_idx(&cz->zone), (int)ZONE_MOVABLE);
	for (i = 0; i < MAX_NR_ZONES; i++)
		KUNIT_EXPECT_EQ(test, zone_idx(&NODE_DATA(first_online_node)->node_zones[i]), i);
	static_branch_dec(&czone_key);

	for_each_zone_zonelist_nodemask(zone, z, (struct zonelist *)cz->zonelist, ZONE_MOVABLE,
					NULL) {
		KUNIT_EXPECT_PTR_EQ(test, zone, &cz->zone);
		nr++;
	}
	KUNIT_EXPECT_EQ(test, nr, 1);
	KUNIT_EXPECT_EQ(test, czone_nr_pcp(&cz->zone), 0UL);
	for (i = 0; i < NR_WMARK; i++)
		KUNIT_EXPECT_EQ(test, wmark_pages(&cz->zone, i), 0UL);

	/* Exact counters: nothing may stay behind on a CPU. */
	mod_zone_page_state(&cz->zone, NR_FREE_PAGES, 3);
	KUNIT_EXPECT_EQ(test, zone_page_state(&cz->zone, NR_FREE_PAGES), 3UL);
	mod_zone_page_state(&cz->zone, NR_FREE_PAGES, -3);
	KUNIT_EXPECT_EQ(test, zone_page_state(&cz->zone, NR_FREE_PAGES), 0UL);

	free_percpu(cz->zone.per_cpu_zonestats);
	free_percpu(cz->zone.per_cpu_pageset);
}

static void test_pcp(struct kunit *test)
{
	static const unsigned long blocks[] = { 1, 2, 16, 256, 16384 };
	struct czone *cz = kunit_kzalloc(test, sizeof(*cz), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, cz);
	KUNIT_ASSERT_EQ(test, czone_zone_init(cz, first_online_node), 0);
	for (i = 0; i < ARRAY_SIZE(blocks); i++) {
		unsigned long pages = blocks[i] << CZONE_BLOCK_ORDER;

		atomic_long_set(&cz->zone.managed_pages, pages);
		czone_zone_resized(cz);
		KUNIT_EXPECT_GE(test, cz->zone.pageset_batch, 1);
		KUNIT_EXPECT_GE(test, cz->zone.pageset_high_max, 2 * cz->zone.pageset_batch);
		KUNIT_EXPECT_LE(test, cz->zone.pageset_high_max, 256);
		/* All lists together leave most of the smallest zone alone. */
		if (num_possible_cpus() <= 16)
			KUNIT_EXPECT_LE(test, cz->zone.pageset_high_max * num_possible_cpus(),
					pages / 4);
	}
	free_percpu(cz->zone.per_cpu_zonestats);
	free_percpu(cz->zone.per_cpu_pageset);
}

/*
 * Idle memory. A look each: a digit is how many hundred free pages are backed;
 * besides 9 of them, p is pressure, g a zone that has grown, f one nearly full.
 */
struct idle_case {
	const char *looks;
	unsigned long floor, want;	/* what the last look finds, the others find nothing */
};

static const struct idle_case idle_cases[] = {
	{ "99999999",		0, 900 },
	{ "9999999",		0, 0 },		/* not a whole period */
	{ "99999999",		250, 650 },
	{ "99999999",		900, 0 },
	{ "99999999",		1000, 0 },
	{ "99939999",		0, 300 },	/* in between some of it was used */
	{ "99039999",		0, 0 },
	{ "99999992",		0, 200 },
	{ "9999p999",		0, 0 },		/* the period begins anew */
	{ "9999p99999999",	0, 900 },
	{ "9g9999999",		0, 0 },
	{ "9g99999999",		0, 900 },
	{ "f9999999",		0, 0 },
	{ "9999999f",		0, 0 },
	{ "1p99999999",		0, 900 },
};

static void idle_desc(const struct idle_case *c, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s floor %lu", c->looks, c->floor);
}

KUNIT_ARRAY_PARAM(idle, idle_cases, idle_desc);

static void test_idle(struct kunit *test)
{
	const struct idle_case *c = test->param_value;
	struct czone_idle_sample now = {
		.size = 64000, .free = 8000, .free_backed = 900, .backed = 20000,
	};
	struct czone_idle idle = {
		.floor = PFN_PHYS(c->floor), .low = now.free_backed, .last = now,
	};
	const char *look;

	for (look = c->looks; *look; look++) {
		now.free_backed = *look < 'a' ? (*look - '0') * 100 : 900;
		now.free = *look == 'f' ? 3999 : 8000;
		now.pressure += *look == 'p';
		now.backed += *look == 'g' ? 1001 : 1000;
		KUNIT_EXPECT_EQ(test, czone_idle_judge(&idle, &now), look[1] ? 0 : c->want);
	}
}

static struct kunit_case czone_cases[] = {
	KUNIT_CASE_PARAM(test_find_run, run_gen_params),
	KUNIT_CASE(test_blocks),
	KUNIT_CASE(test_regions),
	KUNIT_CASE(test_boot_sections),
	KUNIT_CASE_PARAM(test_boot_use, boot_gen_params),
	KUNIT_CASE(test_backed_map),
	KUNIT_CASE(test_zero_map),
	KUNIT_CASE_PARAM(test_touch, touch_gen_params),
	KUNIT_CASE_PARAM(test_gfp, gfp_gen_params),
	KUNIT_CASE_PARAM(test_route, route_gen_params),
	KUNIT_CASE_PARAM(test_batch, batch_gen_params),
	KUNIT_CASE(test_page_mark),
	KUNIT_CASE(test_zone),
	KUNIT_CASE(test_pcp),
	KUNIT_CASE_PARAM(test_idle, idle_gen_params),
	{}
};

static struct kunit_suite czone_suite = {
	.name = "czone",
	.test_cases = czone_cases,
};

kunit_test_suite(czone_suite);

MODULE_DESCRIPTION("KUnit tests of memory zones");
MODULE_LICENSE("GPL");
