/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * czone: what the rest of the kernel's headers need to know.
 *
 * Everything here is behind czone_key, which is off until the first region of
 * zone memory appears: a kernel without one executes a no-op per test.
 */
#ifndef _LINUX_CZONE_HOOKS_H
#define _LINUX_CZONE_HOOKS_H

#include <linux/types.h>

struct mem_cgroup;
struct mm_struct;
struct zone;

#ifdef CONFIG_CZONE

#include <linux/jump_label.h>

DECLARE_STATIC_KEY_FALSE(czone_key);

/*
 * One pointer per MAX_PAGE_ORDER block, from czone_base_pfn (which is 0) on. An
 * entry only ever changes from one valid zone to another: without zone->lock a
 * reader may get the zone that a page had a moment ago, never NULL.
 */
extern struct zone **czone_map;
extern unsigned long czone_base_pfn;

static inline bool czone_active(void)
{
	return static_branch_unlikely(&czone_key);
}

/* Called by memory cgroups, when they appear and when they go. */
void czone_memcg_online(struct mem_cgroup *memcg);
void czone_memcg_offline(struct mem_cgroup *memcg);

/*
 * Memory for @mm is about to be allocated by whoever: make it come from the
 * zone of the cgroup that will be charged. Returns what czone_leave_mm() wants.
 */
struct mem_cgroup *__czone_enter_mm(struct mm_struct *mm);
void __czone_leave_mm(struct mem_cgroup *entered);

static inline struct mem_cgroup *czone_enter_mm(struct mm_struct *mm)
{
	return czone_active() ? __czone_enter_mm(mm) : NULL;
}

static inline void czone_leave_mm(struct mem_cgroup *entered)
{
	if (entered)
		__czone_leave_mm(entered);
}

#else /* CONFIG_CZONE */

static inline bool czone_active(void)
{
	return false;
}

static inline void czone_memcg_online(struct mem_cgroup *memcg)
{
}

static inline void czone_memcg_offline(struct mem_cgroup *memcg)
{
}

static inline struct mem_cgroup *czone_enter_mm(struct mm_struct *mm)
{
	return NULL;
}

static inline void czone_leave_mm(struct mem_cgroup *entered)
{
}

#endif /* CONFIG_CZONE */

#endif /* _LINUX_CZONE_HOOKS_H */
