// SPDX-License-Identifier: LGPL-2.1-or-later
/* Starting and stopping a VM through libvirt. */
#include "domain_edit.h"
#include "domain_xml.h"
#include "event_loop.h"
#include "host.h"
#include "machine.h"
#include "monitor.h"
#include "qemu.h"
#include "../driver.h"
#include "../thread.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MONITOR_TIMEOUT_MS 30000
#define DESCRIPTORS_FOR_START 64	/* most of them for a moment */

struct host_domain {
	pthread_mutex_t lock;
	pthread_mutex_t growing;	/* one at a time; before lock */
	virConnectPtr connection;
	virDomainPtr domain;	/* NULL once it is stopped */
	bool own_loop;
	bool keep;		/* the caller's: not to be stopped when nobody uses it here any more */
	char *console;		/* the guest's serial console, a file */
	char *socket;
};

static int libvirt_fail(int error, const char *what)
{
	virErrorPtr e = virGetLastError();
	const char *message = e && e->message ? e->message : "no reason given";

	if (strstr(message, "not a valid device model name"))
		return czone_fail(-ENOEXEC, "%s: this QEMU is without vhost-user-test-device-pci, which came with QEMU 11: %s",
				  what, message);
	if (strstr(message, "Failed to parse user"))
		return czone_fail(error, "%s: libvirt wants a user that does not exist, though it will not use it; make it with 'adduser --system --group --no-create-home libvirt-qemu': %s",
				  what, message);
	if (strstr(message, "Failed to acquire pid file"))
		return czone_fail(-EBUSY, "%s: another process uses this state_dir: %s", what, message);
	return czone_fail(error, "%s: libvirt says: %s", what, message);
}

static char *format(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return s;
}

static int make_dir(const char *path)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return czone_fail(-errno, "directory %s cannot be made: %s", path, strerror(errno));
	return 0;
}

/*
 * The embedded driver reads its settings below its root: no helper processes,
 * no other user, no cgroups or namespaces, all of which need a daemon or root.
 */
static int write_settings(const char *root)
{
	char *etc = format("%s/etc", root), *path = format("%s/etc/qemu.conf", root);
	int error = -ENOMEM;
	FILE *f;

	if (!etc || !path)
		goto out;
	error = make_dir(root);
	if (!error)
		error = make_dir(etc);
	if (error)
		goto out;
	f = fopen(path, "we");
	if (!f) {
		error = czone_fail(-errno, "%s cannot be written: %s", path, strerror(errno));
		goto out;
	}
	fprintf(f, "stdio_handler = \"file\"\nsecurity_driver = \"none\"\nnamespaces = []\n"
		"cgroup_controllers = []\nremember_owner = 0\ndynamic_ownership = 0\n"
		"user = \"+%u\"\ngroup = \"+%u\"\n", geteuid(), getegid());
	if (fclose(f))
		error = czone_fail(-EIO, "%s cannot be written", path);
out:
	free(etc);
	free(path);
	return error;
}

/* For a URI's query: what is not plain is percent-encoded. */
static char *encoded(const char *text)
{
	char *result = malloc(3 * strlen(text) + 1), *p = result;

	for (; p && *text; text++) {
		unsigned char c = *text;

		if (isalnum(c) || strchr("/-._~", c))
			*p++ = c;
		else
			p += sprintf(p, "%%%02X", c);
	}
	if (p)
		*p = 0;
	return result;
}

/*
 * libvirt makes QEMU's monitor a socket below its root, in a directory with the
 * domain's number and the first 20 characters of its name.
 */
static int check_monitor_path(const char *root, const char *name)
{
	struct sockaddr_un address;
	char *path = format("%s/lib/qemu/domain-99999-%.20s/monitor.sock", root, name);
	size_t length = path ? strlen(path) : 0;

	free(path);
	if (!path)
		return -ENOMEM;
	if (length >= sizeof(address.sun_path))
		return czone_fail(-ENAMETOOLONG,
				  "state_dir is too long by %zu characters: libvirt's socket %s/lib/qemu/domain-.../monitor.sock may have %zu",
				  length - sizeof(address.sun_path) + 1, root, sizeof(address.sun_path) - 1);
	return 0;
}

/*
 * A process can have one embedded driver, and libvirt never lets go of its root:
 * the first VM's, for the life of the process. All VMs that name no URI share it.
 */
