/*
 * A host in a process: 64 MiB of pretend RAM, one pretend CPU that walks the page tables that rumpvm makes, no threads.
 *
 * It creates two spaces, forks one, stores in both, and looks through the tables, frame by frame, at which memory is shared
 * and which was copied. Exit status 0: everything was as it must be, and rumpvm's own counters say that it did the work.
 * It is C, and C++ too.
 *
 * Flow: store() or load() -> walk() -> no entry that permits it: rumpvm_fault(), once more -> a byte of `ram`.
 */
#include "pretend.h"

static uint64_t root; /* the CPU's CR3; 0 for none */
static unsigned activations, invalidations, faults;

/* The hypercalls. A process is not interrupted, so there is nothing to mask. */

static size_t intr_save(void)
{
    return 0;
}

static void intr_restore(size_t state)
{
    (void)state;
}

static void tlb_activate(uint64_t to)
{
    root = to;
    activations++;
}

/* This CPU has no TLB: every access walks. */
static void tlb_invalidate(uint64_t start, uint64_t end)
{
    EXPECT(start < end && start % PAGE == 0 && end % PAGE == 0);
    invalidations++;
}

/* The pretend CPU. */

/* The byte behind `address` in the active space, after a fault if need be; null if that is refused, with why in `*error`. */
static unsigned char *touch(rumpvm_space space, uint64_t address, int writes, int *error)
{
    uint64_t *entry = walk(root, address, writes);

    *error = 0;
    while (entry == NULL) {
        faults++;
        *error = rumpvm_fault(space, address, writes ? RUMPVM_ACCESS_WRITE : RUMPVM_ACCESS_READ);
        if (*error != 0)
            return NULL;
        entry = walk(root, address, writes);
    }
    return (unsigned char *)table(*entry & FRAME) + address % PAGE;
}

static int store(rumpvm_space space, uint64_t address, unsigned char value)
{
    unsigned char *byte;
    int error;

    EXPECT(rumpvm_space_switch(space) == 0);
    byte = touch(space, address, 1, &error);
    if (byte != NULL)
        *byte = value;
    return error;
}

static int load(rumpvm_space space, uint64_t address)
{
    unsigned char *byte;
    int error;

    EXPECT(rumpvm_space_switch(space) == 0);
    byte = touch(space, address, 0, &error);
    return byte == NULL ? error : *byte;
}

/* The frame that `space` has at `address`, or 0; and whether a store would pass. */
static uint64_t frame(rumpvm_space space, uint64_t address, int *writable)
{
    int64_t top = rumpvm_space_root(space);
    uint64_t *entry;

    EXPECT(top > 0);
    entry = walk((uint64_t)top, address, 0);
    *writable = walk((uint64_t)top, address, 1) != NULL;
    return entry == NULL ? 0 : *entry & FRAME;
}

/* The steps. */

static void refusals(struct rumpvm_hypercalls good)
{
    struct rumpvm_hypercalls bad = good;
    rumpvm_space space;

    EXPECT(rumpvm_space_create(&space) == -RUMPVM_ENODEV);
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START + RAM_BYTES) == -RUMPVM_ENODEV);
    EXPECT(rumpvm_init(RUMPVM_VERSION + 1, &good) == -RUMPVM_EINVAL);
    EXPECT(strstr(rumpvm_reason(), "version") != NULL);
    EXPECT(rumpvm_init(RUMPVM_VERSION, NULL) == -RUMPVM_EINVAL);
    bad.panic = NULL;
    EXPECT(rumpvm_init(RUMPVM_VERSION, &bad) == -RUMPVM_EINVAL);
    EXPECT(strstr(rumpvm_reason(), "panic") != NULL);
    bad = good;
    bad.tlb_invalidate = NULL;
    EXPECT(rumpvm_init(RUMPVM_VERSION, &bad) == -RUMPVM_EINVAL);
    EXPECT(strstr(rumpvm_reason(), "tlb_invalidate") != NULL);
    bad = good;
    bad.intr_save = NULL;
    bad.intr_restore = NULL;
    EXPECT(rumpvm_init(RUMPVM_VERSION, &bad) == -RUMPVM_EINVAL);
    EXPECT(strstr(rumpvm_reason(), "ring 0") != NULL);
}

