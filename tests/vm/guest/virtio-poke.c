// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * virtio-poke: behind the back of a virtio driver, from the guest's user space,
 * through the PCI BAR that has the common configuration.
 *
 *   virtio-poke PCI_DEVICE_DIR status          prints the device status
 *   virtio-poke PCI_DEVICE_DIR status VALUE    writes it: 0 is a reset
 *   virtio-poke PCI_DEVICE_DIR queue INDEX     prints "SIZE USED_RING_ADDRESS"
 */
#include <err.h>
#include <fcntl.h>
#include <linux/virtio_pci.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CAP_LIST 0x34
#define CAP_VENDOR 9

static const char *directory;

static int open_in(const char *name, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static volatile uint8_t *common_config(void)
{
	struct virtio_pci_cap cap;
	uint8_t config[256], at;
	char name[16];
	void *bar;
	int fd;

	fd = open_in("config", O_RDONLY);
	if (pread(fd, config, sizeof(config), 0) != sizeof(config))
		err(1, "configuration space");
	close(fd);
	for (at = config[CAP_LIST]; at; at = config[at + 1]) {
		memcpy(&cap, config + at, sizeof(cap));
		if (cap.cap_vndr == CAP_VENDOR && cap.cfg_type == VIRTIO_PCI_CAP_COMMON_CFG)
			break;
	}
	if (!at)
		errx(1, "%s is no virtio device", directory);
	snprintf(name, sizeof(name), "resource%d", cap.bar);
	fd = open_in(name, O_RDWR);
	bar = mmap(NULL, cap.offset + cap.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		err(1, "%s", name);
	close(fd);
	return (volatile uint8_t *)bar + cap.offset;
}

int main(int argc, char **argv)
{
	volatile uint8_t *common;
	uint32_t low, high;

	if (argc < 3)
		errx(2, "usage: virtio-poke PCI_DEVICE_DIR status [VALUE] | queue INDEX");
	directory = argv[1];
	common = common_config();
	if (!strcmp(argv[2], "status")) {
		if (argc == 4)
			common[VIRTIO_PCI_COMMON_STATUS] = strtoul(argv[3], NULL, 0);
		printf("%u\n", common[VIRTIO_PCI_COMMON_STATUS]);
	} else if (!strcmp(argv[2], "queue") && argc == 4) {
		*(volatile uint16_t *)(common + VIRTIO_PCI_COMMON_Q_SELECT) = atoi(argv[3]);
		low = *(volatile uint32_t *)(common + VIRTIO_PCI_COMMON_Q_USEDLO);
		high = *(volatile uint32_t *)(common + VIRTIO_PCI_COMMON_Q_USEDHI);
		printf("%u %llu\n", *(volatile uint16_t *)(common + VIRTIO_PCI_COMMON_Q_SIZE),
		       (unsigned long long)high << 32 | low);
	} else {
		errx(2, "unknown: %s", argv[2]);
	}
	return 0;
}
