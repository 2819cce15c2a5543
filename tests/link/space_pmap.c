/*
 * The kernel's spaces are its own: a map of a few areas, pages with a count of who shares them, copy-on-write by hand. rumpvm
 * has frames and page tables for it (`rumpvm lib --layer pmap`), by the interface that BSD and Mach have there.
 *
 * Nothing is wired: the fault handler enters again what rumpvm may have dropped. Contents go to frames through a window of kernel
 * addresses, one page at a time.
 *
 * Locks: one, around all of this. Its holder may wait for the other CPU to flush, so who waits for it takes interrupts.
 */
#include "kernel.h"
#include "machine.h"
#include "space.h"

#define SPACES 4
#define AREAS 4
#define PAGES 32

#ifdef __x86_64__
#define WINDOW 0xffffc00000000000ull
#else
#define WINDOW 0xfc000000ull /* behind the direct map */
#endif

/* Of a page fault's code. */
#define STORE 2u
#define FETCH 16u

#define READ RUMPVM_PROT_READ
#define WRITE RUMPVM_PROT_WRITE
#define EXEC RUMPVM_PROT_EXEC

/* A frame with contents, and how many areas have it. */
struct page {
    uint64_t frame;
    unsigned users;
};

/* Memory of one page. */
struct area {
    uint64_t at;
    uint32_t prot; /* 0 if there is no area here */
    struct page *page; /* null until it is touched */
};

struct map {
    rumpvm_pmap pmap; /* 0 if there is no space here */
    struct area areas[AREAS];
};

static struct map maps[SPACES];
static struct page pages[PAGES];
static int held, has_window;
static unsigned copied, reused, zeroed, prefaulted;

static void lock(void)
{
    while (__atomic_exchange_n(&held, 1, __ATOMIC_ACQUIRE))
        __asm__ volatile("pause");
}

static void unlock(void)
{
    __atomic_store_n(&held, 0, __ATOMIC_RELEASE);
}

static struct map *map_of(space space)
{
    EXPECT(space > 0 && space <= SPACES && maps[space - 1].pmap != 0);
    return &maps[space - 1];
}

static struct area *find(struct map *map, uint64_t at)
{
    unsigned number;

    for (number = 0; number < AREAS; number++) {
        struct area *area = &map->areas[number];

        if (area->prot != 0 && at - area->at < PAGE)
            return area;
    }
    return 0;
}

static struct page *page_of(uint64_t frame)
{
    unsigned number;

    for (number = 0; number < PAGES; number++) {
        if (pages[number].users == 0) {
            pages[number].frame = frame;
            pages[number].users = 1;
            return &pages[number];
        }
    }
    EXPECT(!"there is room for a page");
    return 0;
}

static void leave(struct page *page)
{
    if (page != 0 && --page->users == 0)
        EXPECT(rumpvm_frame_free(page->frame) == 0);
}

/* Calls that this map has no use for otherwise, on one page of a pmap of its own. */
static void try_the_rest(void)
{
    const uint64_t at = 0x10000000;
    const int64_t got = rumpvm_frame_alloc(0);
    const uint64_t frame = (uint64_t)got;
    volatile uint32_t *contents;
    uint32_t prot, flags = 7;
    rumpvm_pmap pmap;

    EXPECT(got > 0 && rumpvm_pmap_create(&pmap) == 0);
    contents = seen(frame);
    *contents = 1;
    EXPECT(rumpvm_page_zero(frame) == 0 && *contents == 0 && rumpvm_page_zero(frame + 1) == -RUMPVM_EINVAL);

    EXPECT(rumpvm_pmap_enter(pmap, at, frame, READ | WRITE, RUMPVM_PMAP_WIRED) == 0);
    EXPECT(rumpvm_pmap_root(pmap) > 0 && rumpvm_frame_free((uint64_t)rumpvm_pmap_root(pmap)) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_page_is_modified(frame) == 0 && rumpvm_pmap_activate(pmap) == 0);
    *(volatile uint32_t *)(uintptr_t)at = 2;
    EXPECT(rumpvm_pmap_deactivate() == 0 && *contents == 2);
    EXPECT(rumpvm_page_clear_modify(frame) == 1 && rumpvm_page_is_modified(frame) == 0);
    EXPECT(rumpvm_page_clear_modify(frame) == 0);

    /* Wired it stays; and a pmap stays as long as somebody has a reference. */
    EXPECT(rumpvm_pmap_reference(pmap) == 0 && rumpvm_pmap_destroy(pmap) == 0);
    EXPECT(rumpvm_pmap_collect(pmap) == 0 && rumpvm_pmap_resident(pmap) == 1);
    EXPECT(rumpvm_pmap_change_wiring(pmap, at + PAGE, 0) == -RUMPVM_EFAULT);
    EXPECT(rumpvm_pmap_change_wiring(pmap, at, 0) == 0);
    EXPECT(rumpvm_pmap_extract(pmap, at + 5, &prot, &flags) == got + 5 && (prot & WRITE) && flags == 0);
    EXPECT(rumpvm_pmap_collect(pmap) == 0 && rumpvm_pmap_resident(pmap) == 0);
    EXPECT(rumpvm_pmap_destroy(pmap) == 0 && rumpvm_pmap_reference(pmap) == -RUMPVM_EBADF);
    EXPECT(rumpvm_frame_free(frame) == 0);
}

