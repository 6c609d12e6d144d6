/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains that get a pool and the device, domains that are refused, and who may be opened how. */
#include <czone.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <libvirt/libvirt.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)

#define PLAIN									\
	"<domain type='kvm'><name>d</name><memory unit='MiB'>512</memory>"	\
	"<currentMemory>524288</currentMemory><vcpu>3</vcpu>"			\
	"<os><type arch='x86_64' machine='pc-q35-9.0'>hvm</type></os>"		\
	"<devices><emulator>/usr/bin/kvm</emulator></devices></domain>"

static char dir[] = "/tmp/czone-domain-XXXXXX";

static void make_dir(void)
{
	cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
	rmdir(dir);
}

TestSuite(domain, .init = make_dir, .fini = remove_dir);

static struct czone_vm_opts options(void)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);

	opts.state_dir = dir;
	opts.pool_bytes = GIB;
	return opts;
}

/* The string value of an XPath expression in a domain. */
static char *xpath(const char *xml, const char *expression)
{
	xmlDocPtr doc = xmlReadMemory(xml, strlen(xml), "x", NULL, XML_PARSE_NONET);
	xmlXPathContextPtr context = xmlXPathNewContext(doc);
	xmlXPathObjectPtr found;
	char *text;

	cr_assert_not_null(doc, "%s", xml);
	xmlXPathRegisterNs(context, (const xmlChar *)"qemu",
			   (const xmlChar *)"http://libvirt.org/schemas/domain/qemu/1.0");
	found = xmlXPathEvalExpression((const xmlChar *)expression, context);
	text = (char *)xmlXPathCastToString(found);
	xmlXPathFreeObject(found);
	xmlXPathFreeContext(context);
	xmlFreeDoc(doc);
	return text;
}

#define has(xml, expression, value) do {					\
	char *text_ = xpath((xml), (expression));				\
	cr_assert_str_eq(text_, (value), "%s is \"%s\" in %s", (expression), text_, (xml)); \
	free(text_);								\
} while (0)

Test(domain, gets_what_it_lacks_and_says_what)
{
	struct czone_vm_opts opts = options();
	char *xml = NULL, *added = NULL, socket[200];

	cr_assert_eq(czone_domain_xml(PLAIN, &opts, &xml, &added), 0, "%s", czone_error_detail());
	has(xml, "/domain/memoryBacking/source/@type", "memfd");
	has(xml, "/domain/memoryBacking/access/@mode", "shared");
	has(xml, "/domain/cpu/numa/cell/@cpus", "0-2");
	has(xml, "/domain/cpu/numa/cell/@memory", "536870912");
	has(xml, "/domain/maxMemory/@slots", "16");
	has(xml, "count(/domain/qemu:commandline/qemu:arg)", "8");
	has(xml, "/domain/qemu:commandline/qemu:arg[2]/@value",
	    "memory-backend-memfd,id=czone-pool0-mem,size=1073741824,share=on,prealloc=off");
	snprintf(socket, sizeof(socket), "socket,id=czone,path=%s/d.czone", dir);
	has(xml, "/domain/qemu:commandline/qemu:arg[6]/@value", socket);
	has(xml, "contains(/domain/qemu:commandline/qemu:arg[8]/@value, 'bus=pcie.0,addr=0x1c')", "true");
	/* and the rest is as it was */
	has(xml, "/domain/devices/emulator", "/usr/bin/kvm");
	has(xml, "/domain/currentMemory", "524288");
	has(xml, "count(/domain/*)", "10");
	for (const char *const *word = (const char *const[]){ "memfd", "shared", "numa", "maxMemory",
	     "1024 MiB", "slot 0x1c of pcie.0", NULL }; *word; word++)
		cr_assert(strstr(added, *word), "\"%s\" lacks %s", added, *word);
	free(added);
	free(xml);
}

