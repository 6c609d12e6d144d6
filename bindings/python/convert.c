/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "convert.h"
#include <stdbool.h>
#include <string.h>

enum kind { U8, U32, U64, I64, STRING, STRINGS, CONNECT, INTS, ZONE };

struct field {
	const char *name;
	size_t offset;
	enum kind kind;
};

#define KIND(type, member)				\
	_Generic(((type *)0)->member,			\
		uint8_t: U8,				\
		uint32_t: U32,				\
		uint64_t: U64,				\
		int64_t: I64,				\
		const char *: STRING,			\
		const char *const *: STRINGS,		\
		const int *: INTS,			\
		struct _virConnect *: CONNECT,		\
		czone *: ZONE)

#define FIELD(type, member) { #member, offsetof(type, member), KIND(type, member) }

#define VM_OPT(member) FIELD(struct czone_vm_opts, member)
static const struct field vm_opts[] = {
	VM_OPT(uri), VM_OPT(state_dir), VM_OPT(name), VM_OPT(emulator), VM_OPT(kernel),
	VM_OPT(initrd), VM_OPT(cmdline), VM_OPT(disks), VM_OPT(channel), VM_OPT(boot_bytes),
	VM_OPT(pool_bytes), VM_OPT(pool_backing), VM_OPT(pool_dir), VM_OPT(vcpus),
	VM_OPT(timeout_ms), VM_OPT(kvm), VM_OPT(event_loop), VM_OPT(flags), VM_OPT(domain_xml), VM_OPT(connect),
	VM_OPT(pool_max_bytes),
	{ 0 },
};

#define CREATE_OPT(member) FIELD(struct czone_create_opts, member)
static const struct field create_opts[] = {
	CREATE_OPT(size), CREATE_OPT(cgroup), CREATE_OPT(flags), CREATE_OPT(timeout_ms),
	CREATE_OPT(file_zone),
	{ 0 },
};

#define RECLAIM_OPT(member) FIELD(struct czone_reclaim_opts, member)
static const struct field reclaim_opts[] = {
	RECLAIM_OPT(flags), RECLAIM_OPT(timeout_ms),
	{ 0 },
};

#define IDLE_OPT(member) FIELD(struct czone_idle_opts, member)
static const struct field idle_opts[] = {
	IDLE_OPT(delay_ms), IDLE_OPT(timeout_ms), IDLE_OPT(floor),
	{ 0 },
};

#define SPAWN_OPT(member) FIELD(struct czone_spawn_opts, member)
static const struct field spawn_opts[] = {
	SPAWN_OPT(argv), SPAWN_OPT(envp), SPAWN_OPT(directory), SPAWN_OPT(cgroup), SPAWN_OPT(fds),
	SPAWN_OPT(n_fds), SPAWN_OPT(timeout_ms),
	{ 0 },
};

#define SERVE_OPT(member) FIELD(struct czone_serve_opts, member)
static const struct field serve_opts[] = {
	SERVE_OPT(path), SERVE_OPT(pool_start), SERVE_OPT(pool_bytes), SERVE_OPT(backing_shift),
	SERVE_OPT(report_shift),
	{ 0 },
};

#define TARGET_OPT(member) FIELD(struct czone_target_opts, member)
static const struct field target_opts[] = {
	TARGET_OPT(timeout_ms), TARGET_OPT(flags),
	{ 0 },
};

#define AUDIT_OPT(member) FIELD(struct czone_audit_opts, member)
static const struct field audit_opts[] = {
	AUDIT_OPT(flags), AUDIT_OPT(timeout_ms),
	{ 0 },
};

#define QUOTA(member) FIELD(struct czone_quota, member)
static const struct field quota_fields[] = {
	QUOTA(pool_bytes), QUOTA(zone_bytes),
	{ 0 },
};

