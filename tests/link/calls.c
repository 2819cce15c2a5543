/*
 * A host that makes the calls on spaces and objects that a layer of system calls needs besides those of hosted.c: sharing and
 * exchanging spaces, heap, limits, layout, areas, locked pages, memory files, segments, the memory of a device.
 *
 * One CPU, no sleep. Exit status 0: every answer and every byte was as it must be, and rumpvm's counters moved as each step says.
 */
#define CPUS 1
#define DEVICE_BYTES (16ull * PAGE)
#include "cpus.h"

#define AT 0x40000000ull
#define OTHER 0x50000000ull
#define R RUMPVM_PROT_READ
#define RW (RUMPVM_PROT_READ | RUMPVM_PROT_WRITE)
#define ANON (RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED)
#define SHARED (RUMPVM_MAP_SHARED | RUMPVM_MAP_FIXED)

static int load_there(rumpvm_space space, uint64_t at)
{
    EXPECT(rumpvm_space_switch(space) == 0);
    return load(space, at);
}

static void store_there(rumpvm_space space, uint64_t at, unsigned value)
{
    EXPECT(rumpvm_space_switch(space) == 0);
    store(space, at, value);
}

/* Two numbers are one space, until both are destroyed; exec leaves the other one what it had. */
static void sharing(rumpvm_space space)
{
    uint64_t free_before = statistics().frames_free;
    rumpvm_space other, fresh, stale;
    unsigned page;

    EXPECT(rumpvm_mmap(space, AT, 64 * PAGE, RW, ANON) == (int64_t)AT);
    EXPECT(rumpvm_space_share(space, NULL) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_space_share(space, &other) == 0 && other != space);
    for (page = 0; page < 64; page++)
        store_there(space, AT + page * PAGE, 's');
    EXPECT(load_there(other, AT) == 's' && rumpvm_space_root(other) == rumpvm_space_root(space));
    EXPECT(statistics().frames_free + 64 <= free_before);

    EXPECT(rumpvm_space_share(space, &fresh) == 0);
    stale = fresh;
    EXPECT(rumpvm_space_exec(&fresh) == 0 && fresh != stale);
    EXPECT(rumpvm_space_exec(&stale) == -RUMPVM_EBADF && rumpvm_space_share(stale, &stale) == -RUMPVM_EBADF);
    EXPECT(rumpvm_space_exec(NULL) == -RUMPVM_EINVAL);
    EXPECT(load_there(fresh, AT) == -RUMPVM_EFAULT && load_there(space, AT) == 's');
    EXPECT(rumpvm_space_destroy(fresh) == 0);

    EXPECT(rumpvm_space_destroy(other) == 0 && rumpvm_space_destroy(other) == -RUMPVM_EBADF);
    EXPECT(load_there(space, AT) == 's');
    EXPECT(rumpvm_munmap(space, AT, 64 * PAGE) == 0);
    check();
}

/* exec of the only number unmaps everything, in whatever state it is. */
static void exec_alone(void)
{
    struct rumpvm_statistics before;
    rumpvm_space space, old;
    unsigned page;

    EXPECT(rumpvm_space_create(&space) == 0);
    before = statistics();
    EXPECT(rumpvm_mmap(space, AT, 256 * PAGE, RW, ANON) == (int64_t)AT);
    for (page = 0; page < 256; page++)
        store_there(space, AT + page * PAGE, 'x');
    EXPECT(statistics().faults_zero_fill == before.faults_zero_fill + 256);
    old = space;
    EXPECT(rumpvm_space_exec(&space) == 0 && root == 0);
    EXPECT(rumpvm_fault(old, AT, RUMPVM_ACCESS_READ) == -RUMPVM_EBADF);
    EXPECT(load_there(space, AT) == -RUMPVM_EFAULT && rumpvm_space_resident(space) == 0);
    while (rumpvm_idle())
        ;
    EXPECT(statistics().frames_free + 1 >= before.frames_free);
    EXPECT(rumpvm_space_destroy(space) == 0);
}