Test(domain, keeps_what_it_has)
{
	static const char own[] =
		"<domain type='qemu' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<name>d</name><maxMemory slots='4' unit='GiB'>8</maxMemory>"
		"<memory unit='GiB'>1</memory><vcpu>1</vcpu>"
		"<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>"
		"<cpu mode='maximum'><numa><cell id='0' cpus='0' memory='1' unit='GiB'/></numa></cpu>"
		"<os><type arch='x86_64' machine='pc'>hvm</type></os>"
		"<devices><controller type='usb' model='none'/>"
		"<controller type='pci' model='x'><address type='pci' bus='0x00' slot='0x1d'/></controller>"
		"</devices><q:commandline><q:arg value='-no-acpi'/></q:commandline></domain>";
	struct czone_vm_opts opts = options();
	char *xml = NULL, *again = NULL;

	cr_assert_eq(czone_domain_xml(own, &opts, &xml, NULL), 0, "%s", czone_error_detail());
	has(xml, "/domain/memoryBacking/source/@type", "file");
	has(xml, "count(/domain/memoryBacking/*)", "2");
	has(xml, "count(/domain/cpu/numa/cell)", "1");
	has(xml, "/domain/maxMemory/@slots", "4");
	has(xml, "count(/domain/qemu:commandline)", "1");
	has(xml, "/domain/qemu:commandline/qemu:arg[1]/@value", "-no-acpi");
	has(xml, "contains(/domain/qemu:commandline/qemu:arg[9]/@value, 'bus=pci.0,addr=0x1c')", "true");
	cr_assert_eq(czone_domain_xml(xml, &opts, &again, NULL), -EEXIST);
	opts.pool_bytes = 8 * GIB;
	cr_assert_eq(czone_domain_xml(own, &opts, &again, NULL), -EINVAL);
	cr_assert(strstr(czone_error_detail(), "maxMemory"), "%s", czone_error_detail());
	cr_assert_null(again);
	free(xml);
}

Test(domain, of_a_file_s_pool)
{
	struct czone_vm_opts opts = options();
	char *xml = NULL;

	opts.pool_backing = CZONE_POOL_FILE;
	opts.pool_dir = "/dev/shm/a,b";
	cr_assert_eq(czone_domain_xml(PLAIN, &opts, &xml, NULL), 0, "%s", czone_error_detail());
	has(xml, "starts-with(/domain/qemu:commandline/qemu:arg[2]/@value, "
	    "'memory-backend-file,align=2097152,mem-path=/dev/shm/a,,b,id=')", "true");
	free(xml);
}

#define WITH(memory, backing, cpu, devices)					\
	"<domain type='qemu'><name>d</name>" memory backing cpu			\
	"<os><type arch='x86_64' machine='q35'>hvm</type></os>"			\
	"<devices>" devices "</devices></domain>"
#define MEMORY "<memory>262144</memory>"

Test(domain, refuses_what_cannot_give_memory_back)
{
	static const struct { const char *xml; int error; const char *word; } bad[] = {
		{ "<domain", -EINVAL, "line 1" },
		{ "<network/>", -EINVAL, "root" },
		{ "<domain type='qemu'/>", -EINVAL, "<name>" },
		{ WITH("", "", "", ""), -EINVAL, "<memory>" },
		{ WITH("<memory unit='parsec'>1</memory>", "", "", ""), -EINVAL, "<memory>" },
		{ WITH("<memory unit='TiB'>99999999999</memory>", "", "", ""), -EINVAL, "<memory>" },
		{ "<domain type='xen'><name>d</name></domain>", -EOPNOTSUPP, "kvm" },
		{ "<domain type='kvm'><name>d</name><os><type arch='aarch64' machine='virt'/></os></domain>",
		  -EOPNOTSUPP, "x86_64" },
		{ "<domain type='kvm'><name>d</name><os><type arch='x86_64' machine='microvm'/></os></domain>",
		  -EOPNOTSUPP, "q35" },
		{ WITH(MEMORY, "", "", "<hostdev mode='subsystem' type='pci'/>"), -EOPNOTSUPP, "hostdev" },
		{ WITH(MEMORY, "", "", "<interface type='hostdev'/>"), -EOPNOTSUPP, "interface" },
		{ WITH(MEMORY, "", "", "<interface type='user'/><interface type='vdpa'/>"), -EOPNOTSUPP, "vdpa" },
		{ WITH(MEMORY, "", "", "<disk type='nvme'/>"), -EOPNOTSUPP, "nvme" },
		{ WITH(MEMORY, "<launchSecurity type='sev'/>", "", ""), -EOPNOTSUPP, "launchSecurity" },
		{ WITH(MEMORY, "<memoryBacking><locked/></memoryBacking>", "", ""), -EOPNOTSUPP, "locked" },
		{ WITH(MEMORY, "<memoryBacking><hugepages/></memoryBacking>", "", ""), -EOPNOTSUPP, "hugetlb" },
		{ WITH(MEMORY, "<memoryBacking><source type='anonymous'/></memoryBacking>", "", ""),
		  -EOPNOTSUPP, "anonymous" },
		{ WITH(MEMORY, "<memoryBacking><access mode='private'/></memoryBacking>", "", ""),
		  -EOPNOTSUPP, "private" },
		{ WITH(MEMORY, "", "<cpu><numa><cell id='0' memAccess='private'/></numa></cpu>", ""),
		  -EOPNOTSUPP, "NUMA" },
	};
	struct czone_vm_opts opts = options();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *xml = NULL, *added = NULL;

		cr_assert_eq(czone_domain_xml(bad[i].xml, &opts, &xml, &added), bad[i].error, "%s: %s",
			     bad[i].xml, czone_error_detail());
		cr_assert(strstr(czone_error_detail(), bad[i].word), "%s: %s", bad[i].xml,
			  czone_error_detail());
		cr_assert(!xml && !added);
	}
	/* a device on the VM's side of the world is none */
	char *xml = NULL;

	cr_assert_eq(czone_domain_xml(WITH(MEMORY, "", "", "<interface type='user'/>"), &opts, &xml, NULL), 0);
	free(xml);
}