static void begin(void)
{
    const uint64_t middle = RAM_START + RAM_BYTES / 2;
    uint64_t start = RAM_START;
    struct rumpvm_hypercalls calls;

    calls = pretend();
    calls.intr_save = intr_save;
    calls.intr_restore = intr_restore;
    calls.tlb_activate = tlb_activate;
    calls.tlb_invalidate = tlb_invalidate;
    refusals(calls);
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_cpu_attach() == -RUMPVM_ENODEV);

    /* A first range that is too small, then one that overlaps another. */
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_add_memory(RAM_START, start + 4 * PAGE) == -RUMPVM_ENOMEM);
    EXPECT(strstr(rumpvm_reason(), "too small") != NULL);
    start += 4 * PAGE;
    EXPECT(rumpvm_add_memory(start, middle) == 0);
    EXPECT(rumpvm_add_memory(middle - PAGE, RAM_START + RAM_BYTES) == -RUMPVM_EEXIST);
    EXPECT(rumpvm_add_memory(middle, RAM_START + RAM_BYTES) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
    EXPECT(rumpvm_cpu_attach() == -RUMPVM_EEXIST);
}

/* Two spaces have different memory at the same address, and it begins with zeros. */
static void two_spaces(rumpvm_space one, rumpvm_space other, uint64_t at, uint64_t length)
{
    int writable;
    uint32_t prot = RUMPVM_PROT_READ | RUMPVM_PROT_WRITE;
    uint32_t flags = RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED_NOREPLACE;

    EXPECT(load(one, at) == -RUMPVM_EFAULT);
    EXPECT(rumpvm_mmap(one, at, length, prot, flags) == (int64_t)at);
    EXPECT(rumpvm_mmap(one, at, length, prot, flags) == -RUMPVM_EEXIST);
    EXPECT(rumpvm_mmap(other, at, length, prot, flags) == (int64_t)at);
    EXPECT(rumpvm_mmap(other, 0, length, prot, RUMPVM_MAP_PRIVATE) == -RUMPVM_EOPNOTSUPP);
    EXPECT(load(one, at) == 0);
    EXPECT(store(one, at, 'p') == 0 && store(other, at, 'o') == 0);
    EXPECT(load(one, at) == 'p' && load(other, at) == 'o');
    EXPECT(frame(one, at, &writable) != frame(other, at, &writable));
}

/* A fork shares every frame, read-only; a store copies its own page alone; the last owner of a page stores without a copy. */
static void copy_on_write(rumpvm_space parent, uint64_t at, unsigned pages)
{
    struct rumpvm_statistics before, after;
    rumpvm_space child;
    uint64_t shared;
    unsigned page;
    int writable;

    for (page = 0; page < pages; page++)
        EXPECT(store(parent, at + page * PAGE, (unsigned char)(page + 1)) == 0);
    before = statistics();
    EXPECT(rumpvm_space_fork(parent, &child) == 0);
    after = statistics();
    EXPECT(after.forks == before.forks + 1);
    /* A root and a few tables, whatever was mapped. */
    EXPECT(before.frames_free - after.frames_free < pages);

    for (page = 0; page < pages; page++) {
        EXPECT(load(child, at + page * PAGE) == (int)(unsigned char)(page + 1));
        shared = frame(child, at + page * PAGE, &writable);
        EXPECT(!writable && shared != 0 && shared == frame(parent, at + page * PAGE, &writable));
        EXPECT(!writable);
    }

    before = statistics();
    EXPECT(store(child, at, 'c') == 0);
    after = statistics();
    EXPECT(after.faults_copy == before.faults_copy + 1);
    EXPECT(load(child, at) == 'c' && load(parent, at) == 1);
    EXPECT(frame(child, at, &writable) != frame(parent, at, &writable));
    EXPECT(load(child, at + PAGE) == 2 && load(parent, at + PAGE) == 2);
    EXPECT(frame(child, at + PAGE, &writable) == frame(parent, at + PAGE, &writable));
    check();

    /* The parent is the only owner of its page 0 now. */
    shared = frame(parent, at, &writable);
    before = statistics();
    EXPECT(store(parent, at, 'p') == 0);
    after = statistics();
    EXPECT(after.faults_copy == before.faults_copy && after.faults_reuse == before.faults_reuse + 1);
    EXPECT(frame(parent, at, &writable) == shared && writable);
    EXPECT(load(child, at) == 'c');

    EXPECT(rumpvm_space_destroy(child) == 0);
    EXPECT(rumpvm_space_destroy(child) == -RUMPVM_EBADF);
    EXPECT(rumpvm_fault(child, at, RUMPVM_ACCESS_READ) == -RUMPVM_EBADF);
}