static void heap_and_layout(rumpvm_space space)
{
    struct rumpvm_layout layout, wrong;
    int64_t low, high;

    EXPECT(rumpvm_set_brk_base(space, OTHER + 16) == 0 && rumpvm_brk_base(space) == (int64_t)OTHER + 16);
    EXPECT(rumpvm_brk(space, 0) == (int64_t)OTHER + 16);
    EXPECT(rumpvm_brk(space, OTHER + 3 * PAGE) == (int64_t)OTHER + 3 * (int64_t)PAGE);
    store_there(space, OTHER + 2 * PAGE, 'h');
    EXPECT(rumpvm_brk(space, OTHER + PAGE) == (int64_t)OTHER + PAGE);
    EXPECT(load_there(space, OTHER + 2 * PAGE) == -RUMPVM_EFAULT);
    /* What is in the way stops it where it is. */
    EXPECT(rumpvm_mmap(space, OTHER + 8 * PAGE, PAGE, R, ANON) > 0);
    EXPECT(rumpvm_brk(space, OTHER + 16 * PAGE) == (int64_t)OTHER + PAGE);
    EXPECT(rumpvm_munmap(space, OTHER, 16 * PAGE) == 0);

    EXPECT(rumpvm_layout(space, &layout) == 0 && layout.goes_up == 0);
    high = rumpvm_mmap(space, 0, PAGE, R, RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS);
    low = rumpvm_mmap(space, 0, 2 * PAGE, RW, RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS);
    EXPECT(high == (int64_t)layout.base - PAGE && low == high - 2 * (int64_t)PAGE);
    EXPECT(rumpvm_munmap(space, (uint64_t)low, 3 * PAGE) == 0);
    wrong = layout;
    wrong.goes_up = 2;
    EXPECT(rumpvm_set_layout(space, &wrong) == -RUMPVM_EINVAL && rumpvm_set_layout(space, NULL) == -RUMPVM_EINVAL);
    wrong.goes_up = 1;
    wrong.base = 0x10000000;
    EXPECT(rumpvm_set_layout(space, &wrong) == 0);
    EXPECT(rumpvm_mmap(space, 0, PAGE, R, RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS) == 0x10000000);
    EXPECT(rumpvm_munmap(space, 0x10000000, PAGE) == 0 && rumpvm_set_layout(space, &layout) == 0);

    EXPECT(rumpvm_reserve(space, AT, 4 * PAGE, RUMPVM_MAP_FIXED) == (int64_t)AT);
    /* mprotect passes over it. */
    EXPECT(rumpvm_mprotect(space, AT, PAGE, R) == 0 && load_there(space, AT) == -RUMPVM_EACCES);
    low = rumpvm_mmap(space, AT, PAGE, R, RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS);
    EXPECT(low > 0 && low != (int64_t)AT && rumpvm_munmap(space, (uint64_t)low, PAGE) == 0);
    EXPECT(rumpvm_reserve(space, AT, PAGE, RUMPVM_MAP_SHARED) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_munmap(space, AT, 4 * PAGE) == 0);
    EXPECT(rumpvm_set_brk_base(space, 0) == 0 && rumpvm_brk(space, PAGE) == 0 && rumpvm_fault(space, 0, RUMPVM_ACCESS_READ) < 0);
}

