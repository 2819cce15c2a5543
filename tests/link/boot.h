/* Where RAM is, as whoever started the kernel says. */
#ifndef BOOT_H
#define BOOT_H

#include <stdint.h>

#define MOST_RANGES 32

struct range {
    uint64_t start, end;
};

/* Stores where RAM is, MOST_RANGES at most, and returns how many there are. `magic` and `info` are what was in EAX and EBX. */
unsigned boot_memory(uint32_t magic, uint64_t info, struct range *ranges);

#endif
