// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a domain lacks is added to its XML, and nothing else is touched: what is
 * there and cannot stay is a reason to refuse, never to change it.
 */
#include "domain_edit.h"
#include "qemu.h"
#include "../driver.h"

#include <errno.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Room for pools that are added while the VM runs. */
#define HOTPLUG_BYTES ((uint64_t)256 << 30)

#define QEMU_NAMESPACE "http://libvirt.org/schemas/domain/qemu/1.0"

struct edit {
	xmlDocPtr doc;
	xmlNodePtr domain;
	char *added;
	size_t added_size;
	FILE *report;		/* to `added`: a line for each thing */
};

/* ------------------------------------------------------------------- reading */

static bool is(xmlNodePtr node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name);
}

/* The next element of this name below a node, after another one or from the first. */
static xmlNodePtr next_child(xmlNodePtr parent, xmlNodePtr after, const char *name)
{
	xmlNodePtr node = after ? after->next : parent ? parent->children : NULL;

	while (node && !is(node, name))
		node = node->next;
	return node;
}

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
	return next_child(parent, NULL, name);
}

#define for_each_child(node, parent, name)						\
	for (xmlNodePtr node = child((parent), (name)); node;				\
	     node = next_child((parent), node, (name)))

/* Is there such an attribute, and with that value? */
static bool has(xmlNodePtr node, const char *name, const char *value)
{
	xmlChar *found = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
	bool same = found && !strcmp((const char *)found, value);

	xmlFree(found);
	return same;
}

/* The text of an attribute, or of a node itself; to be freed. */
static char *attribute(xmlNodePtr node, const char *name)
{
	xmlChar *found = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
	char *copy = found ? strdup((const char *)found) : NULL;

	xmlFree(found);
	return copy;
}

static char *text(xmlNodePtr node)
{
	xmlChar *found = node ? xmlNodeGetContent(node) : NULL;
	char *copy = found ? strdup((const char *)found) : NULL;

	xmlFree(found);
	return copy;
}

/* As libvirt scales sizes; its default is KiB. */
static bool bytes(xmlNodePtr node, uint64_t *ret_bytes)
{
	static const struct { const char *unit; uint64_t scale; } known[] = {
		{ "b", 1 }, { "bytes", 1 }, { "KB", 1000 }, { "k", 1024 }, { "KiB", 1024 },
		{ "MB", 1000000 }, { "M", 1 << 20 }, { "MiB", 1 << 20 },
		{ "GB", 1000000000 }, { "G", 1 << 30 }, { "GiB", 1 << 30 },
		{ "TB", 1000000000000 }, { "T", (uint64_t)1 << 40 }, { "TiB", (uint64_t)1 << 40 },
	};
	char *unit = attribute(node, "unit"), *number = text(node), *end = NULL;
	uint64_t value = number ? strtoull(number, &end, 10) : 0, scale = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcasecmp(unit ? unit : "KiB", known[i].unit))
			scale = known[i].scale;
	if (!number || end == number || !scale || __builtin_mul_overflow(value, scale, ret_bytes))
		scale = 0;
	free(unit);
	free(number);
	return scale;
}

static int parse(const char *xml, struct edit *e)
{
	e->doc = xmlReadMemory(xml, strlen(xml), "domain.xml", NULL,
			       XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!e->doc) {
		xmlErrorPtr error = xmlGetLastError();

		return czone_fail(-EINVAL, "domain XML, line %d: %s", error ? error->line : 0,
				  error && error->message ? error->message : "no reason given");
	}
	e->domain = xmlDocGetRootElement(e->doc);
	if (!e->domain || !is(e->domain, "domain"))
		return czone_fail(-EINVAL, "domain XML: its root is not <domain>");
	return 0;
}

static void discard(struct edit *e)
{
	if (e->report)
		fclose(e->report);
	free(e->added);
	xmlFreeDoc(e->doc);
}

