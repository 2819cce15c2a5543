/* The time stamp counter, and pages to try with it. */
#include "expect.h"
#include <sys/mman.h>

enum { PAGE = 4096 };

static inline unsigned long ticks(void) {
    unsigned low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (unsigned long)high << 32 | low;
}

static char *map(size_t pages, int flags) {
    char *at = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE | flags, -1, 0);
    EXPECT(at != MAP_FAILED);
    return at;
}

static void unmap(char *at, size_t pages) {
    EXPECT(munmap(at, pages * PAGE) == 0);
}

static void protect(char *at, size_t pages, int rights) {
    EXPECT(mprotect(at, pages * PAGE, rights) == 0);
}

static void store(char *at, size_t pages) {
    for (size_t page = 0; page < pages; page++)
        *(volatile char *)(at + page * PAGE) = 1;
}

static void load(char *at, size_t pages) {
    for (size_t page = 0; page < pages; page++)
        (void)*(volatile char *)(at + page * PAGE);
}