static void limits_and_areas(rumpvm_space space)
{
    struct rumpvm_limits limits, narrow;
    struct rumpvm_usage usage;
    struct rumpvm_area areas[4];
    struct rumpvm_commit_policy policy, strict;
    int64_t committed = rumpvm_committed();

    EXPECT(rumpvm_limits(space, &limits) == 0 && limits.is_ordinary == 0);
    narrow = limits;
    narrow.address_space = 4 * PAGE;
    narrow.locked = PAGE;
    EXPECT(rumpvm_set_limits(space, &narrow) == 0);
    EXPECT(rumpvm_mmap(space, AT, 5 * PAGE, RW, ANON) == -RUMPVM_ENOMEM);
    EXPECT(rumpvm_mmap(space, AT, 4 * PAGE, RW, ANON) == (int64_t)AT);
    EXPECT(rumpvm_mlock(space, AT, 2 * PAGE) < 0 && rumpvm_mlock(space, AT, PAGE) == 0);
    narrow.is_ordinary = 2;
    EXPECT(rumpvm_set_limits(space, &narrow) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_set_limits(space, &limits) == 0);

    EXPECT(rumpvm_usage(space, &usage) == 0);
    EXPECT(usage.mapped == 4 * PAGE && usage.locked == PAGE && usage.promised == 4 * PAGE && usage.areas == 2);
    EXPECT(usage.resident == 1 && usage.tables > 0 && rumpvm_committed() == committed + 4 * (int64_t)PAGE);
    EXPECT(rumpvm_mprotect(space, AT + 3 * PAGE, PAGE, R) == 0);
    EXPECT(rumpvm_areas(space, 0, areas, 4) == 3);
    EXPECT(areas[0].start == AT && areas[0].end == AT + PAGE && areas[0].flags == RUMPVM_AREA_LOCKED);
    EXPECT(areas[1].prot == RW && areas[2].prot == R && areas[2].end == AT + 4 * PAGE && areas[2].flags == 0);
    EXPECT(rumpvm_areas(space, areas[0].end, areas, 1) == 1 && areas[0].start == AT + PAGE);
    EXPECT(rumpvm_areas(space, AT + 4 * PAGE, areas, 4) == 0 && rumpvm_areas(space, 0, NULL, 1) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_munlockall(space) == 0 && rumpvm_munmap(space, AT, 4 * PAGE) == 0);

    EXPECT(rumpvm_commit_policy(&policy) == 0 && policy.mode == RUMPVM_COMMIT_HEURISTIC);
    strict = policy;
    strict.mode = 3;
    EXPECT(rumpvm_set_commit_policy(&strict) == -RUMPVM_EINVAL);
    strict.mode = RUMPVM_COMMIT_NEVER;
    strict.bytes = 8 * PAGE;
    strict.admin_reserve = strict.user_reserve = 0;
    EXPECT(rumpvm_set_commit_policy(&strict) == 0 && rumpvm_commit_limit() == 8 * (int64_t)PAGE);
    EXPECT(rumpvm_mmap(space, AT, 64 * PAGE, RW, ANON) == -RUMPVM_ENOMEM);
    EXPECT(rumpvm_set_commit_policy(&policy) == 0);
    EXPECT(rumpvm_mmap(space, AT, 64 * PAGE, RW, ANON) == (int64_t)AT);
    EXPECT(rumpvm_munmap(space, AT, 64 * PAGE) == 0);
}

static void locked_pages(rumpvm_space space)
{
    unsigned char resident[4];

    EXPECT(rumpvm_mmap(space, AT, 4 * PAGE, RW, ANON) == (int64_t)AT);
    EXPECT(rumpvm_mlock2(space, AT, PAGE, 2) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_mlock2(space, AT, 4 * PAGE, RUMPVM_MLOCK_ONFAULT) == 0);
    EXPECT(rumpvm_mincore(space, AT, 4 * PAGE, resident) == 0 && resident[0] == 0);
    EXPECT(rumpvm_munlockall(space) == 0 && rumpvm_mlockall(space, 8) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_mlockall(space, RUMPVM_MCL_CURRENT | RUMPVM_MCL_FUTURE) == 0);
    EXPECT(rumpvm_mincore(space, AT, 4 * PAGE, resident) == 0 && resident[0] == 1 && resident[3] == 1);
    EXPECT(rumpvm_mmap(space, OTHER, PAGE, RW, ANON) == (int64_t)OTHER);
    EXPECT(rumpvm_mincore(space, OTHER, PAGE, resident) == 0 && resident[0] == 1);
    EXPECT(rumpvm_munlockall(space) == 0);
    EXPECT(rumpvm_pkey_mprotect(space, OTHER, PAGE, R, 1) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_pkey_mprotect(space, OTHER, PAGE, R, -1) == 0);
    EXPECT(rumpvm_fault(space, OTHER, RUMPVM_ACCESS_WRITE) == -RUMPVM_EACCES);
    EXPECT(rumpvm_munmap(space, OTHER, PAGE) == 0 && rumpvm_munmap(space, AT, 4 * PAGE) == 0);
}