#define AUDIT(member) FIELD(struct czone_audit_report, member)
static const struct field audit_report[] = {
	AUDIT(zones), AUDIT(held), AUDIT(stray), AUDIT(taken), AUDIT(over_quota),
	{ 0 },
};

#define ZONE_STAT(member) FIELD(struct czone_zone_stats, member)
static const struct field zone_stats[] = {
	ZONE_STAT(id), ZONE_STAT(flags), ZONE_STAT(size), ZONE_STAT(used), ZONE_STAT(free_backed),
	ZONE_STAT(free_unbacked), ZONE_STAT(file), ZONE_STAT(returned), ZONE_STAT(spilled),
	ZONE_STAT(host_resident), ZONE_STAT(cgroup_id), ZONE_STAT(kernel), ZONE_STAT(file_zone),
	ZONE_STAT(idle_delay_ms), ZONE_STAT(idle_floor),
	{ 0 },
};

#define VM_STAT(member) FIELD(struct czone_vm_stats, member)
static const struct field vm_stats[] = {
	VM_STAT(pool_size), VM_STAT(pool_used), VM_STAT(metadata), VM_STAT(boot_size),
	VM_STAT(boot_free), VM_STAT(zones), VM_STAT(returned), VM_STAT(host_pool),
	VM_STAT(host_boot), VM_STAT(host_pss), VM_STAT(pid), VM_STAT(target), VM_STAT(actual),
	VM_STAT(stray), VM_STAT(taken),
	VM_STAT(boot_free_backed),
	{ 0 },
};

#define ATTACH_REPORT(member) FIELD(struct czone_attach_report, member)
static const struct field attach_report[] = {
	ATTACH_REPORT(migrated), ATTACH_REPORT(stuck_pinned), ATTACH_REPORT(stuck_full),
	ATTACH_REPORT(stuck_other),
	{ 0 },
};

#define REPORT(member) FIELD(struct czone_destroy_report, member)
static const struct field destroy_report[] = {
	REPORT(returned), REPORT(dropped), REPORT(migrated), REPORT(stuck_pinned),
	REPORT(stuck_poisoned), REPORT(stuck_other),
	{ 0 },
};

static const char *get_string(PyObject *value, const char *name)
{
	Py_ssize_t size;
	const char *string = PyUnicode_AsUTF8AndSize(value, &size);

	if (string && strlen(string) != (size_t)size) {
		PyErr_Format(PyExc_ValueError, "%s: a string with a null character", name);
		return NULL;
	}
	return string;
}

static int get_strings(PyObject *value, const char *name, const char ***ret_strings)
{
	const char **strings;
	Py_ssize_t n;

	if (!PyTuple_Check(value)) {
		PyErr_Format(PyExc_TypeError, "%s: not a tuple", name);
		return -1;
	}
	n = PyTuple_GET_SIZE(value);
	strings = PyMem_Calloc(n + 1, sizeof(*strings));
	if (!strings) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < n; i++) {
		strings[i] = get_string(PyTuple_GET_ITEM(value, i), name);
		if (!strings[i]) {
			PyMem_Free(strings);
			return -1;
		}
	}
	*ret_strings = strings;
	return 0;
}

static int get_ints(PyObject *value, const char *name, int **ret_ints)
{
	Py_ssize_t n = PyTuple_Check(value) ? PyTuple_GET_SIZE(value) : -1;
	int *ints;

	if (n < 0) {
		PyErr_Format(PyExc_TypeError, "%s: not a tuple", name);
		return -1;
	}
	ints = PyMem_Calloc(n + 1, sizeof(*ints));
	if (!ints) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < n; i++) {
		ints[i] = _PyLong_AsInt(PyTuple_GET_ITEM(value, i));
		if (ints[i] == -1 && PyErr_Occurred()) {
			PyMem_Free(ints);
			return -1;
		}
	}
	*ret_ints = ints;
	return 0;
}