static void no_link(uint64_t address, uint32_t level, uint64_t entry)
{
    (void)address;
    (void)level;
    (void)entry;
    EXPECT(!"no window is opened");
}

/* Behind a switch a window is too late: spaces have the host's entries as they were. */
static void late_window(void)
{
    const uint64_t upper = 0xffffc00000000000ull;

    EXPECT(rumpvm_kernel_window(upper, upper, 0, no_link) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_kernel_window(0x40000000, 0x40001000, 0, no_link) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_kernel_window(upper, upper + PAGE, 0, no_link) == -RUMPVM_EBUSY);
    EXPECT(rumpvm_kernel_remove(upper, PAGE) == -RUMPVM_ENODEV);
}

/* What a system-call layer does. */
static void calls(rumpvm_space space, uint64_t at, uint64_t length)
{
    const char name[] = "/bin/init";
    char back[sizeof name];
    unsigned char resident[2];
    size_t size = 0;
    uint64_t edge = at + length - 4;

    EXPECT(rumpvm_copyout(space, name, at + PAGE - 5, sizeof name) == 0);
    EXPECT(rumpvm_copyin(space, at + PAGE - 5, back, sizeof back) == 0);
    EXPECT(strcmp(back, name) == 0);
    memset(back, 'x', sizeof back);
    EXPECT(rumpvm_copyinstr(space, at + PAGE - 5, back, sizeof back, &size) == 0);
    EXPECT(size == sizeof name && strcmp(back, name) == 0);
    EXPECT(rumpvm_copyinstr(space, at + PAGE - 5, back, 4, NULL) == -RUMPVM_ENAMETOOLONG);
    EXPECT(rumpvm_copyout(space, name, edge, sizeof name) == -RUMPVM_EFAULT);

    EXPECT(rumpvm_mprotect(space, at, PAGE, RUMPVM_PROT_READ) == 0);
    EXPECT(store(space, at, 1) == -RUMPVM_EACCES);
    EXPECT(rumpvm_copyout(space, name, at, 1) == -RUMPVM_EACCES);
    EXPECT(rumpvm_fault_code(space, at, 7) == -RUMPVM_EACCES);
    EXPECT(rumpvm_fault_code(space, at, 4) == 0);
    EXPECT(rumpvm_mprotect(space, at, PAGE, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE) == 0);
    EXPECT(store(space, at, 1) == 0);

    EXPECT(rumpvm_madvise(space, at, PAGE, 4) == 0);
    EXPECT(rumpvm_mincore(space, at, 2 * PAGE, resident) == 0);
    EXPECT(resident[0] == 0 && resident[1] == 1);
    EXPECT(load(space, at) == 0);
    EXPECT(rumpvm_munmap(space, at, length) == 0);
    EXPECT(load(space, at) == -RUMPVM_EFAULT);
}

/* A file of the host's: two pages and a half. */

#define FILE_BYTES (2 * PAGE + PAGE / 2)

static unsigned char contents[3 * PAGE];
static unsigned reads, writes, closes;
static int broken; /* every operation fails */