static int connect_embedded(const char *state_dir, const char *name, virConnectPtr *ret)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static virConnectPtr embedded;
	static char *root;
	char *escaped = NULL, *uri = NULL;
	int error = 0;

	pthread_mutex_lock(&lock);
	if (!embedded) {
		free(root);
		root = format("%s/libvirt", state_dir);
		escaped = root ? encoded(root) : NULL;
		uri = format("qemu:///embed?root=%s", escaped ? escaped : "");
		if (!escaped || !uri)
			error = -ENOMEM;
	}
	if (!error)
		error = check_monitor_path(root, name);
	if (!error && !embedded) {
		error = write_settings(root);
		if (!error) {
			embedded = virConnectOpen(uri);
			if (!embedded)
				error = libvirt_fail(-EIO, uri);
		}
	}
	if (!error) {
		virConnectRef(embedded);
		*ret = embedded;
	}
	pthread_mutex_unlock(&lock);
	free(escaped);
	free(uri);
	return error;
}

/* The console's last lines, for an error text: what a guest that did not come up said. */
static void console_tail(const char *path, char *buffer, size_t size)
{
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		off_t end = lseek(fd, 0, SEEK_END), from = end > (off_t)size - 1 ? end - (off_t)size + 1 : 0;

		n = pread(fd, buffer, size - 1, from);
		close(fd);
	}
	buffer[n > 0 ? n : 0] = 0;
}

static int check(const struct czone_vm_opts *o)
{
	struct sockaddr_un address;

	if (o->domain_xml)
		return 0;
	if (access(o->kernel, R_OK))
		return czone_fail(-errno, "kernel %s: %s", o->kernel, strerror(errno));
	if (o->initrd && access(o->initrd, R_OK))
		return czone_fail(-errno, "initrd %s: %s", o->initrd, strerror(errno));
	for (int i = 0; o->disks && o->disks[i]; i++) {
		const char *path = o->disks[i] + (strncmp(o->disks[i], "ro:", 3) ? 0 : 3);

		if (i == 26)
			return czone_fail(-EINVAL, "more than 26 disks");
		if (access(path, R_OK))
			return czone_fail(-errno, "disk %s: %s", path, strerror(errno));
	}
	if (o->channel && strlen(o->channel) >= sizeof(address.sun_path))
		return czone_fail(-ENAMETOOLONG, "channel %s is longer than a socket's path may be", o->channel);
	return 0;
}

static void domain_free(struct host_domain *d)
{
	if (d->domain)
		virDomainFree(d->domain);
	if (d->connection)
		virConnectClose(d->connection);
	if (d->own_loop)
		event_loop_put();
	pthread_mutex_destroy(&d->growing);
	pthread_mutex_destroy(&d->lock);
	free(d->console);
	free(d->socket);
	free(d);
}

