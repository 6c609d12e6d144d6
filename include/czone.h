/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file czone.h
 * @brief libczone: memory zones for the containers of a virtual machine.
 *
 * A zone is a contiguous part of a guest's memory that one container (one
 * cgroup) has for itself. It costs the host nothing until its pages are
 * touched, what is free in it can be taken back while the container lives, and
 * all of it comes back when the zone is destroyed.
 *
 * The same calls work from three places:
 *  - in the guest, on the kernel that runs there: czone_open(NULL, ...);
 *  - on the host, on a VM that this process starts: czone_vm_start(...);
 *  - anywhere, without a VM, to try them and to test what uses them:
 *    czone_open("test:///default", ...).
 *
 * Conventions
 *  - Calls return 0 (or a count) on success and a negative errno on failure.
 *    czone_error_detail() then has a sentence for people, per thread.
 *  - Outputs are named ret_... and are touched on success only, unless a call
 *    says otherwise.
 *  - Sizes and addresses are bytes. Times are milliseconds.
 *  - Option and statistics structs begin with their size, so that they can
 *    grow: set it with CZONE_INIT. Strings in options are copied. Of an option
 *    that is newer than the library only 0 will do (-E2BIG); a statistic that is
 *    newer than the library reads CZONE_UNKNOWN.
 *  - Every call may be made from any thread, also on the same object at once.
 *    The library never exits, never handles signals, and has no global state
 *    that a caller must prepare.
 *  - A call that waits for a guest returns -ETIMEDOUT when its limit passes. Each
 *    has an asynchronous form, whose name ends in _async.
 *
 * Errors that many calls share: -EINVAL a bad argument; -EPERM or -EACCES a
 * missing privilege; -ENOENT no such zone; -EOPNOTSUPP not possible on this
 * side or with this kernel; -ENOTCONN the guest's driver is not there; -ESHUTDOWN
 * the VM has gone; -ETIMEDOUT no answer in time; -EPROTO an answer that makes
 * no sense; -ENOMEM.
 */
#ifndef CZONE_H
#define CZONE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
template <typename options> static inline options czone_init()
{
	options zero = options();

	zero.struct_size = sizeof(zero);
	return zero;
}

