// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: what the host has behind each page. Two bits per page of the region:
 *
 * backed	the host has memory behind the page. Set when the page is handed out,
 *		cleared when the host has taken it.
 * zero		the page reads as zero: the host has said so, and nobody can have
 *		written to it since. Set by the host's answer, cleared when the page
 *		is handed out. With large host pages a page can be both.
 *
 * Words are shared by pages of different owners, hence the atomics; the test
 * comes first as most bits are as wanted already.
 */
#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "czone_internal.h"

static unsigned long word_mask(unsigned long bit, unsigned long nr)
{
	return GENMASK(bit + nr - 1, bit);
}

#define for_each_word(map, start, nr, word, mask)				\
	for (unsigned long __bit = (start), __end = (start) + (nr), __n;	\
	     __bit < __end &&							\
	     (__n = min(__end - __bit, BITS_PER_LONG - __bit % BITS_PER_LONG),	\
	      (word) = (map) + BIT_WORD(__bit),					\
	      (mask) = word_mask(__bit % BITS_PER_LONG, __n), true);		\
	     __bit += __n)

/* Each returns how many bits it changed, or found. */
unsigned long czone_bitmap_set(unsigned long *map, unsigned long start, unsigned long nr)
{
	unsigned long *word, mask, changed = 0;

	for_each_word(map, start, nr, word, mask) {
		if ((READ_ONCE(*word) & mask) == mask)
			continue;
		changed += hweight_long(mask & ~atomic_long_fetch_or(mask, (atomic_long_t *)word));
	}
	return changed;
}

unsigned long czone_bitmap_clear(unsigned long *map, unsigned long start, unsigned long nr)
{
	unsigned long *word, mask, changed = 0;

	for_each_word(map, start, nr, word, mask) {
		if (!(READ_ONCE(*word) & mask))
			continue;
		/* A whole word needs no compare-and-exchange loop. */
		if (mask == ~0UL)
			changed += hweight_long(xchg(word, 0));
		else
			changed += hweight_long(mask &
						atomic_long_fetch_andnot(mask,
									 (atomic_long_t *)word));
	}
	return changed;
}

unsigned long czone_bitmap_weight(const unsigned long *map, unsigned long start, unsigned long nr)
{
	const unsigned long *word;
	unsigned long mask, weight = 0;

	/* Whole blocks, most often. */
	if (!(start % BITS_PER_LONG) && !(nr % BITS_PER_LONG)) {
		for (word = map + BIT_WORD(start); word < map + BIT_WORD(start + nr); word++)
			weight += hweight_long(READ_ONCE(*word));
		return weight;
	}
	for_each_word(map, start, nr, word, mask)
		weight += hweight_long(READ_ONCE(*word) & mask);
	return weight;
}

static unsigned long *czone_pfn_map(unsigned long pfn, enum czone_page_map which)
{
	struct czone_section *section = czone_find_section(pfn);

	return section ? czone_section_map(section, which) : NULL;
}

/* A range may cross sections. */
#define for_each_section(which, pfn, nr, map, bit, n)				\
	for (unsigned long __pfn = (pfn), __left = (nr);			\
	     __left && ((bit) = __pfn % PAGES_PER_SECTION,			\
			(n) = min(__left, PAGES_PER_SECTION - (bit)),		\
			(map) = czone_pfn_map(__pfn, which), true);		\
	     __pfn += (n), __left -= (n))

static unsigned long czone_map_set(enum czone_page_map which, unsigned long pfn, unsigned long nr)
{
	unsigned long *map, bit, n, changed = 0;

	for_each_section(which, pfn, nr, map, bit, n)
		if (map)
			changed += czone_bitmap_set(map, bit, n);
	return changed;
}

static unsigned long czone_map_clear(enum czone_page_map which, unsigned long pfn,
				     unsigned long nr)
{
	unsigned long *map, bit, n, changed = 0;

	for_each_section(which, pfn, nr, map, bit, n)
		if (map)
			changed += czone_bitmap_clear(map, bit, n);
	return changed;
}

/* Is one of the pages backed? */
bool czone_range_backed(unsigned long pfn, unsigned long nr)
{
	unsigned long *map, bit, n;

	for_each_section(CZONE_MAP_BACKED, pfn, nr, map, bit, n)
		if (map && find_next_bit(map, bit + n, bit) < bit + n)
			return true;
	return false;
}

