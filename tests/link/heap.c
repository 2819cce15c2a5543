/*
 * A host without an allocator of its own: rumpvm_malloc and its like, and a zone. C, and C++ too.
 *
 * Blocks keep their bytes, lie where they were asked for, and do not overlap; all pages come back; rumpvm's own counters say
 * that they were its pages. Exit status 0: everything was as it must be.
 */
#include "pretend.h"

#define BLOCKS 3000

static struct { unsigned char *at; size_t size; } blocks[BLOCKS];

/* Whether `size` bytes at `at` are `value`. */
static int holds(const unsigned char *at, size_t size, unsigned char value)
{
    size_t i;

    for (i = 0; i < size; i++)
        if (at[i] != value)
            return 0;
    return 1;
}

static int by_address(const void *a, const void *b)
{
    const unsigned char *one = *(unsigned char *const *)a, *other = *(unsigned char *const *)b;

    return one < other ? -1 : one > other;
}

/* Takes blocks of many sizes, resizes some, frees them in another order. */
static void general(void)
{
    unsigned char *sorted[BLOCKS];
    unsigned i;

    for (i = 0; i < BLOCKS; i++) {
        blocks[i].size = i % 100 == 0 ? 300 * (size_t)i : (i * 37) % 700;
        blocks[i].at = (unsigned char *)rumpvm_malloc(blocks[i].size);
        EXPECT(blocks[i].at != NULL && (uintptr_t)blocks[i].at % 16 == 0);
        EXPECT(blocks[i].at >= ram && blocks[i].at + blocks[i].size <= ram + RAM_BYTES);
        EXPECT(rumpvm_malloc_usable_size(blocks[i].at) >= blocks[i].size);
        memset(blocks[i].at, (int)(i % 251), blocks[i].size);
        if (i % 3 == 0) {
            size_t size = blocks[i].size * 2 + 1, old = blocks[i].size;

            blocks[i].at = (unsigned char *)rumpvm_realloc(blocks[i].at, size);
            EXPECT(blocks[i].at != NULL && holds(blocks[i].at, old, (unsigned char)(i % 251)));
            blocks[i].size = size;
            memset(blocks[i].at, (int)(i % 251), size);
        }
    }
    for (i = 0; i < BLOCKS; i++)
        sorted[i] = blocks[i].at;
    qsort(sorted, BLOCKS, sizeof *sorted, by_address);
    for (i = 1; i < BLOCKS; i++)
        EXPECT(sorted[i - 1] < sorted[i]);
    for (i = 0; i < BLOCKS; i++) {
        unsigned at = i * 7 % BLOCKS;

        EXPECT(BLOCKS % 7 != 0 && holds(blocks[at].at, blocks[at].size, (unsigned char)(at % 251)));
        rumpvm_free(blocks[at].at);
    }
}

static void special(void)
{
    unsigned char *at = (unsigned char *)rumpvm_calloc(100, 30);
    size_t align;

    EXPECT(at != NULL && holds(at, 3000, 0));
    rumpvm_free(at);
    EXPECT(rumpvm_calloc(SIZE_MAX / 2, 4) == NULL && rumpvm_malloc(SIZE_MAX) == NULL);
    EXPECT(rumpvm_malloc(RAM_BYTES) == NULL && rumpvm_memalign(24, 8) == NULL);
    for (align = 1; align <= 1 * MIB; align *= 2) {
        void *block = rumpvm_memalign(align, 100);

        EXPECT(block != NULL && (uintptr_t)block % align == 0);
        rumpvm_free(block);
    }
    rumpvm_free(NULL);
    EXPECT(rumpvm_malloc_usable_size(NULL) == 0);
    at = (unsigned char *)rumpvm_realloc(NULL, 10);
    EXPECT(at != NULL);
    memset(at, 5, 10);
    EXPECT(rumpvm_realloc(at, SIZE_MAX) == NULL && holds(at, 10, 5));
    rumpvm_free(at);
}

static unsigned constructed, destroyed;

static void construct(void *item)
{
    memset(item, 'c', 200);
    constructed++;
}

static void destroy(void *item)
{
    EXPECT(holds((unsigned char *)item, 200, 'c'));
    destroyed++;
}

static void zones(void)
{
    struct rumpvm_zone *zone;
    struct rumpvm_zone_usage usage;
    void *items[120];
    unsigned taken = 0, i;

    EXPECT(rumpvm_zone_create("conns", 0, 8, 0, NULL, NULL, &zone) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_zone_create("conns", 200, 12, 0, NULL, NULL, &zone) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_zone_create("conns", 200, 64, 50, construct, destroy, &zone) == 0);
    while (taken < 120 && (items[taken] = rumpvm_zone_alloc(zone)) != NULL) {
        EXPECT((uintptr_t)items[taken] % 64 == 0);
        EXPECT(holds((unsigned char *)items[taken], 200, 'c'));
        taken++;
    }
    EXPECT(taken >= 50 && taken < 120);
    EXPECT(rumpvm_zone_usage(zone, &usage) == 0);
    EXPECT(usage.out == taken && usage.taken == taken && usage.failed == 1 && usage.frames > 0);
    EXPECT(rumpvm_zone_destroy(zone) == -RUMPVM_EBUSY);
    for (i = 0; i < taken; i++)
        rumpvm_zone_free(zone, items[i]);
    rumpvm_zone_drain(zone);
    EXPECT(rumpvm_zone_usage(zone, &usage) == 0 && usage.out == 0);
    EXPECT(rumpvm_zone_destroy(zone) == 0);
    EXPECT(constructed >= taken && constructed == destroyed);
}

int main(void)
{
    struct rumpvm_hypercalls calls = pretend_unmapped();
    struct rumpvm_statistics before, during, after;
    void *first;

    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    EXPECT(rumpvm_malloc(1) == NULL);
    /* Enough for rumpvm's own records and not for more: it keeps that, says so, and goes on from there. */
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START + 64 * PAGE) == -RUMPVM_ENOMEM);
    EXPECT(strstr(rumpvm_reason(), "first records") != NULL && rumpvm_malloc(1) == NULL);
    EXPECT(rumpvm_add_memory(1ull << 60, (1ull << 60) + MIB) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_add_memory(RAM_START + 64 * PAGE, RAM_START + 65 * PAGE) < 0);
    EXPECT(rumpvm_add_memory(RAM_START + 65 * PAGE, RAM_START + RAM_BYTES) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
    /* The check needs room in the heap of records, and the first block makes the heap. */
    check();
    first = rumpvm_malloc(40 * PAGE);
    EXPECT(first != NULL);
    during = statistics();
    rumpvm_free(first);
    rumpvm_malloc_drain();
    before = statistics();
    EXPECT(before.frames_free >= during.frames_free + 40);

    general();
    special();
    zones();

    rumpvm_malloc_drain();
    after = statistics();
    EXPECT(after.frames_free == before.frames_free);
    check();
    printf("heap: %u blocks and %u items came and went; %llu of %llu pages free, as before; 40 were taken for the first\n",
           BLOCKS, constructed, (unsigned long long)after.frames_free, (unsigned long long)after.frames_total);
    return 0;
}
