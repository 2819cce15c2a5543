/*
 * Where RAM is: the maps of Multiboot (version 0.6.96, section 3.3) and of PVH (Xen's public/arch-x86/hvm/start_info.h), as far
 * as they are looked at.
 */
#include "boot.h"
#include "kernel.h"
#include "machine.h"

#define MULTIBOOT 0x2badb002u
#define HAS_MAP (1u << 6)
#define PVH 0x336ec578u
#define RAM 1u

struct multiboot {
    uint32_t flags, lower, upper, device, command_line, modules, module_list, symbols[4];
    uint32_t map_bytes, map;
};

struct multiboot_entry {
    uint32_t size; /* without itself */
    uint64_t start, bytes;
    uint32_t type;
} __attribute__((packed));

struct pvh {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp, map;
    uint32_t map_entries, reserved;
};

struct pvh_entry {
    uint64_t start, bytes;
    uint32_t type, reserved;
};

static unsigned note(struct range *ranges, unsigned count, uint64_t start, uint64_t bytes, uint32_t type)
{
    if (type != RAM || count == MOST_RANGES)
        return count;
    ranges[count].start = start;
    ranges[count].end = start + bytes;
    return count + 1;
}

unsigned boot_memory(uint32_t magic, uint64_t info, struct range *ranges)
{
    unsigned count = 0;

    if (magic == MULTIBOOT) {
        const struct multiboot *given = seen(info);
        uint32_t at = 0;

        say("kernel: started by Multiboot\n");
        EXPECT(given->flags & HAS_MAP);
        while (at < given->map_bytes) {
            const struct multiboot_entry *one = seen(given->map + at);

            count = note(ranges, count, one->start, one->bytes, one->type);
            at += one->size + sizeof one->size;
        }
    } else {
        const struct pvh *given = seen(info);
        uint32_t at;

        EXPECT(given->magic == PVH);
        say("kernel: started by PVH\n");
        for (at = 0; at < given->map_entries; at++) {
            const struct pvh_entry *one = seen(given->map + at * sizeof *one);

            count = note(ranges, count, one->start, one->bytes, one->type);
        }
    }
    return count;
}