static space create(void)
{
    unsigned number;

    if (!has_window) {
        has_window = 1;
        /* Not where the kernel has something. */
        EXPECT(rumpvm_kernel_window(DIRECT_MAP, DIRECT_MAP + PAGE, 0, 0) == -RUMPVM_EEXIST);
        EXPECT(rumpvm_kernel_window(WINDOW, WINDOW + PAGE, RUMPVM_WINDOW_GLOBAL, 0) == 0);
        EXPECT(rumpvm_kernel_window(WINDOW, WINDOW + PAGE, RUMPVM_WINDOW_GLOBAL, 0) == -RUMPVM_EEXIST);
        EXPECT(rumpvm_kernel_prepare(WINDOW, PAGE) == 0);
        try_the_rest();
    }
    for (number = 0; number < SPACES; number++) {
        if (maps[number].pmap == 0) {
            EXPECT(rumpvm_pmap_create(&maps[number].pmap) == 0);
            return number + 1;
        }
    }
    EXPECT(!"there is room for a space");
    return 0;
}

space space_create(void)
{
    space made;

    lock();
    made = create();
    unlock();
    return made;
}

space space_fork(space parent)
{
    struct map *from, *to;
    unsigned number;
    space child;
    int64_t present;

    lock();
    from = map_of(parent);
    child = create();
    to = map_of(child);
    for (number = 0; number < AREAS; number++) {
        struct area *area = &from->areas[number];

        to->areas[number] = *area;
        if (area->prot == 0 || area->page == 0)
            continue;
        area->page->users++;
        /* Who stores first has a fault, and copies. */
        EXPECT(rumpvm_pmap_protect(from->pmap, area->at, PAGE, READ | EXEC) == 0);
        present = rumpvm_pmap_copy(to->pmap, area->at, from->pmap, area->at, PAGE);
        EXPECT(present == 0 || present == 1);
        prefaulted += (unsigned)present;
    }
    unlock();
    return child;
}

void space_switch(space space)
{
    EXPECT(rumpvm_pmap_activate(map_of(space)->pmap) == 0);
}

void space_map(space space, uint64_t at, uint64_t bytes)
{
    struct map *map;
    unsigned number;

    lock();
    map = map_of(space);
    EXPECT(bytes == PAGE && find(map, at) == 0);
    for (number = 0; map->areas[number].prot != 0; number++)
        EXPECT(number + 1 < AREAS);
    map->areas[number].at = at;
    map->areas[number].prot = READ | WRITE;
    map->areas[number].page = 0;
    unlock();
}

void space_protect(space space, uint64_t at, uint64_t bytes)
{
    struct map *map;
    struct area *area;

    lock();
    map = map_of(space);
    area = find(map, at);
    EXPECT(bytes == PAGE && area != 0);
    area->prot = READ | EXEC;
    EXPECT(rumpvm_pmap_protect(map->pmap, at, PAGE, READ | EXEC) == 0);
    unlock();
}

static void unmap(struct map *map, struct area *area)
{
    EXPECT(rumpvm_pmap_remove(map->pmap, area->at, PAGE) == 0);
    leave(area->page);
    area->page = 0;
    area->prot = 0;
}

void space_unmap(space space, uint64_t at, uint64_t bytes)
{
    struct map *map;
    struct area *area;

    lock();
    map = map_of(space);
    area = find(map, at);
    EXPECT(bytes == PAGE && area != 0 && area->page != 0);
    /* The other CPU loads from it and never stores; when it has gone, rumpvm still knows. */
    EXPECT(rumpvm_page_is_referenced(area->page->frame) == 1);
    EXPECT(rumpvm_page_is_modified(area->page->frame) == 0);
    EXPECT(rumpvm_page_protect(area->page->frame, 0) == 0);
    EXPECT(rumpvm_pmap_extract(map->pmap, at, 0, 0) == -RUMPVM_EFAULT);
    EXPECT(rumpvm_page_clear_reference(area->page->frame) == 1);
    EXPECT(rumpvm_page_is_referenced(area->page->frame) == 0);
    unmap(map, area);
    unlock();
}