int domain_name(const char *xml, char **ret_name)
{
	struct edit e = { 0 };
	int error = parse(xml, &e);

	if (!error) {
		*ret_name = text(child(e.domain, "name"));
		if (!*ret_name || !**ret_name) {
			free(*ret_name);
			error = czone_fail(-EINVAL, "domain XML: it has no <name>");
		}
	}
	discard(&e);
	return error;
}

/* The value after -chardev that is our device's socket. */
static char *our_chardev(xmlNodePtr domain)
{
	for_each_child(line, domain, "commandline") {
		for_each_child(arg, line, "arg") {
			char *value = attribute(arg, "value");

			if (value && !strncmp(value, QEMU_CHARDEV, strlen(QEMU_CHARDEV)))
				return value;
			free(value);
		}
	}
	return NULL;
}

int domain_device_socket(const char *xml, char **ret_socket)
{
	struct edit e = { 0 };
	char *value = NULL;
	int error = parse(xml, &e);

	if (!error) {
		value = our_chardev(e.domain);
		if (!value)
			error = czone_fail(-ENOENT, "the domain has no czone device");
	}
	if (!error) {
		/* QEMU's options have commas doubled */
		char *from = value + strlen(QEMU_CHARDEV), *to = value;

		for (; *from && (*from != ',' || from[1] == ','); from++)
			*to++ = *from == ',' ? *from++ : *from;
		*to = 0;
		*ret_socket = value;
	}
	discard(&e);
	return error;
}

/* ------------------------------------------------------------------- refusal */

/* Memory that is locked, encrypted, pinned or private does not come back. */
static int refuse(xmlNodePtr domain)
{
	xmlNodePtr devices = child(domain, "devices"), backing = child(domain, "memoryBacking");
	xmlNodePtr os = child(domain, "os"), type = child(os, "type");
	char *machine = attribute(type, "machine");
	bool pc = machine && (strstr(machine, "q35") || !strncmp(machine, "pc", 2));

	free(machine);
	if (!has(domain, "type", "kvm") && !has(domain, "type", "qemu"))
		return czone_fail(-EOPNOTSUPP, "domain XML: its type is neither kvm nor qemu");
	if (!has(type, "arch", "x86_64") || !pc)
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <os><type> must name arch='x86_64' and a machine of q35 or pc");
	for_each_child(device, devices, "hostdev")
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: it has a <hostdev>: a device that is assigned pins all guest memory on the host");
	for_each_child(interface, devices, "interface")
		if (has(interface, "type", "hostdev") || has(interface, "type", "vdpa"))
			return czone_fail(-EOPNOTSUPP,
					  "domain XML: an <interface> of type hostdev or vdpa pins all guest memory on the host");
	for_each_child(disk, devices, "disk")
		if (has(disk, "type", "nvme"))
			return czone_fail(-EOPNOTSUPP,
					  "domain XML: a <disk> of type nvme pins all guest memory on the host");
	if (child(domain, "launchSecurity"))
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <launchSecurity>: encrypted memory cannot be given back");
	if (child(backing, "locked"))
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <memoryBacking><locked/>: the host would take the whole pool at once, and keep it");
	if (child(backing, "hugepages"))
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <memoryBacking><hugepages/>: boot memory on hugetlb pages comes back in whole ones only, which the guest is not told");
	if (has(child(backing, "source"), "type", "anonymous"))
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <memoryBacking><source type='anonymous'/>: memory must be shared with this process: take memfd");
	if (has(child(backing, "access"), "mode", "private"))
		return czone_fail(-EOPNOTSUPP,
				  "domain XML: <memoryBacking><access mode='private'/>: memory must be shared with this process");
	for_each_child(cell, child(child(domain, "cpu"), "numa"), "cell")
		if (has(cell, "memAccess", "private"))
			return czone_fail(-EOPNOTSUPP,
					  "domain XML: a NUMA cell has memAccess='private': memory must be shared with this process");
	return 0;
}

/* -------------------------------------------------------------------- adding */

static xmlNodePtr add(xmlNodePtr parent, xmlNsPtr ns, const char *name)
{
	return xmlNewChild(parent, ns ? ns : parent->ns, (const xmlChar *)name, NULL);
}