/* How many of the pages are backed. */
unsigned long czone_weigh_backed(unsigned long pfn, unsigned long nr)
{
	unsigned long *map, bit, n, weight = 0;

	for_each_section(CZONE_MAP_BACKED, pfn, nr, map, bit, n)
		if (map)
			weight += czone_bitmap_weight(map, bit, n);
	return weight;
}

/* Both return how many bits changed. */
unsigned long czone_set_backed(unsigned long pfn, unsigned long nr)
{
	return czone_map_set(CZONE_MAP_BACKED, pfn, nr);
}

/* The host has taken these pages, which nobody uses. */
unsigned long czone_pages_taken(unsigned long pfn, unsigned long nr)
{
	if (czone_zeroes)
		czone_map_set(CZONE_MAP_ZERO, pfn, nr);
	return czone_map_clear(CZONE_MAP_BACKED, pfn, nr);
}

/*
 * The same for whole blocks that nobody owns. Nobody else has to do with their
 * words, so these are written, which costs much less than to count their bits.
 */
void czone_blocks_taken(unsigned long pfn, unsigned long nr)
{
	unsigned long *map, bit, n;

	if (czone_zeroes) {
		for_each_section(CZONE_MAP_ZERO, pfn, nr, map, bit, n)
			if (map)
				memset_l(map + BIT_WORD(bit), ~0UL, BITS_TO_LONGS(n));
	}
	for_each_section(CZONE_MAP_BACKED, pfn, nr, map, bit, n)
		if (map)
			memset_l(map + BIT_WORD(bit), 0, BITS_TO_LONGS(n));
}

/* The host did not take them, or not all of them: nothing is sure. */
void czone_pages_not_taken(unsigned long pfn, unsigned long nr)
{
	czone_map_clear(CZONE_MAP_ZERO, pfn, nr);
}

/**
 * czone_section_alloc_maps - before the first page of a section can be had
 * @section: whose maps are kept from then on, whatever becomes of its struct pages
 * @zeroed: all of it reads as zero
 *
 * Return: 0 or -ENOMEM.
 */
int czone_section_alloc_maps(struct czone_section *section, bool zeroed)
{
	unsigned long *maps;

	if (section->maps)
		return 0;
	maps = bitmap_zalloc(CZONE_NR_MAPS * PAGES_PER_SECTION, GFP_KERNEL);
	if (!maps)
		return -ENOMEM;
	if (zeroed)
		bitmap_set(maps, CZONE_MAP_ZERO * PAGES_PER_SECTION, PAGES_PER_SECTION);
	/* Readers without a lock see what is in them, too. */
	smp_store_release(&section->maps, maps);
	return 0;
}

/* This host does not promise zeroes: clear pages as ever. */
void czone_forget_zeroes(void)
{
	struct czone_region *region;

	mutex_lock(&czone_lock);
	list_for_each_entry(region, &czone_regions, list)
		region->zeroed = false;
	czone_map_clear(CZONE_MAP_ZERO, 0, czone_nr_sections * PAGES_PER_SECTION);
	mutex_unlock(&czone_lock);
}

/*
 * A touch takes a whole page of the host, unless the host has memory behind
 * parts of it already: what is left of a larger page comes back in small ones.
 */
unsigned long czone_bitmap_touch(unsigned long *backed, unsigned long bit, unsigned long nr,
				 unsigned int host_order)
{
	unsigned long host_nr = 1UL << host_order;
	unsigned long host_bit = round_down(bit, host_nr);

	if (nr < host_nr && !czone_bitmap_weight(backed, host_bit, host_nr)) {
		bit = host_bit;
		nr = host_nr;
	}
	return czone_bitmap_set(backed, bit, nr);
}

/*
 * Pages of a section are handed out. *@changed gets how many more are backed
 * now; returns whether all of them are zero.
 */
bool czone_section_use(struct czone_section *section, unsigned long bit, unsigned long nr,
		       unsigned int host_order, unsigned long *changed)
{
	unsigned long *backed = czone_section_map(section, CZONE_MAP_BACKED);
	unsigned long *zero = czone_section_map(section, CZONE_MAP_ZERO);

	*changed = czone_bitmap_touch(backed, bit, nr, host_order);
	return czone_bitmap_clear(zero, bit, nr) == nr;
}