void space_destroy(space space)
{
    struct map *map;
    unsigned number;

    lock();
    map = map_of(space);
    for (number = 0; number < AREAS; number++)
        if (map->areas[number].prot != 0)
            unmap(map, &map->areas[number]);
    EXPECT(rumpvm_pmap_resident(map->pmap) == 0);
    EXPECT(rumpvm_pmap_destroy(map->pmap) == 0);
    EXPECT(rumpvm_pmap_resident(map->pmap) == -RUMPVM_EBADF);
    map->pmap = 0;
    unlock();
}

static int fault(struct map *map, uint64_t at, uint32_t code)
{
    const uint32_t wanted = code & STORE ? WRITE : code & FETCH ? EXEC : READ;
    struct area *area = find(map, at);
    uint32_t prot;

    if (area == 0)
        return -RUMPVM_EFAULT;
    if ((area->prot & wanted) == 0)
        return -RUMPVM_EACCES;
    if (area->page == 0) {
        int64_t frame = rumpvm_frame_alloc(RUMPVM_FRAME_ZERO);

        if (frame < 0)
            return (int)frame;
        area->page = page_of((uint64_t)frame);
        zeroed++;
    } else if (wanted == WRITE && area->page->users > 1) {
        int64_t frame = rumpvm_frame_alloc(0);

        if (frame < 0)
            return (int)frame;
        EXPECT(rumpvm_page_copy(area->page->frame, (uint64_t)frame) == 0);
        leave(area->page);
        area->page = page_of((uint64_t)frame);
        copied++;
    } else if (wanted == WRITE) {
        reused++;
    }
    prot = area->prot;
    if (area->page->users > 1)
        prot &= ~(uint32_t)WRITE;
    return rumpvm_pmap_enter(map->pmap, area->at, area->page->frame, prot, 0);
}

int space_fault(space space, uint64_t at, uint32_t code)
{
    int error;

    lock();
    error = fault(map_of(space), at, code);
    unlock();
    return error;
}

void space_copy_out(space space, const void *from, uint64_t at, size_t bytes)
{
    struct map *map;
    int64_t frame;

    lock();
    map = map_of(space);
    EXPECT(at % PAGE + bytes <= PAGE);
    EXPECT(fault(map, at, STORE) == 0);
    frame = rumpvm_pmap_extract(map->pmap, at - at % PAGE, 0, 0);
    EXPECT(frame > 0);
    EXPECT(rumpvm_kernel_enter(WINDOW, (const uint64_t *)&frame, 1, READ | WRITE) == 0);
    memcpy((void *)(uintptr_t)(WINDOW + at % PAGE), from, bytes);
    EXPECT(rumpvm_kernel_remove(WINDOW, PAGE) == 0);
    EXPECT(rumpvm_page_is_modified((uint64_t)frame) == 0);
    unlock();
}

void space_report(void)
{
    static struct rumpvm_statistics end;
    static char story[256];
    unsigned number;

    if (rumpvm_check(story, sizeof story) != 0) {
        say(story);
        EXPECT(!"the check passes");
    }
    for (number = 0; number < PAGES; number++)
        EXPECT(pages[number].users == 0);
    EXPECT(rumpvm_statistics(&end, sizeof end) == 0);
    EXPECT(copied > 0 && zeroed > 0 && prefaulted > 0);
    EXPECT(end.pmap_enters >= copied + zeroed && end.tables_made > 0);
    EXPECT(end.forks == 0 && end.faults_copy == 0 && end.faults_zero_fill == 0);
    EXPECT(CPUS == 1 || end.flushes_remote > 0);
    say("a map of its own counted ");
    say_number(copied);
    say(" copied, ");
    say_number(reused);
    say(" reused; rumpvm ");
    say_number((unsigned long)end.pmap_enters);
    say(" entered, ");
    say_number((unsigned long)end.flushes_remote);
    say(" flushes on the other CPU, ");
    say_number((unsigned long)end.frames_free);
    say(" of ");
    say_number((unsigned long)end.frames_total);
    say(" pages free\n");
}