Test(domain, no_slot_is_free)
{
	char xml[4000] = "<domain type='qemu'><name>d</name>" MEMORY
			 "<os><type arch='x86_64' machine='q35'/></os><devices>", *result = NULL;
	struct czone_vm_opts opts = options();

	for (int slot = 1; slot < 31; slot++)
		sprintf(xml + strlen(xml), "<controller><address type='pci' slot='0x%x'/></controller>", slot);
	strcat(xml, "</devices></domain>");
	cr_assert_eq(czone_domain_xml(xml, &opts, &result, NULL), -EINVAL);
	cr_assert(strstr(czone_error_detail(), "slot"), "%s", czone_error_detail());
}

#define refused(call, error, word) do {						\
	int result_ = (call);							\
	cr_assert_eq(result_, (error), "%s: %d (%s)", #call, result_, czone_error_detail()); \
	cr_assert(strstr(czone_error_detail(), (word)), "%s: %s", #call, czone_error_detail()); \
} while (0)

Test(domain, arguments)
{
	struct czone_vm_opts opts = options(), unset = { 0 };
	czone_vm *vm = NULL;
	char *xml = NULL;

	refused(czone_domain_xml(NULL, &opts, &xml, NULL), -EINVAL, "xml is NULL");
	refused(czone_domain_xml(PLAIN, &opts, NULL, NULL), -EINVAL, "ret_xml is NULL");
	refused(czone_domain_xml(PLAIN, NULL, &xml, NULL), -EINVAL, "NULL");
	refused(czone_domain_xml(PLAIN, &unset, &xml, NULL), -EINVAL, "CZONE_INIT");
	opts.state_dir = NULL;
	refused(czone_domain_xml(PLAIN, &opts, &xml, NULL), -EINVAL, "state_dir");
	opts.state_dir = "/nonexistent/x";
	refused(czone_domain_xml(PLAIN, &opts, &xml, NULL), -ENOENT, "/nonexistent/x");
	opts = options();
	opts.pool_bytes = 1;
	refused(czone_domain_xml(PLAIN, &opts, &xml, NULL), -EINVAL, "128 MiB");
	opts = options();
	opts.pool_backing = CZONE_POOL_FILE;
	refused(czone_domain_xml(PLAIN, &opts, &xml, NULL), -EINVAL, "pool_dir");

	opts = options();
	opts.domain_xml = PLAIN;
	opts.name = "x";
	refused(czone_vm_start(&opts, &vm), -EINVAL, "name and a domain_xml");
	opts.name = NULL;
	opts.uri = "test:///default";
	opts.connect = (struct _virConnect *)&opts;
	refused(czone_vm_start(&opts, &vm), -EINVAL, "uri and connect");
	opts.connect = NULL;
	opts.domain_xml = WITH(MEMORY, "", "", "<hostdev/>");
	refused(czone_vm_start(&opts, &vm), -EOPNOTSUPP, "hostdev");
	opts.flags = 2;
	refused(czone_vm_start(&opts, &vm), -EINVAL, "flags 0x2");
	opts.flags = 0;
	opts.domain_xml = "<domain/>";
	refused(czone_vm_start(&opts, &vm), -EINVAL, "<name>");

	refused(czone_open_domain(NULL, NULL, &vm), -EINVAL, "domain is NULL");
	refused(czone_open_domain((struct _virDomain *)&opts, NULL, NULL), -EINVAL, "ret_vm is NULL");
	refused(czone_open_domain((struct _virDomain *)&opts, &unset, &vm), -EINVAL, "CZONE_INIT");
	cr_assert_null(vm);
}

Test(domain, what_keeps_a_vm_from_starting)
{
	struct czone_vm_opts opts = options();
	czone_vm *vm = NULL;
	char path[200];

	opts.kernel = "/dev/null";
	opts.emulator = "/nonexistent/qemu";
	refused(czone_vm_start(&opts, &vm), -ENOEXEC, "/nonexistent/qemu");
	opts.emulator = "/bin/true";
	opts.uri = "nonsense://";
	refused(czone_vm_start(&opts, &vm), -EIO, "nonsense");
	opts.uri = NULL;
	snprintf(path, sizeof(path), "%s/%0100d", dir, 0);
	opts.state_dir = path;
	refused(czone_vm_start(&opts, &vm), -ENAMETOOLONG, "too long");
	rmdir(path);
	cr_assert_null(vm);
}

Test(domain, to_attach_to_needs_a_name_and_a_place)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);
	czone_vm *vm = NULL;

	refused(czone_vm_attach(&opts, &vm), -EINVAL, "state_dir");
	opts.uri = "test:///default";
	refused(czone_vm_attach(&opts, &vm), -EINVAL, "name");
	opts.name = "nobody";
	refused(czone_vm_attach(&opts, &vm), -ENOENT, "nobody runs at test:///default");
	opts.uri = "nonsense://";
	refused(czone_vm_attach(&opts, &vm), -EIO, "nonsense");
	/* libvirt's own test driver has a domain, but no czone device in it */
	opts.uri = "test:///default";
	opts.name = "test";
	refused(czone_vm_attach(&opts, &vm), -ENOENT, "no czone device");
	refused(czone_vm_attach(&opts, NULL), -EINVAL, "ret_vm");
}