static void advice(rumpvm_space space)
{
    struct rumpvm_range ranges[2] = {{AT, PAGE}, {AT + 3 * PAGE, PAGE}};

    EXPECT(rumpvm_mmap(space, AT, 4 * PAGE, RW, ANON) == (int64_t)AT);
    store_there(space, AT, 'a');
    store_there(space, AT + PAGE, 'b');
    EXPECT(rumpvm_process_madvise(space, ranges, 2, 4, 0, 0) == -RUMPVM_EINVAL && load_there(space, AT) == 'a');
    EXPECT(rumpvm_process_madvise(space, ranges, 2, 4, 0, 1) == 2 * (int64_t)PAGE);
    EXPECT(load_there(space, AT) == 0 && load_there(space, AT + PAGE) == 'b');
    EXPECT(rumpvm_process_madvise(space, ranges, 1025, 4, 0, 1) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_madvise(space, NULL, 1, 4, 0, 1) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_process_madvise(space, ranges, 2, 3, 0, 2) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_munmap(space, AT, 4 * PAGE) == 0);
}

/* Written, mapped, holed, sealed. */
static void memory_files(rumpvm_space space)
{
    const char bytes[4] = {'m', 'e', 'm', 'o'};
    struct rumpvm_area area;
    rumpvm_object file, plain;
    char back[4];
    uint64_t free_before;

    EXPECT(rumpvm_object_memory_file(0x100, &file) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_memory_file(RUMPVM_MFD_ALLOW_SEALING, &file) == 0 && rumpvm_object_size(file) == 0);
    EXPECT(rumpvm_object_write(file, 3 * PAGE - 2, bytes, 4) == 4);
    EXPECT(rumpvm_object_size(file) == 3 * (int64_t)PAGE + 2);
    EXPECT(rumpvm_object_write(file, 0, NULL, 4) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_mmap_object(space, AT, 4 * PAGE, RW, SHARED, file, 0, RW) == (int64_t)AT);
    EXPECT(load_there(space, AT) == 0 && load_there(space, AT + 3 * PAGE - 1) == 'e');
    store_there(space, AT + 3 * PAGE, 'M');
    EXPECT(rumpvm_object_read(file, 3 * PAGE - 1, back, 4) == 3 && back[0] == 'e' && back[1] == 'M' && back[2] == 'o');
    EXPECT(rumpvm_areas(space, 0, &area, 1) == 1);
    EXPECT(area.flags == (RUMPVM_AREA_SHARED | RUMPVM_AREA_OBJECT) && area.offset == 0);

    /* The page at 3 in place of that at 0. */
    EXPECT(rumpvm_remap_file_pages(space, AT, PAGE, 0, 3, RUMPVM_MAP_NONBLOCK) == 0 && load_there(space, AT) == 'M');
    EXPECT(rumpvm_remap_file_pages(space, OTHER, PAGE, 0, 0, 0) == -RUMPVM_EINVAL);

    EXPECT(rumpvm_object_punch(file, 3 * PAGE, PAGE) == 0 && load_there(space, AT + 3 * PAGE) == 0);
    EXPECT(rumpvm_object_punch(file, 0, 0) == -RUMPVM_EINVAL);
    free_before = statistics().frames_free;
    EXPECT(rumpvm_object_allocate(file, 0, 32 * PAGE, 1) == 0 && rumpvm_object_size(file) == 3 * (int64_t)PAGE + 2);
    EXPECT(rumpvm_object_allocate(file, 0, 32 * PAGE, 2) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_allocate(file, 0, 32 * PAGE, 0) == 0 && rumpvm_object_size(file) == 32 * (int64_t)PAGE);
    EXPECT(statistics().frames_free + 28 <= free_before);

    EXPECT(rumpvm_object_add_seals(file, RUMPVM_SEAL_WRITE) == -RUMPVM_EBUSY);
    EXPECT(rumpvm_munmap(space, AT, 4 * PAGE) == 0);
    EXPECT(rumpvm_object_add_seals(file, 0x80) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_add_seals(file, RUMPVM_SEAL_WRITE | RUMPVM_SEAL_SHRINK) == 0);
    EXPECT(rumpvm_object_seals(file) == (RUMPVM_SEAL_WRITE | RUMPVM_SEAL_SHRINK));
    EXPECT(rumpvm_object_write(file, 0, bytes, 4) == -RUMPVM_EPERM && rumpvm_object_resize(file, 0) == -RUMPVM_EPERM);
    EXPECT(rumpvm_object_close(file) == 0 && rumpvm_object_size(file) == -RUMPVM_EBADF);
    EXPECT(rumpvm_object_memory_file(0, &plain) == 0);
    EXPECT(rumpvm_object_add_seals(plain, RUMPVM_SEAL_GROW) == -RUMPVM_EPERM && rumpvm_object_close(plain) == 0);
}