extern "C" {
#endif

#define CZONE_VERSION_MAJOR 0
#define CZONE_VERSION_MINOR 1
#define CZONE_VERSION_PATCH 0

#if defined(__GNUC__) && !defined(SWIG)
#define CZONE_API __attribute__((visibility("default")))
#define CZONE_ENUM __attribute__((mode(SI)))	/* 32 bits, whatever the compiler's options */
#define CZONE_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CZONE_API
#define CZONE_ENUM
#define CZONE_PRINTF(f, a)
#endif

/** Zones are made and resized in steps of this many bytes. */
#define CZONE_BLOCK ((uint64_t)4 << 20)

/** A pool is made larger in steps of this many bytes. */
#define CZONE_POOL_STEP ((uint64_t)128 << 20)

/** Time limit of a call whose caller gives none (0). */
#define CZONE_TIMEOUT_DEFAULT_MS 30000

/** Start an option or statistics struct: struct czone_create_opts o = CZONE_INIT(o); */
#ifdef __cplusplus
#define CZONE_INIT(var) czone_init<decltype(var)>()
#else
#define CZONE_INIT(var) { .struct_size = sizeof(var) }
#endif

struct _virConnect;		/* libvirt's, for those who have it */
struct _virDomain;

/** A kernel that has zones: the one we run on, or that of a VM. Reference counted. */
typedef struct czone_vm czone_vm;

/** A handle on one zone. Reference counted; holds a reference on its VM. */
typedef struct czone czone;

/* ---------------------------------------------------------------- contexts */

/**
 * Open a kernel that has zones.
 *
 * @param uri     "guest:///" or NULL: the kernel we run on. Changing anything there
 *                needs CAP_SYS_ADMIN, and so does czone_ranges(), which tells
 *                physical addresses; the statistics do not.
 *                "test:///default": a new test VM of the caller's own, which is gone
 *                with its last reference; see czone_test_start().
 * @param ret_vm  the context; give it up with czone_vm_unref().
 * @return 0; -EOPNOTSUPP: this kernel has no zones; -EINVAL: unknown URI.
 */
CZONE_API int czone_open(const char *uri, czone_vm **ret_vm);

/** What lies behind the pool of a VM on the host. */
enum czone_pool_backing {
	CZONE_POOL_MEMFD = 0,	/**< anonymous shared memory, 4 KiB pages */
	CZONE_POOL_FILE = 1,	/**< an unlinked file in pool_dir, see there */
} CZONE_ENUM;

/** Whose libvirt event loop runs; see czone_vm_start(). */
enum czone_event_loop {
	CZONE_EVENT_LOOP_OWN = 0,	/**< the library registers libvirt's default one and runs it in a thread */
	CZONE_EVENT_LOOP_CALLER = 1,	/**< the caller registered one and runs it */
} CZONE_ENUM;

/** Hardware virtualisation or emulation. */
enum czone_kvm {
	CZONE_KVM_AUTO = 0,	/**< KVM where the CPU has vmx or svm, emulation (TCG) otherwise */
	CZONE_KVM_ON = 1,	/**< KVM or nothing */
	CZONE_KVM_OFF = 2,	/**< TCG */
} CZONE_ENUM;

/** Return once the VM runs, without waiting for its guest: czone_vm_wait() and its asynchronous form do that. */
#define CZONE_VM_NO_WAIT 1u

/** A VM to start. Zero means the default. */
struct czone_vm_opts {
	size_t struct_size;
	const char *uri;		/**< local libvirt URI whose QEMU runs as this user; NULL: qemu:///embed below state_dir */
	const char *state_dir;		/**< required: sockets, logs, embedded libvirt; made if absent, mode 0700; for one process */
	const char *name;		/**< domain name; NULL: "czone-PID-N" */
	const char *emulator;		/**< QEMU >= 11; NULL: $CZONE_QEMU, then qemu-system-x86_64 in PATH */
	const char *kernel;		/**< required: guest kernel image */
	const char *initrd;		/**< initial RAM disk, or NULL */
	const char *cmdline;		/**< appended to the kernel command line, or NULL */
	const char *const *disks;	/**< raw images, NULL-terminated, as /dev/vda ...; a leading "ro:" makes one read-only; or NULL */
	const char *channel;		/**< path of a unix socket to make for a virtio-serial port named "czone.exec", or NULL */
	uint64_t boot_bytes;		/**< memory outside the pool; 0: 256 MiB */
	uint64_t pool_bytes;		/**< memory for zones, sparse; 0: 4 GiB; a multiple of 128 MiB */
	enum czone_pool_backing pool_backing;
	const char *pool_dir;		/**< CZONE_POOL_FILE: a directory on tmpfs; mounted huge=always it gives 2 MiB host pages; or on a hugetlbfs of 2 MiB pages, of which there must be enough for the whole pool */
	uint32_t vcpus;			/**< 0: 1 */
	uint32_t timeout_ms;		/**< until the guest's driver answers; 0: 120000 */
	enum czone_kvm kvm;
	enum czone_event_loop event_loop;
	uint64_t flags;			/**< CZONE_VM_... */
	const char *domain_xml;		/**< a libvirt domain to start, as czone_domain_xml() makes it complete; NULL: one of the options above */
	struct _virConnect *connect;	/**< libvirt's virConnectPtr, in place of uri; the call takes a reference of its own; NULL: by uri */
	uint64_t pool_max_bytes;	/**< how large czone_pool_grow() may make the pool; 0: 256 GiB more than pool_bytes; costs nothing */
};

/**
 * Start a VM whose device this process serves, and wait until its driver is up.
 *
 * libvirt's embedded driver runs inside this process: there is no daemon. It has
 * one root for the life of the process, the state_dir of the first VM, so keep
 * that, and give it to one process at a time. A guest whose process was killed
 * runs on; it waits with what it wants from its device until another process
 * takes it over with czone_vm_attach().
 *
 * With CZONE_EVENT_LOOP_CALLER, this call, czone_vm_stop() and the last
 * czone_vm_unref() must not run in the thread that runs the loop, which they
 * wait for. A process that runs libvirt's default loop itself must say so.
 *
 * With domain_xml the VM is the caller's: name, emulator, kernel, initrd, cmdline,
 * disks, channel, boot_bytes, vcpus and kvm stand in it and must not be given as
 * well. What it lacks for zones is added as by czone_domain_xml(), unless it has a
 * czone device already; then the pool's options must be those that it was made
 * with. It is started as a transient domain. With connect the event loop is the
 * business of whoever made the connection, and event_loop means nothing.
 *
 * @param opts    see struct czone_vm_opts.
 * @param ret_vm  the context; czone_vm_stop() ends the VM, czone_vm_unref() gives
 *                up the handle (the last one stops the VM as well).
 * @return 0; -ENOEXEC: QEMU missing, too old or without the device;
 *         -EOPNOTSUPP: built without the host half;
 *         -ETIMEDOUT: the guest's driver did not come up; -EIO: libvirt failed;
 *         -EBUSY: another process uses state_dir; -ENAMETOOLONG: its path is too
 *         long for libvirt's sockets (40 characters always fit); of a domain_xml
 *         also what czone_domain_xml() returns.
 */
CZONE_API int czone_vm_start(const struct czone_vm_opts *opts, czone_vm **ret_vm);

/**
 * Make an ordinary libvirt domain one with a pool for zones and the device: its
 * memory shared, room for the pool in one NUMA cell, the pool, and the device,
 * whose socket is NAME.czone in state_dir. Nothing else is touched, and what is
 * there and cannot stay is refused, not changed.
 *
 * czone_vm_start() does this itself. To start such a domain by other means, serve
 * its socket first: see czone_serve_socket().
 *
 * @param xml        a domain of type kvm or qemu, x86_64, machine q35 or pc.
 * @param opts       state_dir, which must exist, and the options of the pool; the others are ignored.
 * @param ret_xml    the new domain; free() it.
 * @param ret_added  NULL, or what was added and why, a line for each; free() it.
 * @return 0; -EINVAL: no such domain, or it has no room for the pool; -EEXIST: it
 *         has a czone device; -EOPNOTSUPP: something in it rules the device out:
 *         an assigned device (VFIO), locked, private, hugetlb or encrypted memory,
 *         another machine, or a library without its host half.
 */
CZONE_API int czone_domain_xml(const char *xml, const struct czone_vm_opts *opts, char **ret_xml,
			       char **ret_added);

/** What a probe looks at. */
#define CZONE_PROBE_HOST 1u	/**< can this machine run such a VM? */
#define CZONE_PROBE_GUEST 2u	/**< has the kernel we run on all that zones need? */

/** How good a piece is. */
enum czone_probe_state {
	CZONE_PROBE_OK = 0,		/**< as it should be */
	CZONE_PROBE_WEAK = 1,		/**< works, but slower or with less than there could be */
	CZONE_PROBE_MISSING = 2,	/**< without it nothing works */
} CZONE_ENUM;

/** One finding. Strings are valid during the callback. */
struct czone_probe_item {
	size_t struct_size;		/**< set by the library */
	const char *name;		/**< a short word, the same in every version: "qemu", "cgroup2" ... */
	enum czone_probe_state state;
	const char *found;		/**< what there is, for people */
	const char *remedy;		/**< how to get what is missing; "" where nothing is */
};

/** Called for each finding, in the thread that called czone_probe(). */
typedef void czone_probe_fn(const struct czone_probe_item *item, void *userdata);

/**
 * Look at each thing that a VM with zones needs, and name what is missing and
 * how to get it, before anything is started. Changes nothing; starts QEMU twice
 * to ask for its version and its devices (10 s at most each).
 *
 * @param what  CZONE_PROBE_HOST, CZONE_PROBE_GUEST, or both.
 * @param opts  the VM that is meant (host only), or NULL for a plain one; no
 *              field is required here.
 * @param fn    called for each finding, in this thread, before the call returns.
 * @return how many pieces are missing; 0: go ahead. -EINVAL; -EOPNOTSUPP: the
 *         library was built without the host half.
 */
CZONE_API int czone_probe(uint32_t what, const struct czone_vm_opts *opts, czone_probe_fn *fn,
			  void *userdata);

/**
 * Go on with a VM that czone_vm_start() of another process began, after that
 * process died or let go of it with czone_vm_detach(). Its zones are as they
 * were: czone_list() and czone_lookup() find them. What was under way then may
 * or may not have happened; nothing that was returned is lost or returned twice.
 *
 * Needs what a debugger needs: the same user and /proc/sys/kernel/yama/ptrace_scope
 * at 0, or CAP_SYS_PTRACE.
 *
 * @param opts    name; state_dir as the VM was started with, or the uri or connect
 *                where it runs; timeout_ms (0: 30000) and event_loop; the others
 *                are ignored.
 * @param ret_vm  the context, as from czone_vm_start(): the last
 *                czone_vm_unref() stops the VM.
 * @return 0; -ENOENT: no such VM runs; -EBUSY: the process that serves it lives;
 *         -EPERM: it is not ours to take, and was not touched; -ETIMEDOUT: the
 *         guest does not answer: it runs on, and the call can be made again.
 */
CZONE_API int czone_vm_attach(const struct czone_vm_opts *opts, czone_vm **ret_vm);

/**
 * The same with the caller's own libvirt object. The domain stays the caller's: the
 * last czone_vm_unref() lets go of it and does not stop it, czone_vm_stop() does.
 *
 * @param domain  libvirt's virDomainPtr: running, with a czone device; the call takes a reference of its own.
 * @param opts    NULL, or timeout_ms; the others are ignored.
 * @return as czone_vm_attach(); -ENOENT also: it has no czone device.
 */
CZONE_API int czone_open_domain(struct _virDomain *domain, const struct czone_vm_opts *opts,
				czone_vm **ret_vm);

/** A device to serve without libvirt. */
struct czone_serve_opts {
	size_t struct_size;
	const char *path;	/**< required: the unix socket that the VMM will connect to; made here, mode 0600 */
	uint64_t pool_start;	/**< required: guest-physical address of the pool, a multiple of 128 MiB */
	uint64_t pool_bytes;	/**< required: its size, a multiple of 128 MiB */
	uint32_t backing_shift;	/**< log2 of the host page that a first touch takes; 0: 12 */
	uint32_t report_shift;	/**< log2 of the least that frees memory: 0: 12; 21 for hugetlbfs with pages of 2 MiB */
};

/**
 * Be the device of a VM that somebody else starts, with any VMM that has a
 * generic vhost-user device; docs/other-vmms.md says what the VMM must be told.
 * The device is there when this returns; czone_vm_wait() waits for the guest.
 *
 * The library does not know the VMM: czone_vm_stop() is -EOPNOTSUPP, and when the
 * context goes, or this process does, the VMM sees its device go, which QEMU
 * answers with an abort. So end the VM first.
 *
 * @return 0; -EADDRINUSE: somebody serves this socket; -EOPNOTSUPP: no host half.
 */
CZONE_API int czone_serve_socket(const struct czone_serve_opts *opts, czone_vm **ret_vm);

/**
 * Let go of a VM without stopping it, for another process to attach to. Calls on
 * it return -ESHUTDOWN from then on. Guest side, test VM: -EOPNOTSUPP.
 */
CZONE_API int czone_vm_detach(czone_vm *vm);

/** Stop the VM now (no guest shutdown). 0, also when it has gone already. Guest side: -EOPNOTSUPP. */
CZONE_API int czone_vm_stop(czone_vm *vm);

/** One more reference, to be given up like the first. @return vm. */
CZONE_API czone_vm *czone_vm_ref(czone_vm *vm);

/** Give up a reference; NULL is fine. @return NULL. */
CZONE_API czone_vm *czone_vm_unref(czone_vm *vm);

/**
 * Make the pool of a running VM larger, by memory of the same kind as it has
 * already. A VM has room for 15 such additions. What was added stays: it cannot
 * be taken away again, but without zones in it it costs the host nothing.
 *
 * @param bytes  a multiple of CZONE_POOL_STEP. 1/64 of it will hold its memory map.
 * @return 0; -ENOSPC: more than pool_max_bytes of the VM's options, or the 16th
 *         addition; -EBUSY: another call of this kind is under way; what the guest
 *         says that does not take it; -ETIMEDOUT: the guest may take it later. In
 *         the last two cases the VM keeps the memory, without use, and the next
 *         call for the same size offers it again. -EOPNOTSUPP: on the guest side.
 */
CZONE_API int czone_pool_grow(czone_vm *vm, uint64_t bytes, uint32_t timeout_ms);

/* ------------------------------------------------------------------- zones */

/** The zone falls back to the VM's own memory when it is full, instead of reclaim and OOM inside its cgroup. */
#define CZONE_CREATE_SPILL_ZONE 1u

/** A zone to make. Zero means the default. */
struct czone_create_opts {
	size_t struct_size;
	uint64_t size;		/**< required: rounded up to CZONE_BLOCK */
	const char *cgroup;	/**< attach this cgroup at once, or NULL */
	uint32_t flags;		/**< CZONE_CREATE_... */
	uint32_t timeout_ms;
	czone *file_zone;	/**< the zone for the cache of read-only file systems, or NULL: this one */
};

/**
 * Make a zone. The host pays nothing until its pages are touched.
 *
 * The page cache of a file lies in the zone of the cgroup that read it first. An
 * image that many containers read is kept once, and stays when one of them goes,
 * if their zones name the same file_zone: a zone with a cgroup of its own that
 * has no tasks, whose memory.max can limit it. Only files on file systems that
 * are mounted read-only are shared. When the file_zone has no room, has no
 * cgroup, or has been destroyed, their cache is private, as it is without one.
 *
 * @param ret_zone a handle; czone_unref() gives up the handle, czone_destroy() the zone.
 * @return 0; -ENOSPC: the pool has not enough free blocks; -EDQUOT: the quota of
 *         czone_set_quota() would be passed; -EINVAL: file_zone
 *         has a file_zone itself, or is of another VM; else what
 *         czone_attach_cgroup() returns, and there is no zone then.
 */
CZONE_API int czone_create(czone_vm *vm, const struct czone_create_opts *opts, czone **ret_zone);

/** Move what the cgroup has already into the zone. */
#define CZONE_ATTACH_WITH_PAGES 1u

/** What became of the pages that a cgroup had before, in bytes. */
struct czone_attach_report {
	size_t struct_size;
	uint64_t migrated;	/**< moved into the zone */
	uint64_t stuck_pinned;	/**< stays: pinned */
	uint64_t stuck_full;	/**< stays: the zone has no room for it */
	uint64_t stuck_other;	/**< stays: busy */
};

/**
 * Let the user memory of a cgroup's tasks, and of its descendants', come from
 * the zone from now on. Pages that they have already stay where they are, so
 * attach before the first task starts; or let them be moved, which takes time.
 * With them comes what tasks that were moved into the cgroup have for themselves
 * alone, which their new cgroup is charged for from then on.
 *
 * @param path  a cgroup v2 directory with the memory controller, as a path from
 *              the root of the cgroup hierarchy of the kernel that has the zone
 *              ("/pods/a"). No newline, no "..", at most 975 bytes.
 * @param flags CZONE_ATTACH_...; with CZONE_ATTACH_WITH_PAGES the zone may have
 *              this cgroup already, and takes in what lies elsewhere.
 * @param ret_report  NULL, or filled on success, on -ENOSPC and on -ETIMEDOUT.
 * @return 0; -ENOENT: no such cgroup or zone; -EBUSY: the zone has another
 *         cgroup; -EEXIST: the cgroup, or one above or below it, has a zone;
 *         -EOPNOTSUPP: that cgroup is without the memory controller; -ENOSPC:
 *         attached, but the zone is full and part of the pages stayed outside.
 *         After -ETIMEDOUT the cgroup may be attached.
 */
CZONE_API int czone_attach_cgroup(czone *zone, const char *path, uint32_t flags,
				  uint32_t timeout_ms, struct czone_attach_report *ret_report);

/** A command to start. Zero means the default. */
struct czone_spawn_opts {
	size_t struct_size;
	const char *const *argv;	/**< required: the command and its arguments, NULL-terminated; looked up in the caller's PATH without a / */
	const char *const *envp;	/**< environment, NULL-terminated, or NULL: the caller's */
	const char *directory;		/**< working directory, or NULL: the caller's */
	const char *cgroup;		/**< one below the zone's cgroup, as a path for czone_attach_cgroup(); NULL: the zone's itself */
	const int *fds;			/**< what become descriptors 0, 1, ... of the command, -1 being /dev/null; or NULL */
	uint32_t n_fds;			/**< how many, at most 64. Of 0 to 2 those not given are the caller's; no others are passed on */
	uint32_t timeout_ms;		/**< until the command runs */
};

/**
 * Start a command inside the cgroup of a zone: it is born there, so that its
 * first page comes from the zone already. The command is a child of the calling
 * process, which has to wait for it (by either output), and begins with no
 * signal blocked or ignored. Guest side only, as root or with write access to
 * the cgroup.procs of the cgroup.
 *
 * Like fork(), it takes the longer the more memory the calling process has.
 *
 * @param ret_pidfd  NULL, or a pidfd (close-on-exec) for the caller to close: it
 *                   polls readable when the command has ended; waitid(P_PIDFD, ...).
 * @param ret_pid    NULL, or the process id.
 * @return 0; -EOPNOTSUPP: not on the guest side; -ENOENT: no such zone, the zone
 *         has no cgroup, or there is no such command; -EINVAL: the cgroup is not
 *         below that of the zone; -EBUSY: the cgroup has controllers in its
 *         cgroup.subtree_control, so that it can have no tasks; -ETIMEDOUT; else
 *         what fork() and execve() say. Nothing runs then, and no child is left.
 */
CZONE_API int czone_spawn(czone *zone, const struct czone_spawn_opts *opts, int *ret_pidfd,
			  int64_t *ret_pid);

/**
 * Grow or shrink.
 * @param size  rounded up to CZONE_BLOCK, not 0.
 * @return 0; -ENOSPC: the pool is full; -EDQUOT: the quota of czone_set_quota()
 *         would be passed; -EBUSY: used pages could not be moved
 *         out of what was to go. The zone is as before then.
 *
 * On the guest side the kernel sets the limit, and timeout_ms means nothing;
 * the same holds for czone_create().
 */
CZONE_API int czone_resize(czone *zone, uint64_t size, uint32_t timeout_ms);

/** Drop clean file cache when the free pages do not suffice. */
#define CZONE_RECLAIM_WITH_CACHE 1u

/** How to reclaim. Zero means the default. */
struct czone_reclaim_opts {
	size_t struct_size;
	uint32_t flags;		/**< CZONE_RECLAIM_... */
	uint32_t timeout_ms;
};

/**
 * Give free pages that still use host memory back to the host. Tasks keep
 * running and keep what they use.
 *
 * @param bytes        at most about this much; UINT64_MAX: all there is.
 * @param opts         NULL: defaults.
 * @param ret_returned host memory that came back, measured on the host; also set on -ETIMEDOUT. May be NULL.
 * @return 0, also when there was less to return than asked for; -EBUSY: another
 *         operation on the zone is under way.
 */
CZONE_API int czone_reclaim(czone *zone, uint64_t bytes, const struct czone_reclaim_opts *opts,
			    uint64_t *ret_returned);

/** The same for every zone of a VM, and for the memory outside the pool. */
CZONE_API int czone_vm_reclaim(czone_vm *vm, uint64_t bytes, const struct czone_reclaim_opts *opts,
			       uint64_t *ret_returned);

/** How to come to a target. Zero means the default. */
struct czone_target_opts {
	size_t struct_size;
	uint32_t timeout_ms;
	uint32_t flags;		/**< CZONE_TARGET_... */
};

/** Take idle memory only, no file cache. */
#define CZONE_TARGET_KEEP_CACHE 1u

/**
 * Bring the host memory of a VM down to a target, as a balloon would: free
 * memory goes first, then clean file cache. Returns when the target is met, or
 * when nothing is left to take; nothing goes on after that. It is a goal and no limit:
 * what runs in the guest may use more again. czone_vm_stats() tells the target
 * and what is used.
 *
 * @param bytes       of host_pool and host_boot together; UINT64_MAX: none any more.
 * @param opts        NULL: defaults.
 * @param ret_actual  NULL, or the host memory of the VM at the end; also set on -EBUSY and -ETIMEDOUT.
 * @return 0; -EBUSY: what is left is in use, so the target is too low;
 *         -ETIMEDOUT: the guest did not answer, or not all in time; -EOPNOTSUPP:
 *         on the guest side, which does not know what the host spends.
 */
CZONE_API int czone_set_target(czone_vm *vm, uint64_t bytes, const struct czone_target_opts *opts,
			       uint64_t *ret_actual);

/** When a zone gives idle memory back by itself. */
struct czone_idle_opts {
	size_t struct_size;
	uint32_t delay_ms;	/**< memory that was free for so long goes, after twice that at the latest; 0: off; at most a day */
	uint32_t timeout_ms;
	uint64_t floor;		/**< bytes that may stay although they are free; 0 when it is off */
};

/**
 * Let a zone return idle memory without being asked, or not any more. It is off
 * in a new zone. Nothing is returned while the zone is short of memory: when it
 * is nearly full, has been full, or has just grown.
 *
 * @param opts  NULL: off.
 * @return 0; -EINVAL: the delay is too long, or there is a floor without one;
 *         -EBUSY: another operation on the zone is under way.
 */
CZONE_API int czone_set_idle_return(czone *zone, const struct czone_idle_opts *opts);

/** Also with live tasks in the cgroup: what they use is moved out of the zone. */
#define CZONE_DESTROY_WITH_TASKS 1u

/** What a destroy did, in bytes. */
struct czone_destroy_report {
	size_t struct_size;
	uint64_t returned;	/**< came back, measured on the host */
	uint64_t dropped;	/**< clean file cache that was dropped */
	uint64_t migrated;	/**< pages that somebody still uses, moved out of the zone */
	uint64_t stuck_pinned;	/**< could not go: pinned, or in use by the kernel */
	uint64_t stuck_poisoned; /**< could not go: bad memory */
	uint64_t stuck_other;	/**< could not go: busy until the limit passed */
};

/**
 * Take a zone down and give all of its memory back. The handle stays valid
 * until it is given up, but names no zone any more.
 *
 * @param ret_report  NULL, or filled on success, on -EBUSY and on -ETIMEDOUT.
 * @return 0; -EBUSY: live tasks in the cgroup, or pages are stuck (see the
 *         report): the zone exists, and the call can be made again.
 */
CZONE_API int czone_destroy(czone *zone, uint32_t flags, uint32_t timeout_ms,
			    struct czone_destroy_report *ret_report);

/* -------------------------------------------------------------- statistics */

#define CZONE_UNKNOWN UINT64_MAX	/**< this side cannot know */

/** Bytes. size = used + free_backed + free_unbacked. */
struct czone_zone_stats {
	size_t struct_size;
	uint32_t id;
	uint32_t flags;		/**< CZONE_CREATE_... */
	uint64_t size;
	uint64_t used;		/**< allocated pages, by the guest's count */
	uint64_t free_backed;	/**< free, but the host still has memory behind it: reclaimable */
	uint64_t free_unbacked;	/**< free, and the host has nothing behind it */
	uint64_t file;		/**< page cache in the zone, shmem included */
	uint64_t returned;	/**< given back so far, measured on the host */
	uint64_t spilled;	/**< allocated outside so far because the zone was full */
	uint64_t host_resident;	/**< allocated on the host behind the zone, by the host's own count; guest side: CZONE_UNKNOWN */
	uint64_t cgroup_id;	/**< inode of the attached cgroup, 0 without */
	uint64_t kernel;	/**< memory of the kernel for the cgroup (page tables, slab), outside the zone */
	uint64_t file_zone;	/**< id of the zone that it shares file cache in, 0 without */
	uint64_t idle_delay_ms;	/**< as czone_set_idle_return() was told, 0: off */
	uint64_t idle_floor;
};

/** How a zone stands now. @return 0; -ENOENT; what the waiting for a guest may bring. */
CZONE_API int czone_stats(czone *zone, struct czone_zone_stats *ret_stats);

/** Bytes. */
struct czone_vm_stats {
	size_t struct_size;
	uint64_t pool_size;	/**< memory for zones */
	uint64_t pool_used;	/**< thereof held by zones */
	uint64_t metadata;	/**< thereof in use for the pool's memory map */
	uint64_t boot_size;	/**< memory outside the pool, as the guest sees it */
	uint64_t boot_free;
	uint64_t zones;		/**< zones that exist */
	uint64_t returned;	/**< given back so far, measured on the host */
	uint64_t host_pool;	/**< allocated on the host behind the pool; guest side: CZONE_UNKNOWN, as are those below */
	uint64_t host_boot;	/**< allocated on the host behind the boot memory */
	uint64_t host_pss;	/**< proportional set size of the VM's process (guest memory included) */
	int64_t pid;		/**< the VM's process, 0 on the guest side */
	uint64_t target;	/**< of the last czone_set_target() through this handle; CZONE_UNKNOWN: none */
	uint64_t actual;	/**< host_pool and host_boot together: what the target is about */
	uint64_t stray;		/**< of the last czone_audit() through this handle: used, but no zone's; CZONE_UNKNOWN: none */
	uint64_t taken;		/**< what all of them have taken back */
	uint64_t boot_free_backed;	/**< of boot_free: the host has memory behind it; CZONE_UNKNOWN unless the guest's kernel has czone.boot_map, see docs/kernel.md */
};

/** How the VM stands now. @return 0; what the waiting for a guest may bring. */
CZONE_API int czone_vm_stats(czone_vm *vm, struct czone_vm_stats *ret_stats);

/** One contiguous range of a zone, in guest-physical addresses. */
struct czone_range {
	uint64_t start;
	uint64_t size;
};

/**
 * The ranges that a zone has.
 * @return how many there are (it may be more than max); at most max were copied.
 */
CZONE_API int czone_ranges(czone *zone, struct czone_range *ret_ranges, size_t max);

/**
 * The ids of all zones, ascending.
 * @return how many there are (it may be more than max); at most max were copied.
 */
CZONE_API int czone_list(czone_vm *vm, uint32_t *ret_ids, size_t max);

/** A handle on a zone that exists; czone_unref() it. @return 0 or -ENOENT. */
CZONE_API int czone_lookup(czone_vm *vm, uint32_t id, czone **ret_zone);

/** Never changes, and is not given to another zone while anything refers to this one. */
CZONE_API uint32_t czone_id(const czone *zone);
/** One more reference, to be given up like the first. @return zone. */
CZONE_API czone *czone_ref(czone *zone);

/** Give up the handle, not the zone; NULL is fine. @return NULL. */
CZONE_API czone *czone_unref(czone *zone);

/* ----------------------------------------------------------- quota and audit */

/** How much memory the zones of a VM may hold. Zero: no limit but the pool's size. */
struct czone_quota {
	size_t struct_size;
	uint64_t pool_bytes;	/**< all zones together */
	uint64_t zone_bytes;	/**< each zone */
};

/**
 * Set the limits of what zones may hold. czone_create() and czone_resize()
 * through this handle are refused beyond them (-EDQUOT). A zone that the guest
 * makes by itself beyond them is destroyed as soon as its kernel tells; what a
 * kernel does not tell is found by czone_audit(). Either is a
 * CZONE_EVENT_OVER_QUOTA. Zones that exist already stay.
 *
 * A guest can always touch all memory that it was given, so the hard limit of what
 * it costs the host is the size of its pool, which czone_pool_grow() can raise later.
 *
 * @param quota  NULL: none. It ends with the handle.
 * @return 0; -EINVAL; -EOPNOTSUPP: on the guest side.
 */
CZONE_API int czone_set_quota(czone_vm *vm, const struct czone_quota *quota);

/** Take back what was found, with the help of the guest: no zone can lose anything. */
#define CZONE_AUDIT_TAKE 1u

/**
 * Take back what was found even if the guest does not help. Only while nobody makes a
 * zone or a larger one, on either side: what it used at this moment would be lost.
 */
#define CZONE_AUDIT_FORCE 2u

/** How to audit. Zero means the default. */
struct czone_audit_opts {
	size_t struct_size;
	uint32_t flags;		/**< CZONE_AUDIT_... */
	uint32_t timeout_ms;
};

/** What an audit found, in bytes. */
struct czone_audit_report {
	size_t struct_size;
	uint64_t zones;		/**< how many zones there are */
	uint64_t held;		/**< what they hold, by the guest's word; it cannot be more than there is */
	uint64_t stray;		/**< host memory of the pool that no zone holds, at the end */
	uint64_t taken;		/**< of what was found came back */
	uint64_t over_quota;	/**< what zones hold beyond the quota: all together, or the sum of what each has too much */
};

/**
 * Compare what the host has behind the pool with the zones of the guest. Host
 * memory that no zone holds was touched although it was unplugged, or the
 * guest has told less than all: it is counted in the report and in czone_vm_stats(),
 * logged, and told as CZONE_EVENT_STRAY; what is beyond the quota as
 * CZONE_EVENT_OVER_QUOTA. The memory map of the pool (1/64 of it, in 4 MiB) belongs to the
 * guest's kernel and is not looked at; czone_vm_stats() has it in host_pool.
 *
 * Zones that come or go meanwhile do not count as stray. With CZONE_AUDIT_TAKE the
 * library makes a zone of all memory that is free, gives back what is behind it, and destroys
 * it again, if anything was found. That zone is in czone_list() meanwhile: leave it alone. Creating
 * zones fails with -ENOSPC until it is gone, and the guest's memory map of what was free
 * is in use for about a second.
 *
 * @param opts        NULL: only look.
 * @param ret_report  NULL, or filled on success and on -EBUSY.
 * @return 0; -EBUSY: stray memory is there after all (it is touched again, or the
 *         guest does not help), or another audit takes; -EOPNOTSUPP: on the guest side, or the pool
 *         is on hugetlb pages, which nobody can count in parts; -EPROTO: the guest names more memory than there is.
 */
CZONE_API int czone_audit(czone_vm *vm, const struct czone_audit_opts *opts,
			  struct czone_audit_report *ret_report);

/* ------------------------------------- descriptor, dispatch, events, async */

/**
 * A descriptor that polls readable (POLLIN, EPOLLIN) when czone_dispatch() has
 * something to do, for the caller's event loop. Do not read from it or close it;
 * it ends with the last reference on the VM.
 * @return the descriptor, always the same one; a negative errno where there is none to be had.
 */
CZONE_API int czone_fd(czone_vm *vm);

/**
 * Call back, in this thread, for each event and each operation that is done.
 * Callbacks run nowhere else, in the order in which things happened, and may make
 * any call; what happens during this call is left for the next one. Threads that
 * dispatch one VM at the same time share the work.
 * @param timeout_ms  how long to wait when there is nothing yet; 0: not at all.
 * @return how many callbacks ran; 0 also when the time was over.
 */
CZONE_API int czone_dispatch(czone_vm *vm, uint32_t timeout_ms);

/**
 * Let a thread of the library dispatch this VM from now on, or (0) not any more:
 * when that returns, no callback of the thread is running, unless this is one.
 */
CZONE_API int czone_dispatch_in_thread(czone_vm *vm, int on);

/** What has happened. */
enum czone_event_kind {
	CZONE_EVENT_ZONE_CREATED = 1,	/**< zone; bytes: its size */
	CZONE_EVENT_ZONE_DESTROYED = 2,	/**< zone; bytes: what came back, CZONE_UNKNOWN if the guest did it */
	CZONE_EVENT_ZONE_FULL = 3,	/**< zone: its tasks wanted more than it has; at most once a second for each */
	CZONE_EVENT_RECLAIMED = 4,	/**< zone, or 0 for the VM; bytes: what came back; error */
	CZONE_EVENT_TARGET_MET = 5,	/**< bytes: host memory of the VM */
	CZONE_EVENT_TARGET_MISSED = 6,	/**< bytes: host memory of the VM, CZONE_UNKNOWN where it cannot be counted; error: why */
	CZONE_EVENT_GUEST_READY = 7,	/**< the guest's driver is up and has its pool, for the first time or after a reboot */
	CZONE_EVENT_GUEST_LOST = 8,	/**< the guest's driver has gone: a reboot, or it was unloaded */
	CZONE_EVENT_VM_GONE = 9,	/**< the VM has ended */
	CZONE_EVENT_STRAY = 10,		/**< bytes: host memory of the pool that no zone holds, as an audit found it */
	CZONE_EVENT_OVER_QUOTA = 11,	/**< zone, or 0 for all; bytes: its size, or what all hold; error: -EDQUOT, or why it could not be destroyed */
} CZONE_ENUM;

/** Something that has happened; kind says what the other members mean. */
struct czone_event {
	size_t struct_size;
	enum czone_event_kind kind;
	uint32_t zone;		/**< id, or 0 */
	uint64_t bytes;
	int32_t error;		/**< 0 or a negative errno */
	uint64_t lost;		/**< so many before this one were dropped: more than 1024 waited for dispatch */
};

/** Of a later version, an event may be of a kind that does not stand here. Valid during the call. */
typedef void czone_event_fn(czone_vm *vm, const struct czone_event *event, void *userdata);

/**
 * Who is told, by czone_dispatch(), what happens to a VM and its zones: what is
 * done through this handle, and on the host also what the guest does by itself. On the
 * guest side it is only the former: what other processes do there, and that a
 * zone is full, is told to the host, not to each other.
 * @param fn  one for each VM, instead of the one before; NULL: nobody. What
 *            happened before is not told.
 */
CZONE_API int czone_set_event_fn(czone_vm *vm, czone_event_fn *fn, void *userdata);

/**
 * Wait until the guest's driver is up and has taken its pool.
 * @return 0, at once on the guest side and on a test VM; -ETIMEDOUT; -ESHUTDOWN;
 *         what the guest says about its pool.
 */
CZONE_API int czone_vm_wait(czone_vm *vm, uint32_t timeout_ms);

/** A call under way. */
typedef struct czone_op czone_op;

/**
 * It is over. Called once for each operation that was started, by czone_dispatch().
 * czone_error_detail() has the text of a failure.
 * @param result  what the call would have returned, or -ECANCELED.
 */
typedef void czone_done_fn(int result, void *userdata);

/**
 * Give an operation up. Its callback gets -ECANCELED, its outputs stay as they
 * are. The guest may have begun and may finish it; only a zone that was made in
 * vain is destroyed again.
 * @return 0; -EALREADY: it is over, and its callback has its result.
 */
CZONE_API int czone_op_cancel(czone_op *op);

/** Give up the handle, not the operation; NULL is fine. @return NULL. */
CZONE_API czone_op *czone_op_unref(czone_op *op);

/**
 * @name Asynchronous forms
 * The asynchronous form of every call that waits for a guest; for those that make
 * a context there is CZONE_VM_NO_WAIT. Each has the
 * arguments of the call that it is named after, then
 *  - done, userdata: whom to call, in czone_dispatch(); done may be NULL;
 *  - ret_op: NULL, or a handle to be given up with czone_op_unref().
 *
 * Outputs must stay where they are until the callback; they are filled right
 * before it, in czone_dispatch(), when the call would fill them. Options and
 * strings are copied. The call returns at once: 0, or a failure to start, and
 * then nothing is called back. A time limit counts from here. When the VM ends,
 * what is under way fails with -ESHUTDOWN.
 *
 * An operation takes a thread of the library while it is at work, at most 16 for
 * one VM; more wait for their turn. Those that are started one after the other
 * may end in any order. An operation refers to its VM until it has been told, and
 * for as long as its handle is held: with any left, the last czone_vm_unref()
 * does not stop the VM.
 * @{
 */
CZONE_API int czone_vm_wait_async(czone_vm *vm, uint32_t timeout_ms, czone_done_fn *done,
				  void *userdata, czone_op **ret_op);
CZONE_API int czone_create_async(czone_vm *vm, const struct czone_create_opts *opts,
				 czone **ret_zone, czone_done_fn *done, void *userdata,
				 czone_op **ret_op);
CZONE_API int czone_attach_cgroup_async(czone *zone, const char *path, uint32_t flags,
					uint32_t timeout_ms,
					struct czone_attach_report *ret_report,
					czone_done_fn *done, void *userdata,
					czone_op **ret_op);
CZONE_API int czone_resize_async(czone *zone, uint64_t size, uint32_t timeout_ms,
				 czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_pool_grow_async(czone_vm *vm, uint64_t bytes, uint32_t timeout_ms,
				    czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_reclaim_async(czone *zone, uint64_t bytes,
				  const struct czone_reclaim_opts *opts,
				  uint64_t *ret_returned, czone_done_fn *done, void *userdata,
				  czone_op **ret_op);
CZONE_API int czone_vm_reclaim_async(czone_vm *vm, uint64_t bytes,
				     const struct czone_reclaim_opts *opts,
				     uint64_t *ret_returned, czone_done_fn *done,
				     void *userdata, czone_op **ret_op);
CZONE_API int czone_set_target_async(czone_vm *vm, uint64_t bytes,
				     const struct czone_target_opts *opts,
				     uint64_t *ret_actual, czone_done_fn *done, void *userdata,
				     czone_op **ret_op);
CZONE_API int czone_audit_async(czone_vm *vm, const struct czone_audit_opts *opts,
				struct czone_audit_report *ret_report, czone_done_fn *done,
				void *userdata, czone_op **ret_op);
CZONE_API int czone_set_idle_return_async(czone *zone, const struct czone_idle_opts *opts,
					  czone_done_fn *done, void *userdata,
					  czone_op **ret_op);
CZONE_API int czone_destroy_async(czone *zone, uint32_t flags, uint32_t timeout_ms,
				  struct czone_destroy_report *ret_report, czone_done_fn *done,
				  void *userdata, czone_op **ret_op);
CZONE_API int czone_stats_async(czone *zone, struct czone_zone_stats *ret_stats,
				czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_vm_stats_async(czone_vm *vm, struct czone_vm_stats *ret_stats,
				   czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_ranges_async(czone *zone, struct czone_range *ret_ranges, size_t max,
				 czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_list_async(czone_vm *vm, uint32_t *ret_ids, size_t max,
			       czone_done_fn *done, void *userdata, czone_op **ret_op);
CZONE_API int czone_lookup_async(czone_vm *vm, uint32_t id, czone **ret_zone,
				 czone_done_fn *done, void *userdata, czone_op **ret_op);
/** @} */

/* ---------------------------------------------------------------- test VMs */

/**
 * Something that runs in a cgroup of a test VM, as a container would.
 *
 * A test VM is a data structure in this process, for unit tests of what uses this
 * library. It has a pool of 4 GiB, which can grow to 64 GiB, and 256 MiB of memory
 * outside, in an anonymous file whose pages are allocated, counted and freed for real: host figures come
 * from the kernel we run on. Zones keep the rules of czone.h, and fail as they
 * say. What it is not: there is no other kernel and no isolation, a cgroup is a
 * label that needs no making, placement is by the tasks below alone and not for
 * the process that runs the test, nothing is pinned or poisoned, calls take no
 * time and heed no limit. It tells nothing about speed.
 *
 * The calls that begin with czone_test_ are -EOPNOTSUPP on any other VM.
 */
typedef struct czone_test_task czone_test_task;

/**
 * Start a task. It uses no memory yet.
 * @param cgroup   its path, as for czone_attach_cgroup(); any will do. Pages come
 *                 from the zone that it has at the time, or one above it, or else
 *                 from the memory outside the pool.
 * @param ret_task to be ended with czone_test_exit().
 */
CZONE_API int czone_test_start(czone_vm *vm, const char *cgroup, czone_test_task **ret_task);

/**
 * Write to a task's address space, which has 16 GiB and no memory until it is written to.
 * @param value  what each byte becomes
 * @return 0; -ENOMEM, and nothing has changed: the zone is full, with its file
 *         cache gone. In a guest a task of the cgroup would be killed for that.
 */
CZONE_API int czone_test_fill(czone_test_task *task, uint64_t offset, uint64_t bytes, uint8_t value);

/** Read from it. What was never written, or was given up, reads as zeroes. */
CZONE_API int czone_test_read(czone_test_task *task, uint64_t offset, void *ret_data, size_t bytes);

/** Give up the whole 4 KiB pages of a range, like MADV_DONTNEED: free, and backed until reclaimed. */
CZONE_API int czone_test_discard(czone_test_task *task, uint64_t offset, uint64_t bytes);

/** Read so much of a file: clean cache that stays when the task ends; as much of it as there is room for. */
CZONE_API int czone_test_cache(czone_test_task *task, uint64_t bytes);

/** The task ends and its pages are free; NULL is fine. Its last use. @return NULL. */
CZONE_API czone_test_task *czone_test_exit(czone_test_task *task);

/**
 * Make a call fail once, as if it had never reached the guest.
 * @param call   "create", "attach", "resize", "reclaim", "destroy", "stats" (also of the
 *               VM, and czone_lookup()), "ranges", "list" or "grow"; NULL: the next of them
 * @param error  a negative errno; -ETIMEDOUT comes at once; 0: none fails after all
 */
CZONE_API int czone_test_fail(czone_vm *vm, const char *call, int error);

/* ------------------------------------------------------------ errors, logs */

/** A short text for a negative errno; never NULL, never freed. */
CZONE_API const char *czone_strerror(int error);

/** What the last failed call in this thread says for people; "" if nothing failed. Valid until the next call. */
CZONE_API const char *czone_error_detail(void);

/** How much a message matters. */
enum czone_log_level {
	CZONE_LOG_ERROR = 0,	/**< something failed that no call can return */
	CZONE_LOG_WARNING = 1,	/**< works, but not as it should */
	CZONE_LOG_INFO = 2,	/**< what happens */
	CZONE_LOG_DEBUG = 3,	/**< each step */
} CZONE_ENUM;

/** Called for each message, in any thread; the message is valid during the call. See czone_set_log(). */
typedef void czone_log_fn(enum czone_log_level level, const char *message, void *userdata);

/**
 * Where messages go; NULL: nowhere. Default: errors and warnings to stderr, more
 * with CZONE_LOG=info|debug in the environment. fn gets every level, from any
 * thread, and must not call czone_set_log(); it is out of use when the call that
 * replaces it returns.
 */
CZONE_API void czone_set_log(czone_log_fn *fn, void *userdata);

/** "0.1.0" */
CZONE_API const char *czone_version(void);

#ifdef __cplusplus
}
#endif

#endif /* CZONE_H */