static int get_number(PyObject *value, const char *name, uint64_t max, uint64_t *ret_number)
{
	uint64_t number = PyLong_AsUnsignedLongLong(value);

	if (number == UINT64_MAX && PyErr_Occurred())
		return -1;
	if (number > max) {
		PyErr_Format(PyExc_OverflowError, "%s: %llu is too large", name,
			     (unsigned long long)number);
		return -1;
	}
	*ret_number = number;
	return 0;
}

/* What an object of the libvirt package stands for, or NULL with a TypeError. */
static void *libvirt_pointer(PyObject *value, const char *name, const char *type)
{
	PyObject *capsule = PyObject_GetAttrString(value, "_o");
	void *pointer = NULL;

	if (capsule && PyCapsule_IsValid(capsule, type))
		pointer = PyCapsule_GetPointer(capsule, type);
	else
		PyErr_Format(PyExc_TypeError, "%s: not one of the libvirt package's", name);
	Py_XDECREF(capsule);
	return pointer;
}

struct _virDomain *domain_from_python(PyObject *domain)
{
	return libvirt_pointer(domain, "domain", "virDomainPtr");
}

static int set_field(void *to, const struct field *field, PyObject *value)
{
	void *place = (char *)to + field->offset;
	const char *string, **strings;
	uint64_t number;
	void *pointer;
	czone *zone;
	int *ints;

	switch (field->kind) {
	case ZONE:
		zone = zone_from_capsule(value);
		if (!zone)
			return -1;
		memcpy(place, &zone, sizeof(zone));
		return 0;
	case CONNECT:
		pointer = libvirt_pointer(value, field->name, "virConnectPtr");
		if (!pointer)
			return -1;
		memcpy(place, &pointer, sizeof(pointer));
		return 0;
	case STRING:
		string = get_string(value, field->name);
		if (!string)
			return -1;
		memcpy(place, &string, sizeof(string));
		return 0;
	case STRINGS:
		if (get_strings(value, field->name, &strings) < 0)
			return -1;
		memcpy(place, &strings, sizeof(strings));
		return 0;
	case INTS:
		if (get_ints(value, field->name, &ints) < 0)
			return -1;
		memcpy(place, &ints, sizeof(ints));
		return 0;
	case U8:
		if (get_number(value, field->name, UINT8_MAX, &number) < 0)
			return -1;
		*(uint8_t *)place = number;
		return 0;
	case U32:
		if (get_number(value, field->name, UINT32_MAX, &number) < 0)
			return -1;
		*(uint32_t *)place = number;
		return 0;
	default:
		if (get_number(value, field->name, UINT64_MAX, &number) < 0)
			return -1;
		*(uint64_t *)place = number;
		return 0;
	}
}

/* None is as good as absent. */
static int from_dict(PyObject *dict, void *to, const struct field *fields)
{
	PyObject *key, *value;
	Py_ssize_t position = 0;

	if (!PyDict_Check(dict)) {
		PyErr_SetString(PyExc_TypeError, "options are not a dict");
		return -1;
	}
	while (PyDict_Next(dict, &position, &key, &value)) {
		const struct field *field = fields;
		const char *name = PyUnicode_AsUTF8(key);

		if (!name)
			return -1;
		while (field->name && strcmp(field->name, name))
			field++;
		if (!field->name) {
			PyErr_Format(PyExc_TypeError, "'%s' is no option", name);
			return -1;
		}
		if (value != Py_None && set_field(to, field, value) < 0)
			return -1;
	}
	return 0;
}

int vm_opts_from_dict(PyObject *dict, struct czone_vm_opts *opts)
{
	*opts = (struct czone_vm_opts)CZONE_INIT(*opts);
	if (from_dict(dict, opts, vm_opts) == 0)
		return 0;
	vm_opts_free(opts);
	return -1;
}

void vm_opts_free(struct czone_vm_opts *opts)
{
	PyMem_Free((void *)opts->disks);
	opts->disks = NULL;
}