static void set(xmlNodePtr node, const char *name, const char *value)
{
	xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
}

static void set_number(xmlNodePtr node, const char *name, uint64_t value)
{
	char number[24];

	snprintf(number, sizeof(number), "%" PRIu64, value);
	set(node, name, number);
}

static xmlNodePtr child_or_add(xmlNodePtr parent, const char *name)
{
	xmlNodePtr node = child(parent, name);

	return node ? node : add(parent, NULL, name);
}

static void share_memory(struct edit *e)
{
	xmlNodePtr backing = child_or_add(e->domain, "memoryBacking");

	if (!child(backing, "source")) {
		set(add(backing, NULL, "source"), "type", "memfd");
		fputs("memoryBacking/source type='memfd': memory in a file that can be shared\n", e->report);
	}
	if (!child(backing, "access")) {
		set(add(backing, NULL, "access"), "mode", "shared");
		fputs("memoryBacking/access mode='shared': this process sees the guest's rings, and frees memory\n",
		      e->report);
	}
}

/* QEMU puts a DIMM into a NUMA node, and libvirt gives none room for one without. */
static int add_room(struct edit *e, const struct czone_vm_opts *o)
{
	xmlNodePtr max = child(e->domain, "maxMemory"), cpu = child(e->domain, "cpu");
	char *vcpus = text(child(e->domain, "vcpu")), cpus[40], number[24];
	unsigned long n = vcpus ? strtoul(vcpus, NULL, 10) : 1;
	uint64_t boot, most;

	free(vcpus);
	if (!bytes(child(e->domain, "memory"), &boot) || !boot)
		return czone_fail(-EINVAL, "domain XML: its <memory> is missing or no size");
	if (!child(cpu, "numa")) {
		xmlNodePtr cell;

		cpu = child_or_add(e->domain, "cpu");
		cell = add(add(cpu, NULL, "numa"), NULL, "cell");
		snprintf(cpus, sizeof(cpus), "0-%lu", n ? n - 1 : 0);
		set(cell, "id", "0");
		set(cell, "cpus", cpus);
		set_number(cell, "memory", boot);
		set(cell, "unit", "b");
		set(cell, "memAccess", "shared");
		fputs("cpu/numa: one cell with all CPUs and all memory, which the pool is plugged into\n",
		      e->report);
	}
	if (!max) {
		snprintf(number, sizeof(number), "%" PRIu64,
			 boot + (o->pool_max_bytes ? o->pool_max_bytes : o->pool_bytes + HOTPLUG_BYTES));
		max = xmlNewChild(e->domain, e->domain->ns, (const xmlChar *)"maxMemory",
				  (const xmlChar *)number);
		set_number(max, "slots", QEMU_MEMORY_SLOTS);
		set(max, "unit", "b");
		fprintf(e->report, "maxMemory: room for the pool, and for more of it later\n");
		return 0;
	}
	if (!bytes(max, &most) || most < boot || most - boot < o->pool_bytes)
		return czone_fail(-EINVAL,
				  "domain XML: its <maxMemory> has no room for a pool of %" PRIu64 " MiB",
				  o->pool_bytes >> 20);
	return 0;
}

/* On the root bus, where libvirt puts little of its own accord, and where nothing is by the XML. */
static int free_slot(xmlNodePtr domain)
{
	static const int candidate[] = { 0x1d, 0x1c, 0x19, 0x18, 0x17, 0x16 };
	xmlNodePtr devices = child(domain, "devices");
	uint32_t used = 0;

	for (xmlNodePtr d = devices ? devices->children : NULL; d; d = d->next) {
		xmlNodePtr address = d->type == XML_ELEMENT_NODE ? child(d, "address") : NULL;
		char *bus = attribute(address, "bus"), *slot = attribute(address, "slot");

		if (has(address, "type", "pci") && slot && (!bus || !strtoul(bus, NULL, 0)))
			used |= 1u << (strtoul(slot, NULL, 0) & 31);
		free(bus);
		free(slot);
		/* without one of its own a domain gets a USB controller, in several models at 0x1d */
		if (d->type == XML_ELEMENT_NODE && is(d, "controller") && has(d, "type", "usb") &&
		    !has(d, "model", "none"))
			used |= 1u << 0x1d;
	}
	if (!devices || !child(devices, "controller"))
		used |= 1u << 0x1d;
	for (size_t i = 0; i < sizeof(candidate) / sizeof(candidate[0]); i++)
		if (!(used & 1u << candidate[i]))
			return candidate[i];
	return -1;
}