Test(domain, of_the_caller_s_without_a_device)
{
	virConnectPtr connect = virConnectOpen("test:///default");
	virDomainPtr domain;
	czone_vm *vm = NULL;

	cr_assert_not_null(connect);
	domain = virDomainLookupByName(connect, "test");
	cr_assert_not_null(domain);
	refused(czone_open_domain(domain, NULL, &vm), -ENOENT, "no czone device");
	cr_assert_eq(virDomainDestroy(domain), 0);
	refused(czone_open_domain(domain, NULL, &vm), -ENOENT, "does not run");
	virDomainFree(domain);
	virConnectClose(connect);
}

Test(domain, a_socket_to_serve)
{
	struct czone_serve_opts opts = CZONE_INIT(opts);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct czone_vm_stats stats = CZONE_INIT(stats);
	czone_vm *vm = NULL, *other = NULL;
	struct stat st;
	int fd;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
	refused(czone_serve_socket(NULL, &vm), -EINVAL, "NULL");
	refused(czone_serve_socket(&opts, NULL), -EINVAL, "ret_vm");
	refused(czone_serve_socket(&opts, &vm), -EINVAL, "path");
	opts.path = address.sun_path;
	refused(czone_serve_socket(&opts, &vm), -EINVAL, "pool_bytes");
	opts.pool_bytes = GIB;
	refused(czone_serve_socket(&opts, &vm), -EINVAL, "pool_start");
	opts.pool_start = 4 * GIB;
	opts.backing_shift = 60;
	refused(czone_serve_socket(&opts, &vm), -EINVAL, "backing_shift");
	opts.backing_shift = 0;
	opts.report_shift = 30;
	refused(czone_serve_socket(&opts, &vm), -EINVAL, "report_shift");
	opts.report_shift = 0;
	cr_assert_eq(czone_serve_socket(&opts, &vm), 0, "%s", czone_error_detail());
	refused(czone_serve_socket(&opts, &other), -EADDRINUSE, "/s");
	cr_assert_eq(stat(opts.path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	refused(czone_vm_wait(vm, 20), -ETIMEDOUT, "not connected");
	refused(czone_vm_stats(vm, &stats), -ENOTCONN, "not there");
	refused(czone_vm_stop(vm), -EOPNOTSUPP, "whoever started");
	refused(czone_vm_detach(vm), -EOPNOTSUPP, "device goes");
	/* somebody who only looks whether we are there is not the VMM */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	refused(czone_vm_wait(vm, 100), -ETIMEDOUT, "");
	czone_vm_unref(vm);
	cr_assert_neq(stat(address.sun_path, &st), 0, "the socket is left");
}