int spawn_opts_from_dict(PyObject *dict, struct czone_spawn_opts *opts)
{
	*opts = (struct czone_spawn_opts)CZONE_INIT(*opts);
	if (from_dict(dict, opts, spawn_opts) == 0)
		return 0;
	spawn_opts_free(opts);
	return -1;
}

void spawn_opts_free(struct czone_spawn_opts *opts)
{
	PyMem_Free((void *)opts->argv);
	PyMem_Free((void *)opts->envp);
	PyMem_Free((void *)opts->fds);
	opts->argv = opts->envp = NULL;
	opts->fds = NULL;
}

int create_opts_from_dict(PyObject *dict, struct czone_create_opts *opts)
{
	*opts = (struct czone_create_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, create_opts);
}

int reclaim_opts_from_dict(PyObject *dict, struct czone_reclaim_opts *opts)
{
	*opts = (struct czone_reclaim_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, reclaim_opts);
}

int idle_opts_from_dict(PyObject *dict, struct czone_idle_opts *opts)
{
	*opts = (struct czone_idle_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, idle_opts);
}

int serve_opts_from_dict(PyObject *dict, struct czone_serve_opts *opts)
{
	*opts = (struct czone_serve_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, serve_opts);
}

int target_opts_from_dict(PyObject *dict, struct czone_target_opts *opts)
{
	*opts = (struct czone_target_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, target_opts);
}

int audit_opts_from_dict(PyObject *dict, struct czone_audit_opts *opts)
{
	*opts = (struct czone_audit_opts)CZONE_INIT(*opts);
	return from_dict(dict, opts, audit_opts);
}

int quota_from_dict(PyObject *dict, struct czone_quota *quota)
{
	*quota = (struct czone_quota)CZONE_INIT(*quota);
	return from_dict(dict, quota, quota_fields);
}

static PyObject *get_field(const void *from, const struct field *field)
{
	const void *place = (const char *)from + field->offset;

	switch (field->kind) {
	case U32:
		return PyLong_FromUnsignedLong(*(const uint32_t *)place);
	case I64:
		return PyLong_FromLongLong(*(const int64_t *)place);
	default:
		if (*(const uint64_t *)place == CZONE_UNKNOWN)
			Py_RETURN_NONE;
		return PyLong_FromUnsignedLongLong(*(const uint64_t *)place);
	}
}

/* What a side cannot know is None. */
static PyObject *to_dict(const void *from, const struct field *fields)
{
	PyObject *dict = PyDict_New();

	for (const struct field *field = fields; dict && field->name; field++) {
		PyObject *value = get_field(from, field);

		if (!value || PyDict_SetItemString(dict, field->name, value) < 0)
			Py_CLEAR(dict);
		Py_XDECREF(value);
	}
	return dict;
}

PyObject *zone_stats_to_dict(const struct czone_zone_stats *stats)
{
	return to_dict(stats, zone_stats);
}

PyObject *vm_stats_to_dict(const struct czone_vm_stats *stats)
{
	return to_dict(stats, vm_stats);
}

PyObject *audit_report_to_dict(const struct czone_audit_report *report)
{
	return to_dict(report, audit_report);
}

PyObject *attach_report_to_dict(const struct czone_attach_report *report)
{
	return to_dict(report, attach_report);
}

PyObject *destroy_report_to_dict(const struct czone_destroy_report *report)
{
	return to_dict(report, destroy_report);
}

PyObject *ranges_to_list(const struct czone_range *ranges, size_t n)
{
	PyObject *list = PyList_New(n);

	for (size_t i = 0; list && i < n; i++) {
		PyObject *range = Py_BuildValue("(KK)", (unsigned long long)ranges[i].start,
						(unsigned long long)ranges[i].size);

		if (range)
			PyList_SET_ITEM(list, i, range);
		else
			Py_CLEAR(list);
	}
	return list;
}