/* Shared, never copied, and its memory is none of rumpvm's. */
static void device(rumpvm_space space)
{
    unsigned char *registers = (unsigned char *)table(DEVICE_START);
    rumpvm_object screen, none;
    rumpvm_space child;
    struct rumpvm_statistics before;
    uint8_t byte = 0;

    EXPECT(rumpvm_object_device(DEVICE_START + 1, PAGE, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(DEVICE_START, PAGE + 1, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(DEVICE_START, 0, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(DEVICE_START, DEVICE_BYTES, NULL) == -RUMPVM_EINVAL);
    /* What rumpvm has is no device: not its page tables, nor the page before the device's first. */
    EXPECT(rumpvm_object_device((uint64_t)rumpvm_space_root(space), PAGE, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(DEVICE_START - PAGE, 2 * PAGE, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(0xfffffffffffff000ull, PAGE, &none) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device(DEVICE_START, DEVICE_BYTES, &screen) == 0);
    EXPECT(rumpvm_object_size(screen) == (int64_t)DEVICE_BYTES);
    EXPECT(rumpvm_mmap_object(space, AT, 4 * PAGE, RW, RUMPVM_MAP_PRIVATE | RUMPVM_MAP_FIXED, screen, 0, RW) < 0);
    EXPECT(rumpvm_mmap_object(space, AT, 8 * PAGE, RW, SHARED, screen, 4 * PAGE, RW) == (int64_t)AT);
    EXPECT(rumpvm_mmap_object(space, OTHER, PAGE, R, SHARED, screen, DEVICE_BYTES, RW) == (int64_t)OTHER);

    registers[4 * PAGE + 1] = 'd';
    before = statistics();
    EXPECT(load_there(space, AT + 1) == 'd');
    store_there(space, AT + 7 * PAGE, 'w');
    EXPECT(registers[11 * PAGE] == 'w');
    /* Pages of tables, perhaps, but none for what was loaded and stored. */
    EXPECT(statistics().faults_soft > before.faults_soft && statistics().faults_zero_fill == before.faults_zero_fill);
    EXPECT(load_there(space, OTHER) == -RUMPVM_EIO);
    EXPECT(rumpvm_copyin(space, AT + 1, &byte, 1) == -RUMPVM_EACCES && byte == 0);

    EXPECT(rumpvm_space_fork(space, &child) == 0);
    store_there(child, AT + 2, 'c');
    EXPECT(load_there(space, AT + 2) == 'c' && registers[4 * PAGE + 2] == 'c');
    EXPECT(rumpvm_object_resize(screen, PAGE) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_punch(screen, 0, PAGE) == -RUMPVM_EOPNOTSUPP);
    EXPECT(rumpvm_object_seals(screen) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_space_destroy(child) == 0 && rumpvm_object_close(screen) == 0);
    EXPECT(load_there(space, AT + 1) == 'd');
    check();
    EXPECT(rumpvm_munmap(space, AT, 8 * PAGE) == 0 && rumpvm_munmap(space, OTHER, PAGE) == 0);
    EXPECT(registers[4 * PAGE + 1] == 'd');
}

/* A frame of the host's is as good, and is not given back while it is mapped. */
static void own_frame(rumpvm_space space)
{
    int64_t frame = rumpvm_frame_alloc_run(1);
    rumpvm_object shown;

    EXPECT(frame > 0 && frame % (2 * (int64_t)PAGE) == 0 && rumpvm_frame_alloc_run(19) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_frame_free((uint64_t)frame + PAGE) == 0);
    EXPECT(rumpvm_object_device((uint64_t)frame, 2 * PAGE, &shown) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device((uint64_t)frame, PAGE, &shown) == 0);
    EXPECT(rumpvm_mmap_object(space, AT, PAGE, RW, SHARED, shown, 0, RW) == (int64_t)AT);
    store_there(space, AT, 'h');
    EXPECT(*(unsigned char *)table((uint64_t)frame) == 'h' && rumpvm_frame_free((uint64_t)frame) == -RUMPVM_EBUSY);
    check();
    EXPECT(rumpvm_munmap(space, AT, PAGE) == 0 && rumpvm_object_close(shown) == 0);
    EXPECT(rumpvm_frame_free((uint64_t)frame) == 0 && rumpvm_frame_free((uint64_t)frame) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_object_device((uint64_t)frame, PAGE, &shown) == -RUMPVM_EINVAL);
}

/* What a child gets of each page, what moves, and what need not stay any more. */
static void inherited_and_moved(rumpvm_space space)
{
    struct rumpvm_usage usage;
    rumpvm_space child;
    int64_t moved;

    EXPECT(rumpvm_mmap(space, AT, 3 * PAGE, RW, ANON) == (int64_t)AT);
    store_there(space, AT, 'a');
    store_there(space, AT + PAGE, 'b');
    store_there(space, AT + 2 * PAGE, 'c');
    EXPECT(rumpvm_minherit(space, AT, PAGE, RUMPVM_INHERIT_NONE) == 0);
    EXPECT(rumpvm_minherit(space, AT + PAGE, PAGE, RUMPVM_INHERIT_ZERO) == 0);
    EXPECT(rumpvm_minherit(space, AT, PAGE, 4) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_space_fork(space, &child) == 0);
    EXPECT(load_there(child, AT) == -RUMPVM_EFAULT && load_there(child, AT + PAGE) == 0);
    EXPECT(load_there(child, AT + 2 * PAGE) == 'c' && load_there(space, AT + PAGE) == 'b');
    EXPECT(rumpvm_space_destroy(child) == 0);

    EXPECT(rumpvm_mlock(space, AT + 2 * PAGE, PAGE) == 0 && rumpvm_usage(space, &usage) == 0 && usage.locked == PAGE);
    EXPECT(rumpvm_munlock(space, AT + 2 * PAGE, PAGE) == 0 && rumpvm_munlock(space, OTHER, PAGE) == -RUMPVM_ENOMEM);
    EXPECT(rumpvm_usage(space, &usage) == 0 && usage.locked == 0);

    EXPECT(rumpvm_mremap(space, AT + 2 * PAGE, PAGE, 2 * PAGE, 4096, 0) == -RUMPVM_EINVAL);
    moved = rumpvm_mremap(space, AT + 2 * PAGE, PAGE, 2 * PAGE, RUMPVM_MREMAP_MAYMOVE | RUMPVM_MREMAP_FIXED, OTHER);
    EXPECT(moved == (int64_t)OTHER && load_there(space, OTHER) == 'c' && load_there(space, OTHER + PAGE) == 0);
    EXPECT(load_there(space, AT + 2 * PAGE) == -RUMPVM_EFAULT && load_there(space, AT) == 'a');
    EXPECT(rumpvm_munmap(space, AT, 2 * PAGE) == 0 && rumpvm_munmap(space, OTHER, 2 * PAGE) == 0);
}

static void segments(rumpvm_space space, rumpvm_space other)
{
    const uint32_t groups[1] = {7};
    struct rumpvm_caller owner, stranger, wrong;
    struct rumpvm_segment_limits most, few;
    struct rumpvm_segment_totals totals;
    struct rumpvm_segment segment;
    int64_t id, at;

    memset(&owner, 0, sizeof owner);
    owner.uid = 1000;
    owner.gid = 7;
    owner.pid = 42;
    owner.now = 1000000;
    stranger = wrong = owner;
    stranger.uid = 2000;
    stranger.gid = 8;
    EXPECT(rumpvm_shmget(&owner, 99, 2 * PAGE, 0) == -RUMPVM_ENOENT);
    EXPECT(rumpvm_shmget(NULL, 99, 2 * PAGE, RUMPVM_IPC_CREAT) == -RUMPVM_EINVAL);
    wrong.group_count = 1;
    EXPECT(rumpvm_shmget(&wrong, 99, 2 * PAGE, RUMPVM_IPC_CREAT) == -RUMPVM_EINVAL);
    id = rumpvm_shmget(&owner, 99, 2 * PAGE, RUMPVM_IPC_CREAT | 0640);
    EXPECT(id >= 0 && rumpvm_shmget(&owner, 99, PAGE, 0) == id);
    EXPECT(rumpvm_shmget(&owner, 99, PAGE, RUMPVM_IPC_CREAT | RUMPVM_IPC_EXCL) == -RUMPVM_EEXIST);
    EXPECT(rumpvm_shmat(&stranger, other, (int32_t)id, 0, RUMPVM_SHM_RDONLY) == -RUMPVM_EACCES);
    stranger.groups = groups;
    stranger.group_count = 1;
    at = rumpvm_shmat(&owner, space, (int32_t)id, 0, 0);
    EXPECT(at > 0 && rumpvm_shmat(&stranger, other, (int32_t)id, AT, RUMPVM_SHM_RDONLY) == (int64_t)AT);
    store_there(space, (uint64_t)at + PAGE, 'g');
    EXPECT(load_there(other, AT + PAGE) == 'g');
    EXPECT(rumpvm_fault(other, AT, RUMPVM_ACCESS_WRITE) == -RUMPVM_EACCES);

    EXPECT(rumpvm_shm_status(&owner, (int32_t)id, RUMPVM_SHM_BY_NUMBER, &segment) == 0);
    EXPECT(segment.id == id && segment.key == 99 && segment.bytes == 2 * PAGE && segment.attachments == 2);
    EXPECT(segment.uid == 1000 && segment.creator == 42 && segment.attached == 1000000 && segment.mode == 0640);
    EXPECT(rumpvm_shm_status(&owner, 0, RUMPVM_SHM_BY_PLACE_ANY, &segment) == 0 && segment.id == id);
    EXPECT(rumpvm_shm_status(&owner, 0, 3, &segment) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_shm_totals(&totals) == 0 && totals.segments == 1 && totals.pages == 2 && totals.resident == 1);
    EXPECT(rumpvm_shm_limits(&most) == 0);
    few = most;
    few.segments = 1;
    EXPECT(rumpvm_shm_set_limits(&few) == 0);
    EXPECT(rumpvm_shmget(&owner, RUMPVM_IPC_PRIVATE, PAGE, 0600) == -RUMPVM_ENOSPC);
    EXPECT(rumpvm_shm_set_limits(&most) == 0);

    EXPECT(rumpvm_shm_set(&stranger, (int32_t)id, 1, 1, 0777) == -RUMPVM_EPERM);
    EXPECT(rumpvm_shm_lock(&owner, space, (int32_t)id, 1) == 0);
    EXPECT(rumpvm_shm_set(&owner, (int32_t)id, 1000, 7, 0600) == 0);
    EXPECT(rumpvm_shm_remove(&stranger, (int32_t)id) == -RUMPVM_EPERM && rumpvm_shm_remove(&owner, (int32_t)id) == 0);
    EXPECT(rumpvm_shmget(&owner, 99, PAGE, 0) == -RUMPVM_ENOENT);
    EXPECT(load_there(other, AT + PAGE) == 'g');
    EXPECT(rumpvm_shmdt(&owner, space, (uint64_t)at) == 0 && rumpvm_shmdt(&owner, space, (uint64_t)at) == -RUMPVM_EINVAL);
    EXPECT(rumpvm_shmdt(&stranger, other, AT) == 0);
    EXPECT(rumpvm_shm_totals(&totals) == 0 && totals.segments == 0);
}

int main(void)
{
    rumpvm_space space, other;
    struct rumpvm_statistics end;
    uint64_t free_before;

    begin_cpus();
    EXPECT(rumpvm_space_create(&space) == 0 && rumpvm_space_create(&other) == 0);
    /* The heap has grown as far as it will by now. */
    check();
    free_before = statistics().frames_free;
    sharing(space);
    exec_alone();
    heap_and_layout(space);
    limits_and_areas(space);
    locked_pages(space);
    advice(space);
    memory_files(space);
    device(space);
    own_frame(space);
    inherited_and_moved(space);
    segments(space, other);
    check();
    EXPECT(rumpvm_space_destroy(space) == 0 && rumpvm_space_destroy(other) == 0 && root == 0);
    while (rumpvm_idle())
        ;
    check();
    end = statistics();
    EXPECT(end.frames_free >= free_before && rumpvm_committed() == 0);
    printf("calls: rumpvm counted %llu zero-filled, %llu already there, %llu refused, %llu tables\n",
           (unsigned long long)end.faults_zero_fill, (unsigned long long)end.faults_soft,
           (unsigned long long)end.faults_failed, (unsigned long long)end.tables_made);
    return 0;
}