static int add_device(struct edit *e, const struct czone_vm_opts *o, const char *socket)
{
	char *machine = attribute(child(child(e->domain, "os"), "type"), "machine");
	const char *bus = machine && strstr(machine, "q35") ? "pcie.0" : "pci.0";
	xmlNodePtr line = child(e->domain, "commandline");
	xmlNsPtr ns = xmlSearchNsByHref(e->doc, e->domain, (const xmlChar *)QEMU_NAMESPACE);
	char *args[QEMU_ARGS + 1];
	int slot = free_slot(e->domain);

	free(machine);
	if (slot < 0)
		return czone_fail(-EINVAL, "domain XML: no slot is free on its root bus");
	/* with its own prefix: libvirt does not look for the namespace otherwise */
	if (!ns || !ns->prefix)
		ns = xmlNewNs(e->domain, (const xmlChar *)QEMU_NAMESPACE, (const xmlChar *)"qemu");
	if (!ns || qemu_args(o, socket, bus, slot, args))
		return czone_fail(-ENOMEM, "no memory for a domain");
	if (!line)
		line = add(e->domain, ns, "commandline");
	for (int i = 0; args[i]; i++) {
		set(add(line, ns, "arg"), "value", args[i]);
		free(args[i]);
	}
	fprintf(e->report, "qemu:commandline -object, -device pc-dimm: the pool, %" PRIu64 " MiB %s%s\n",
		o->pool_bytes >> 20, o->pool_backing == CZONE_POOL_FILE ? "in a file in " : "in a memfd",
		o->pool_backing == CZONE_POOL_FILE ? o->pool_dir : "");
	fprintf(e->report, "qemu:commandline -chardev, -device: the czone device in slot %#x of %s, at %s\n",
		(unsigned int)slot, bus, socket);
	return 0;
}

static int edit(struct edit *e, const struct czone_vm_opts *o, const char *socket)
{
	char *ours = our_chardev(e->domain);
	int error;

	free(ours);
	if (ours)
		return czone_fail(-EEXIST, "domain XML: it has a czone device already");
	error = refuse(e->domain);
	if (error)
		return error;
	share_memory(e);
	error = add_room(e, o);
	return error ? error : add_device(e, o, socket);
}

int domain_add_zones(const char *xml, const struct czone_vm_opts *opts, const char *socket,
		     char **ret_xml, char **ret_added, char **ret_name)
{
	struct edit e = { 0 };
	xmlChar *result = NULL;
	char *copy = NULL, *name = NULL;
	int size, error;

	error = domain_name(xml, &name);
	if (!error)
		error = parse(xml, &e);
	if (!error) {
		e.report = open_memstream(&e.added, &e.added_size);
		error = e.report ? edit(&e, opts, socket) : -ENOMEM;
	}
	if (!error) {
		xmlDocDumpMemory(e.doc, &result, &size);
		copy = result ? strdup((const char *)result) : NULL;
		xmlFree(result);
		error = copy && !fflush(e.report) ? 0 : czone_fail(-ENOMEM, "no memory for a domain");
	}
	if (!error) {
		*ret_xml = copy;
		if (ret_added) {
			fclose(e.report);
			e.report = NULL;
			*ret_added = e.added;
			e.added = NULL;
		}
		if (ret_name) {
			*ret_name = name;
			name = NULL;
		}
	}
	free(name);
	discard(&e);
	return error;
}
