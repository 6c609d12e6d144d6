// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone: which pages of the boot memory the host has memory behind, by option
 * (czone.boot_map=SHIFT). The same two bits per page as in regions.
 *
 * Nobody tells a kernel what the host has behind the memory that it boots in.
 * So all of it counts as backed until it has been with the host for the first
 * time; from then on the map is exact. Nor does anybody tell how large the
 * host's pages are there, for what the transport says is about regions: who
 * starts the VM knows, and says it in the option.
 */
#include <linux/bitmap.h>
#include <linux/init.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "internal.h"
#include "czone_internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "czone."

static unsigned int boot_map __read_mostly;
module_param(boot_map, uint, 0444);
MODULE_PARM_DESC(boot_map, "Know which pages of the boot memory the host has memory behind, in its pages of 2^boot_map bytes (0: off)");

DEFINE_STATIC_KEY_FALSE(czone_boot_key);

static unsigned int czone_boot_order __read_mostly;	/* of the host's pages */
static atomic_long_t czone_boot_unbacked;		/* pages */

/* Of @nr free pages, those that the host has memory behind. */
unsigned long czone_boot_backed(unsigned long nr)
{
	return nr - min_t(unsigned long, nr, atomic_long_read(&czone_boot_unbacked));
}

/* Is this free block worth a report? Of memory that came later nothing is known. */
bool czone_boot_wanted(struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);

	if (!czone_boot_mapped() || !czone_find_section(pfn))
		return !PageReported(page);
	return czone_range_backed(pfn, 1UL << order);
}

/* The host has answered, before these pages are free again. */
void czone_boot_answered(unsigned long pfn, unsigned long nr, int status)
{
	if (!czone_boot_mapped())
		return;
	if (status)
		czone_pages_not_taken(pfn, nr);
	else
		atomic_long_add(czone_pages_taken(pfn, nr), &czone_boot_unbacked);
}

/**
 * czone_boot_use - pages of the boot memory are handed out
 * @section: of the pages
 * @bit: the first one
 * @nr: how many
 * @host_order: of the host's pages
 * @init: they must be zero
 * @changed: gets how many more are backed now
 *
 * Return: whether they must be cleared for that.
 */
bool czone_boot_use(struct czone_section *section, unsigned long bit, unsigned long nr,
		    unsigned int host_order, bool init, unsigned long *changed)
{
	*changed = 0;
	/* The most frequent case, in a few instructions. */
	if (nr == 1 && test_bit(bit, czone_section_map(section, CZONE_MAP_BACKED)) &&
	    !test_bit(bit, czone_section_map(section, CZONE_MAP_ZERO)))
		return init;
	return !czone_section_use(section, bit, nr, host_order, changed) && init;
}

/*
 * The same for the page allocator. Kernel memory may never be touched by its
 * owner: make true what the map says, or it is not reported when it is free.
 */
bool __czone_boot_allocated(struct page *page, unsigned int order, bool init)
{
	unsigned long pfn = page_to_pfn(page), changed;
	struct czone_section *section = czone_find_section(pfn);
	bool clear;

	if (!section)
		return init;
	clear = czone_boot_use(section, pfn % PAGES_PER_SECTION, 1UL << order, czone_boot_order,
			       init, &changed);
	if (!changed)
		return clear;
	atomic_long_sub(changed, &czone_boot_unbacked);
	if (!clear)
		czone_touch_pages(page, 1UL << order, czone_boot_order, init);
	return clear;
}

/* Memory that goes offline may come again as other memory: nothing is known of it. */
static int czone_boot_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct memory_notify *arg = data;
	unsigned long pfn = arg->start_pfn, end = pfn + arg->nr_pages;

	for (; action == MEM_OFFLINE && pfn < end; pfn += pageblock_nr_pages) {
		struct czone_section *section = czone_find_section(pfn);

		if (!section || section->region)
			continue;
		czone_pages_not_taken(pfn, pageblock_nr_pages);
		atomic_long_sub(czone_set_backed(pfn, pageblock_nr_pages), &czone_boot_unbacked);
	}
	return NOTIFY_OK;
}

static int __init czone_boot_init(void)
{
	int ret;

	if (!boot_map)
		return 0;
	if (boot_map < PAGE_SHIFT || boot_map > CZONE_BLOCK_SHIFT) {
		pr_err("czone: boot_map=%u: host pages have between 2^%u and 2^%u bytes\n",
		       boot_map, PAGE_SHIFT, CZONE_BLOCK_SHIFT);
		return -EINVAL;
	}
	ret = czone_add_boot_sections();
	if (ret) {
		pr_err("czone: no memory for the map of the boot memory\n");
		return ret;
	}
	czone_boot_order = boot_map - PAGE_SHIFT;
	hotplug_memory_notifier(czone_boot_notify, DEFAULT_CALLBACK_PRI);
	static_branch_enable(&czone_boot_key);
	return 0;
}

/* Before there is anybody who could give memory to the host. */
core_initcall(czone_boot_init);