int host_vm_stop(struct host_vm *host)
{
	struct host_domain *d = host->domain;
	int error = 0;

	if (!d)
		return czone_fail(-EOPNOTSUPP, "whoever started this VM must stop it");
	pthread_mutex_lock(&d->lock);
	if (d->domain) {
		if (virDomainDestroy(d->domain) < 0 && virDomainIsActive(d->domain) == 1)
			error = libvirt_fail(-EIO, "stopping the VM");
		if (!error) {
			virDomainFree(d->domain);
			d->domain = NULL;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return error;
}

int host_vm_detach(struct host_vm *host)
{
	struct host_domain *d = host->domain;

	if (!d)
		return czone_fail(-EOPNOTSUPP, "the VMM of this VM would notice that its device goes");
	/* the VM holds our end of the socket: it sees nothing of this */
	device_shut(host->device);
	pthread_mutex_lock(&d->lock);
	if (d->domain)
		virDomainFree(d->domain);
	d->domain = NULL;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* A reference on the domain, or NULL when it is stopped or let go. */
static virDomainPtr domain_get(struct host_domain *d)
{
	virDomainPtr domain;

	pthread_mutex_lock(&d->lock);
	domain = d->domain;
	if (domain)
		virDomainRef(domain);
	pthread_mutex_unlock(&d->lock);
	return domain;
}

int host_vm_grow(struct host_vm *host, uint64_t bytes, uint32_t timeout_ms)
{
	uint64_t deadline = now_ms() + timeout_ms, now, start = 0;
	struct timespec until = at_ms(deadline);
	struct host_domain *d = host->domain;
	virDomainPtr domain;
	int error;

	if (!d)
		return czone_fail(-EOPNOTSUPP, "whoever runs the VM must add memory to it");
	if (pthread_mutex_clocklock(&d->growing, CLOCK_MONOTONIC, &until))
		return czone_fail(-EBUSY, "another call makes the pool larger");
	domain = domain_get(d);
	if (!domain) {
		error = czone_fail(-ESHUTDOWN, "the VM has gone");
	} else {
		error = qemu_add_pool(domain, host->device, bytes, timeout_ms, &start);
		virDomainFree(domain);
	}
	/* the size of the host's pages is told to a guest once, and is that of the first pool */
	if (!error)
		error = device_add_pool(host->device, start, bytes, 12);
	now = now_ms();
	if (!error)
		error = device_wait_pool(host->device, start, now < deadline ? deadline - now : 1);
	pthread_mutex_unlock(&d->growing);
	return error;
}

void host_vm_close(struct host_vm *host)
{
	if (!host)
		return;
	/* First the VM, then the device: QEMU aborts when its backend goes away. */
	if (host->domain && !host->domain->keep && host_vm_stop(host))
		czone_log(CZONE_LOG_ERROR, "%s", czone_error_detail());
	device_close(host->device);
	if (host->domain)
		domain_free(host->domain);
	free(host);
}

/*
 * QEMU aborts when its back-end's connection ends. So it gets our end, too, and
 * never sees it close; and what another process needs to go on for us.
 */
static int hand_over(struct host_vm *host)
{
	int fds[2], error = device_hand_over(host->device, fds);

	if (error)
		return error;
	error = qemu_give_fd(host->domain->domain, "czone-socket", fds[0], MONITOR_TIMEOUT_MS);
	if (!error)
		error = qemu_give_fd(host->domain->domain, "czone-state", fds[1], MONITOR_TIMEOUT_MS);
	close(fds[0]);
	close(fds[1]);
	return error;
}

static void news(void *userdata, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		 int error)
{
	czone_event(userdata, kind, zone, bytes, error);
}

static int connect_to(struct host_domain *d, const struct czone_vm_opts *o, const char *name)
{
	int error;

	if (o->connect) {
		if (virConnectRef(o->connect) < 0)
			return libvirt_fail(-EIO, "the connection");
		d->connection = o->connect;
		return 0;
	}
	if (o->event_loop == CZONE_EVENT_LOOP_OWN) {
		error = event_loop_get();
		if (error)
			return error;
		d->own_loop = true;
	}
	if (!o->uri)
		return connect_embedded(o->state_dir, name, &d->connection);
	d->connection = virConnectOpen(o->uri);
	return d->connection ? 0 : libvirt_fail(-EIO, o->uri);
}

/* Serve the device of a domain that runs already; the reference on it is given up. */
static int adopt(struct host_vm *host, virDomainPtr domain, uint32_t timeout_ms, uint64_t flags)
{
	char *xml = virDomainGetXMLDesc(domain, 0);
	int error;

	error = xml ? domain_device_socket(xml, &host->domain->socket)
		    : libvirt_fail(-EIO, "the domain's XML");
	free(xml);
	if (!error)
		error = device_adopt(host->domain->socket, &host->device);
	if (!error)
		device_set_news(host->device, news, host->vm);
	if (!error && !(flags & CZONE_VM_NO_WAIT))
		error = device_wait_ready(host->device, timeout_ms);
	if (error)
		virDomainFree(domain);
	else
		host->domain->domain = domain;
	return error;
}

static int attach(struct host_vm *host, const struct czone_vm_opts *o)
{
	struct host_domain *d = host->domain;
	int error = connect_to(d, o, o->name);
	virDomainPtr domain;

	if (error)
		return error;
	domain = virDomainLookupByName(d->connection, o->name);
	if (!domain || virDomainIsActive(domain) != 1) {
		if (domain)
			virDomainFree(domain);
		return czone_fail(-ENOENT, "no VM %s runs %s %s", o->name,
				  o->state_dir ? "below" : "at",
				  o->state_dir ? o->state_dir : o->uri ? o->uri : "this connection");
	}
	return adopt(host, domain, o->timeout_ms, o->flags);
}

/*
 * GLib, below libvirt, ends the process when it cannot make a pipe. So find out
 * before whether there is room for what a start opens at most.
 */
static int check_descriptors(void)
{
	int fd[DESCRIPTORS_FOR_START], n = 0, error = 0;

	while (n < DESCRIPTORS_FOR_START) {
		fd[n] = n ? fcntl(fd[0], F_DUPFD_CLOEXEC, 0) : open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fd[n] < 0) {
			error = -errno;
			break;
		}
		n++;
	}
	for (int i = 0; i < n; i++)
		close(fd[i]);
	return error ? czone_fail(error, "starting a VM takes up to %d file descriptors, and there is room for %d: %s (see ulimit -n)",
				  DESCRIPTORS_FOR_START, n, strerror(-error)) : 0;
}

/* The domain to start: a small one by the options, or the caller's. */
static int make_domain(struct host_domain *d, const struct czone_vm_opts *o, char **ret_xml)
{
	bool kvm = o->kvm == CZONE_KVM_ON || (o->kvm == CZONE_KVM_AUTO && machine_has_kvm());
	char *plain = NULL, *added = NULL;
	int error;

	if (!o->domain_xml) {
		plain = domain_xml(o, d->console, kvm);
		if (!plain)
			return -ENOMEM;
	}
	error = domain_add_zones(plain ? plain : o->domain_xml, o, d->socket, ret_xml, &added, NULL);
	if (!error && o->domain_xml)
		czone_log(CZONE_LOG_INFO, "added to the domain: %s", added);
	if (error == -EEXIST) {
		free(d->socket);
		d->socket = NULL;
		error = domain_device_socket(o->domain_xml, &d->socket);
		*ret_xml = error ? NULL : strdup(o->domain_xml);
		if (!error && !*ret_xml)
			error = -ENOMEM;
	}
	free(added);
	free(plain);
	return error;
}

static int start_domain(struct host_vm *host, const struct czone_vm_opts *o, const char *xml)
{
	uint64_t pool_start = 0, pool_size = 0;
	struct host_domain *d = host->domain;
	unsigned int shift, report_shift;
	int error = machine_pool_shifts(o, &shift, &report_shift);

	if (!error)
		error = device_open(d->socket, &host->device);
	if (error)
		return error;
	device_set_news(host->device, news, host->vm);
	czone_log(CZONE_LOG_DEBUG, "domain: %s", xml);
	d->domain = virDomainCreateXML(d->connection, xml, VIR_DOMAIN_START_PAUSED);
	if (!d->domain)
		return libvirt_fail(-EIO, "starting the VM");
	error = hand_over(host);
	if (!error)
		error = qemu_first_pool(d->domain, MONITOR_TIMEOUT_MS, &pool_start, &pool_size);
	if (!error)
		error = device_set_report_shift(host->device, report_shift);
	if (!error)
		error = device_add_pool(host->device, pool_start, pool_size, shift);
	if (!error && virDomainResume(d->domain) < 0)
		error = libvirt_fail(-EIO, "letting the VM run");
	return error;
}

static int start(struct host_vm *host, const struct czone_vm_opts *o, const char *name)
{
	struct host_domain *d = host->domain;
	char *xml = NULL, tail[600];
	int error;

	d->console = format("%s/%s.console", o->state_dir, name);
	d->socket = format("%s/%s.czone", o->state_dir, name);
	error = d->console && d->socket ? check_descriptors() : -ENOMEM;
	if (!error)
		error = make_domain(d, o, &xml);
	if (!error)
		error = connect_to(d, o, name);
	if (!error)
		error = start_domain(host, o, xml);
	free(xml);
	if (error)
		return error;
	if (o->flags & CZONE_VM_NO_WAIT)
		return 0;
	error = device_wait_ready(host->device, o->timeout_ms);
	if (error && !o->domain_xml) {
		console_tail(d->console, tail, sizeof(tail));
		return czone_fail(error, "the guest's czone driver did not come up (%s) within %u ms; the console (%s) ends: %s",
				  strerror(-error), o->timeout_ms, d->console, tail);
	}
	if (error)
		return czone_fail(error, "the guest's czone driver did not come up (%s) within %u ms",
				  strerror(-error), o->timeout_ms);
	return 0;
}

static struct host_vm *new_host(struct czone_vm *vm)
{
	struct host_vm *host = calloc(1, sizeof(*host));

	if (!host)
		return NULL;
	host->vm = vm;
	host->domain = calloc(1, sizeof(*host->domain));
	if (!host->domain) {
		free(host);
		return NULL;
	}
	pthread_mutex_init(&host->domain->lock, NULL);
	pthread_mutex_init(&host->domain->growing, NULL);
	return host;
}

/* The context gets what was made, or nothing is left of it. */
static void finish(struct czone_vm *vm, struct host_vm *host, int error)
{
	char *detail;

	if (!error) {
		vm->priv = host;
		vm->driver = &czone_host_driver;
		return;
	}
	/* keep the first failure's text over those of the clean-up */
	detail = strdup(czone_error_detail());
	host_vm_close(host);
	czone_fail(error, "%s", detail ? detail : "");
	free(detail);
}

int czone_host_attach(struct czone_vm *vm, const struct czone_vm_opts *opts)
{
	struct czone_vm_opts o = *opts;
	char *state_dir = NULL;
	struct host_vm *host;
	int error;

	if (o.state_dir) {
		o.state_dir = state_dir = realpath(o.state_dir, NULL);
		if (!state_dir)
			return czone_fail(-errno, "state_dir %s: %s", opts->state_dir, strerror(errno));
	}
	host = new_host(vm);
	error = host ? attach(host, &o) : czone_fail(-ENOMEM, "no memory for a VM");
	finish(vm, host, error);
	free(state_dir);
	return error;
}

int czone_host_open_domain(struct czone_vm *vm, struct _virDomain *domain, uint32_t timeout_ms,
			   uint64_t flags)
{
	struct host_vm *host = new_host(vm);
	int error = host ? 0 : czone_fail(-ENOMEM, "no memory for a VM");

	if (!error && virDomainIsActive(domain) != 1)
		error = czone_fail(-ENOENT, "the domain does not run");
	if (!error) {
		host->domain->keep = true;
		virDomainRef(domain);
		error = adopt(host, domain, timeout_ms, flags);
	}
	finish(vm, host, error);
	return error;
}

int czone_host_serve(struct czone_vm *vm, const struct czone_serve_opts *opts)
{
	struct host_vm *host = calloc(1, sizeof(*host));
	int error = host ? device_open(opts->path, &host->device)
			 : czone_fail(-ENOMEM, "no memory for a VM");

	if (!error) {
		host->vm = vm;
		device_set_news(host->device, news, vm);
		error = device_set_report_shift(host->device, opts->report_shift);
	}
	if (!error) {
		error = device_add_pool(host->device, opts->pool_start, opts->pool_bytes,
					opts->backing_shift);
	}
	finish(vm, host, error);
	return error;
}

int czone_host_domain_xml(const char *xml, const struct czone_vm_opts *opts, char **ret_xml,
			  char **ret_added)
{
	char *state_dir = realpath(opts->state_dir, NULL), *name = NULL, *socket = NULL;
	int error;

	if (!state_dir)
		return czone_fail(-errno, "state_dir %s: %s", opts->state_dir, strerror(errno));
	error = domain_name(xml, &name);
	if (!error) {
		socket = format("%s/%s.czone", state_dir, name);
		error = socket ? domain_add_zones(xml, opts, socket, ret_xml, ret_added, NULL)
			       : czone_fail(-ENOMEM, "no memory for a path");
	}
	free(socket);
	free(name);
	free(state_dir);
	return error;
}

/* QEMU and the domain's name, where the options do not say. */
static int complete(struct czone_vm_opts *o, char **ret_name, char **ret_emulator)
{
	static atomic_uint counter;

	if (o->domain_xml)
		return domain_name(o->domain_xml, ret_name);
	*ret_name = o->name ? strdup(o->name)
			    : format("czone-%d-%u", getpid(), atomic_fetch_add(&counter, 1));
	if (!*ret_name)
		return czone_fail(-ENOMEM, "no memory for a name");
	o->name = *ret_name;
	if (!o->emulator)
		o->emulator = *ret_emulator = machine_find_emulator();
	if (!o->emulator)
		return czone_fail(-ENOEXEC, "no qemu-system-x86_64 in PATH, and CZONE_QEMU is not set");
	if (access(o->emulator, X_OK))
		return czone_fail(-ENOEXEC, "emulator %s: %s", o->emulator, strerror(errno));
	return 0;
}

int czone_host_start(struct czone_vm *vm, const struct czone_vm_opts *opts)
{
	struct czone_vm_opts o = *opts;
	char *name = NULL, *emulator = NULL, *state_dir;
	struct host_vm *host;
	int error;

	error = check(&o);
	if (!error)
		error = make_dir(o.state_dir);
	if (error)
		return error;
	o.state_dir = state_dir = realpath(o.state_dir, NULL);
	if (!state_dir)
		return czone_fail(-errno, "state_dir %s: %s", opts->state_dir, strerror(errno));
	host = new_host(vm);
	error = host ? complete(&o, &name, &emulator) : czone_fail(-ENOMEM, "no memory for a VM");
	if (!error)
		error = start(host, &o, name);
	finish(vm, host, error);
	free(name);
	free(emulator);
	free(state_dir);
	return error;
}