static uint64_t file_length(void *cookie)
{
    EXPECT(cookie == contents);
    return FILE_BYTES;
}

static int64_t file_read(void *cookie, uint64_t offset, uint8_t *into, size_t length)
{
    EXPECT(cookie == contents && offset < FILE_BYTES);
    reads++;
    if (broken)
        return -RUMPVM_EIO;
    if (length > FILE_BYTES - offset)
        length = (size_t)(FILE_BYTES - offset);
    memcpy(into, contents + offset, length);
    return (int64_t)length;
}

static int32_t file_write(void *cookie, uint64_t offset, const uint8_t *from, size_t length)
{
    EXPECT(cookie == contents && offset + length <= FILE_BYTES);
    writes++;
    if (broken)
        return -RUMPVM_EIO;
    memcpy(contents + offset, from, length);
    return 0;
}

static void file_close(void *cookie)
{
    EXPECT(cookie == contents);
    closes++;
}

/* A page is read once, for all; a private store stays private; a shared one reaches the file when it is asked to. */
static void files(rumpvm_space space, rumpvm_space other, uint64_t at)
{
    const uint32_t rw = RUMPVM_PROT_READ | RUMPVM_PROT_WRITE, r = RUMPVM_PROT_READ;
    const uint32_t fixed = RUMPVM_MAP_FIXED;
    struct rumpvm_pager pager;
    rumpvm_object file, again, memory;
    uint8_t back[4];

    memset(&pager, 0, sizeof pager);
    memset(contents, 'f', sizeof contents);
    pager.size = sizeof pager;
    pager.length = file_length;
    EXPECT(rumpvm_object_open(&pager, contents, 1, 2, &file) == -RUMPVM_EINVAL && closes == 0);
    pager.read = file_read;
    pager.write = file_write;
    pager.close = file_close;
    EXPECT(rumpvm_object_open(&pager, contents, 1, 2, &file) == 0 && closes == 0);
    EXPECT(rumpvm_object_open(&pager, contents, 1, 2, &again) == 0 && closes == 1);

    EXPECT(rumpvm_mmap_object(space, at, 4 * PAGE, rw, RUMPVM_MAP_SHARED | fixed, file, 0, r) == -RUMPVM_EACCES);
    EXPECT(rumpvm_mmap_object(space, at, 4 * PAGE, rw, RUMPVM_MAP_SHARED | fixed, file, 0, rw) == (int64_t)at);
    EXPECT(rumpvm_mmap_object(other, at, 4 * PAGE, rw, RUMPVM_MAP_PRIVATE | fixed, again, 0, r) == (int64_t)at);
    EXPECT(rumpvm_object_close(again) == 0 && rumpvm_object_close(again) == -RUMPVM_EBADF);

    EXPECT(load(space, at + PAGE) == 'f' && load(other, at + PAGE) == 'f');
    /* Beyond the end there are zeros in the last page, and no further page. */
    EXPECT(load(space, at + FILE_BYTES) == 0 && load(space, at + 3 * PAGE) == -RUMPVM_EIO);
    EXPECT(store(other, at + PAGE, 'o') == 0);
    EXPECT(load(space, at + PAGE) == 'f' && load(other, at + PAGE) == 'o');
    EXPECT(store(space, at, 's') == 0);
    EXPECT(load(other, at) == 's' && contents[0] == 'f');
    EXPECT(rumpvm_object_read(file, 0, back, sizeof back) == sizeof back && back[0] == 's' && back[1] == 'f');

    broken = 1;
    EXPECT(rumpvm_msync(space, at, 3 * PAGE, RUMPVM_MS_SYNC) == -RUMPVM_EIO && contents[0] == 'f');
    broken = 0;
    EXPECT(rumpvm_msync(space, at, 3 * PAGE, RUMPVM_MS_SYNC) == 0 && contents[0] == 's' && contents[1] == 'f');
    EXPECT(reads == 3 && writes == 2);

    EXPECT(store(space, at + PAGE + 2, 'y') == 0);
    broken = 1;
    EXPECT(rumpvm_object_sync(file) == -RUMPVM_EIO && contents[PAGE + 2] == 'f' && writes == 3);
    broken = 0;
    EXPECT(rumpvm_object_sync(file) == 0 && contents[PAGE + 2] == 'y' && writes == 4);
    EXPECT(rumpvm_object_sync(file) == 0 && writes == 4 && rumpvm_object_sync(again) == -RUMPVM_EBADF);

    /* The mappings keep the file when its number is closed; the last of them ends it. */
    EXPECT(store(space, at + 1, 't') == 0);
    EXPECT(rumpvm_object_close(file) == 0 && closes == 1);
    EXPECT(rumpvm_munmap(other, at, 4 * PAGE) == 0);
    EXPECT(rumpvm_munmap(space, at, 4 * PAGE) == 0);
    EXPECT(writes == 5 && contents[1] == 't');

    EXPECT(rumpvm_object_memory((uint64_t)INT64_MAX + 1, &memory) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_memory(2 * PAGE, &memory) == 0);
    EXPECT(rumpvm_mmap_object(space, at, 2 * PAGE, rw, RUMPVM_MAP_SHARED | fixed, memory, 0, rw) == (int64_t)at);
    EXPECT(rumpvm_mmap_object(other, at, 2 * PAGE, r, RUMPVM_MAP_SHARED | fixed, memory, 0, r) == (int64_t)at);
    EXPECT(store(space, at + PAGE, 'm') == 0 && load(other, at + PAGE) == 'm');
    EXPECT(store(other, at, 1) == -RUMPVM_EACCES);
    EXPECT(rumpvm_object_sync(memory) == 0);
    EXPECT(rumpvm_object_resize(memory, PAGE) == 0 && load(other, at + PAGE) == -RUMPVM_EIO);
    EXPECT(rumpvm_object_close(memory) == 0);
    EXPECT(rumpvm_munmap(space, at, 2 * PAGE) == 0 && rumpvm_munmap(other, at, 2 * PAGE) == 0);
}