PyObject *ids_to_list(const uint32_t *ids, size_t n)
{
	PyObject *list = PyList_New(n);

	for (size_t i = 0; list && i < n; i++) {
		PyObject *id = PyLong_FromUnsignedLong(ids[i]);

		if (id)
			PyList_SET_ITEM(list, i, id);
		else
			Py_CLEAR(list);
	}
	return list;
}

/* Giving up the last reference stops a VM, whose threads may want to log to Python. */
static void release_vm(PyObject *capsule)
{
	czone_vm *vm = PyCapsule_GetPointer(capsule, "czone_vm");

	Py_BEGIN_ALLOW_THREADS
	czone_vm_unref(vm);
	Py_END_ALLOW_THREADS
	Py_XDECREF(PyCapsule_GetContext(capsule));
}

static void release_zone(PyObject *capsule)
{
	czone *zone = PyCapsule_GetPointer(capsule, "czone");

	Py_BEGIN_ALLOW_THREADS
	czone_unref(zone);
	Py_END_ALLOW_THREADS
}

static void release_task(PyObject *capsule)
{
	czone_test_task *task = PyCapsule_GetPointer(capsule, "czone_test_task");

	Py_BEGIN_ALLOW_THREADS
	czone_test_exit(task);
	Py_END_ALLOW_THREADS
}

PyObject *vm_to_capsule(czone_vm *vm)
{
	PyObject *capsule = PyCapsule_New(vm, "czone_vm", release_vm);

	if (!capsule)
		czone_vm_unref(vm);
	return capsule;
}

PyObject *zone_to_capsule(czone *zone)
{
	PyObject *capsule = PyCapsule_New(zone, "czone", release_zone);

	if (!capsule)
		czone_unref(zone);
	return capsule;
}

PyObject *task_to_capsule(czone_test_task *task)
{
	PyObject *capsule = PyCapsule_New(task, "czone_test_task", release_task);

	if (!capsule)
		czone_test_exit(task);
	return capsule;
}

czone_vm *vm_from_capsule(PyObject *capsule)
{
	return PyCapsule_GetPointer(capsule, "czone_vm");
}

czone *zone_from_capsule(PyObject *capsule)
{
	return PyCapsule_GetPointer(capsule, "czone");
}

czone_test_task *task_from_capsule(PyObject *capsule)
{
	return PyCapsule_GetPointer(capsule, "czone_test_task");
}

static PyObject *error_class;

void set_error_class(PyObject *cls)
{
	Py_INCREF(cls);
	Py_XSETREF(error_class, cls);
}

void raise_error(int error)
{
	const char *detail = czone_error_detail();
	PyObject *args = Py_BuildValue("(is)", -error, *detail ? detail : czone_strerror(error));

	if (args)
		PyErr_SetObject(error_class ? error_class : PyExc_OSError, args);
	Py_XDECREF(args);
}

void log_to_python(enum czone_log_level level, const char *message, void *callable)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *result = PyObject_CallFunction(callable, "is", (int)level, message);

	if (!result)
		PyErr_WriteUnraisable(callable);
	Py_XDECREF(result);
	PyGILState_Release(state);
}

void event_to_python(czone_vm *vm, const struct czone_event *event, void *callable)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *result = PyObject_CallFunction(callable, "iIKiK", (int)event->kind, event->zone,
						 (unsigned long long)event->bytes, event->error,
						 (unsigned long long)event->lost);

	(void)vm;
	if (!result)
		PyErr_WriteUnraisable(callable);
	Py_XDECREF(result);
	PyGILState_Release(state);
}

void probe_to_list(const struct czone_probe_item *item, void *list)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *tuple = Py_BuildValue("(siss)", item->name, (int)item->state, item->found,
					item->remedy);

	if (!tuple || PyList_Append(list, tuple))
		PyErr_WriteUnraisable(list);
	Py_XDECREF(tuple);
	PyGILState_Release(state);
}
