/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the structs of czone.h and Python's dictionaries; handles as capsules. */
#ifndef BINDINGS_PYTHON_CONVERT_H
#define BINDINGS_PYTHON_CONVERT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <czone.h>

/*
 * Options from a dictionary; a name that is no option is a TypeError. Strings
 * stay the dictionary's. 0, or -1 with an exception.
 */
int vm_opts_from_dict(PyObject *dict, struct czone_vm_opts *opts);
void vm_opts_free(struct czone_vm_opts *opts);
int create_opts_from_dict(PyObject *dict, struct czone_create_opts *opts);
int reclaim_opts_from_dict(PyObject *dict, struct czone_reclaim_opts *opts);
int idle_opts_from_dict(PyObject *dict, struct czone_idle_opts *opts);
int spawn_opts_from_dict(PyObject *dict, struct czone_spawn_opts *opts);
void spawn_opts_free(struct czone_spawn_opts *opts);
int serve_opts_from_dict(PyObject *dict, struct czone_serve_opts *opts);
int target_opts_from_dict(PyObject *dict, struct czone_target_opts *opts);
int audit_opts_from_dict(PyObject *dict, struct czone_audit_opts *opts);
int quota_from_dict(PyObject *dict, struct czone_quota *quota);

/* New references, NULL with an exception. */
PyObject *zone_stats_to_dict(const struct czone_zone_stats *stats);
PyObject *vm_stats_to_dict(const struct czone_vm_stats *stats);
PyObject *audit_report_to_dict(const struct czone_audit_report *report);
PyObject *attach_report_to_dict(const struct czone_attach_report *report);
PyObject *destroy_report_to_dict(const struct czone_destroy_report *report);
PyObject *ranges_to_list(const struct czone_range *ranges, size_t n);
PyObject *ids_to_list(const uint32_t *ids, size_t n);

/* Capsules own one reference of their object and give it up when they go. */
PyObject *vm_to_capsule(czone_vm *vm);
PyObject *zone_to_capsule(czone *zone);
PyObject *task_to_capsule(czone_test_task *task);
czone_vm *vm_from_capsule(PyObject *capsule);
czone *zone_from_capsule(PyObject *capsule);
czone_test_task *task_from_capsule(PyObject *capsule);

/* Of a libvirt.virDomain, whose reference it stays; NULL with a TypeError. */
struct _virDomain *domain_from_python(PyObject *domain);

/* The class of exceptions for errors of the library. */
void set_error_class(PyObject *cls);

/* Raise what the last call in this thread says about a negative errno. */
void raise_error(int error);

/* A czone_probe_fn: appends a tuple to a list. */
void probe_to_list(const struct czone_probe_item *item, void *list);

/*
 * A czone_event_fn whose userdata is a callable (kind, zone, bytes, error, lost).
 * It is the context of the VM's capsule, which has a reference on it.
 */
void event_to_python(czone_vm *vm, const struct czone_event *event, void *callable);

/* A czone_log_fn whose userdata is a callable (level, message). */
void log_to_python(enum czone_log_level level, const char *message, void *callable);

#endif /* BINDINGS_PYTHON_CONVERT_H */