int main(void)
{
    const uint64_t at = 0x40000000, length = 1 * MIB;
    struct rumpvm_statistics end;
    uint64_t free_before;
    rumpvm_space one, other;

    begin();
    EXPECT(rumpvm_space_create(&one) == 0 && rumpvm_space_create(&other) == 0 && one != other);
    two_spaces(one, other, at, length);
    late_window();
    /* The heap has grown as far as it will by now. */
    check();
    free_before = statistics().frames_free;
    copy_on_write(one, at, length / PAGE);
    calls(one, at, length);
    files(one, other, at + length);
    check();
    EXPECT(rumpvm_space_destroy(one) == 0 && rumpvm_space_destroy(other) == 0);
    EXPECT(root == 0);
    while (rumpvm_idle())
        ;
    check();
    /* The record of the file has gone with its last reader, and the cookie with it. */
    EXPECT(closes == 2);

    end = statistics();
    EXPECT(end.frames_free >= free_before);
    EXPECT(end.forks == 1 && end.faults_copy >= 1 && end.faults_reuse >= 1 && end.tables_shared >= 1);
    EXPECT(end.faults_zero_fill >= length / PAGE && faults > end.faults_zero_fill);
    printf("hosted: %u faults, %u activations, %u invalidations; rumpvm counted %llu zero-filled, "
           "%llu copied, %llu reused, %llu tables shared by a fork\n",
           faults, activations, invalidations, (unsigned long long)end.faults_zero_fill,
           (unsigned long long)end.faults_copy, (unsigned long long)end.faults_reuse,
           (unsigned long long)end.tables_shared);
    printf("hosted: %llu of %llu pages free, %llu of %llu bytes of the heap in use\n",
           (unsigned long long)end.frames_free, (unsigned long long)end.frames_total,
           (unsigned long long)end.heap_used, (unsigned long long)end.heap_total);
    return 0;
}