/*
 * Who asked for the pages may never touch them, now that they need not be
 * cleared: make true what the map says.
 */
void czone_touch_pages(struct page *page, unsigned long nr, unsigned int host_order, bool is_zero)
{
	unsigned long i, step = min(nr, 1UL << host_order);

	for (i = 0; is_zero && i < nr; i++)
		VM_WARN_ON_ONCE(memchr_inv(page_address(page + i), 0, PAGE_SIZE));
	for (i = 0; i < nr; i += step)
		WRITE_ONCE(*(unsigned long *)page_address(page + i), 0);
}

/*
 * Pages are handed out. Returns whether they must be cleared, which @init asks
 * for; not if all of them are zero.
 */
bool __czone_page_allocated(struct page *page, unsigned int order, bool init)
{
	unsigned long pfn = page_to_pfn(page), bit = pfn % PAGES_PER_SECTION, changed;
	struct czone_section *section = czone_pfn_section(pfn);
	unsigned int host_order = READ_ONCE(czone_backing_order);
	bool is_zero;

	/* The most frequent case, in a few instructions. */
	if (!order && test_bit(bit, czone_section_map(section, CZONE_MAP_BACKED)) &&
	    !test_bit(bit, czone_section_map(section, CZONE_MAP_ZERO)))
		return init;

	is_zero = czone_section_use(section, bit, 1UL << order, host_order, &changed);
	if (changed)
		atomic_long_add(changed, &zone_to_czone(page_zone(page))->nr_backed);
	if (!init || !is_zero)
		return init;
	czone_touch_pages(page, 1UL << order, host_order, true);
	return false;
}

/* Does this free block have a page that the host has memory behind? */
bool czone_any_backed(struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page), nr = 1UL << order;
	unsigned long bit = pfn % PAGES_PER_SECTION;
	const unsigned long *word, *end;

	word = czone_section_map(czone_pfn_section(pfn), CZONE_MAP_BACKED) + BIT_WORD(bit);
	if (nr < BITS_PER_LONG)
		return READ_ONCE(*word) & word_mask(bit % BITS_PER_LONG, nr);
	for (end = word + BIT_WORD(nr); word < end; word++)
		if (READ_ONCE(*word))
			return true;
	return false;
}

/*
 * Are there backed pages on the free lists? Unless there are fewer of them than
 * unbacked ones on per-cpu lists, which is not worth a search.
 */
bool czone_has_free_backed(struct zone *zone)
{
	struct czone *cz = zone_to_czone(zone);
	unsigned long out;

	lockdep_assert_held(&zone->lock);
	out = zone_managed_pages(zone) - zone_page_state(zone, NR_FREE_PAGES) - cz->nr_isolated;
	return atomic_long_read(&cz->nr_backed) > out;
}

/*
 * debugfs: czone/backed and czone/zero, a bit per page from address 0 to the end
 * of the last region; 0 where nothing is known. A test compares them with what the
 * host has.
 */
static ssize_t czone_map_read(struct file *file, char __user *to, size_t count, loff_t *ppos)
{
	enum czone_page_map which = (unsigned long)file->private_data;
	const size_t size = PAGES_PER_SECTION / BITS_PER_BYTE;
	unsigned long nr = div_u64(*ppos, size);
	size_t at = *ppos - (loff_t)nr * size;
	unsigned long *map;

	if (nr >= READ_ONCE(czone_nr_sections))
		return 0;
	count = min(count, size - at);
	map = czone_pfn_map(nr * PAGES_PER_SECTION, which);
	if (map ? copy_to_user(to, (char *)map + at, count) : clear_user(to, count))
		return -EFAULT;
	*ppos += count;
	return count;
}

static const struct file_operations czone_map_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = czone_map_read,
	.llseek = default_llseek,
};

static int __init czone_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("czone", NULL);

	debugfs_create_file("backed", 0400, dir, (void *)CZONE_MAP_BACKED, &czone_map_fops);
	debugfs_create_file("zero", 0400, dir, (void *)CZONE_MAP_ZERO, &czone_map_fops);
	return 0;
}
late_initcall(czone_debugfs_init);
