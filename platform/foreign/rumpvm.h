/*
 * rumpvm: virtual memory for your kernel. Link with rumpvm.o, or with -lrumpvm.
 *
 * In which order: rumpvm_init, once; rumpvm_add_memory, the first on the same CPU; rumpvm_cpu_attach on each CPU; then all
 * others. Before, they return -RUMPVM_ENODEV.
 *
 * What holds for all calls unless it says otherwise:
 *
 * - Addresses and lengths are in bytes, a page is 4096 bytes, times are nanoseconds.
 * - Errors are Linux's error numbers, negative. After an error nothing has changed.
 * - "From a thread": not from an interrupt, with no spin lock held, and on a stack of at least 16 KiB. Such a call may wait for
 *   other CPUs, which must be able to take the interrupt of the hypercall tlb_ipi, and it may call the hypercall sleep.
 *   "From anywhere": also from the handler of an interrupt that the hypercall intr_save masks.
 * - Several CPUs and threads may call at once.
 * - rumpvm is compiled without floating point, vector registers and red zone, and has no constructors; it uses no thread-local
 *   storage, and no memory but its own .data and .bss and what rumpvm_add_memory was given.
 *
 * A library is for one format of page tables, and says so if the CPU has another. The first entries of a root belong to rumpvm,
 * the last ones to the host, which lives there:
 *
 *  rumpvm lib --target   tables                     user memory to        entries of the host   needs
 *  x86_64                four levels (long mode)    0x7ffffffff000        256 of 512            EFER.NXE
 *  i386                  two levels                 0xc0000000            256 of 1024           CR4.PAE off
 *  i386-pae              three levels               0xc0000000            1 of 4                CR4.PAE, EFER.NXE
 *
 * Made by `cargo xtask header`; do not edit.
 */

#ifndef RUMPVM_H
#define RUMPVM_H

#include <stddef.h>
#include <stdint.h>

// A load.
#define RUMPVM_ACCESS_READ 1

// A store, or a read-modify-write.
#define RUMPVM_ACCESS_WRITE 2

// An instruction fetch.
#define RUMPVM_ACCESS_EXECUTE 4

// Of an area: stores go to the object.
#define RUMPVM_AREA_SHARED 1

// Of an area: a stack, which faults extend.
#define RUMPVM_AREA_GROWSDOWN 2

// Of an area: its pages stay in memory.
#define RUMPVM_AREA_LOCKED 4

// Of an area: nothing can be used there; see rumpvm_reserve.
#define RUMPVM_AREA_RESERVED 8

// Of an area: it has an object, of which `offset` is the first byte there.
#define RUMPVM_AREA_OBJECT 16

// Of an area: that is a file of the host's, with `device` and `inode`.
#define RUMPVM_AREA_FILE 32

// Not permitted: a limit, or a seal.
#define RUMPVM_EPERM 1

// Nothing has that name.
#define RUMPVM_ENOENT 2

// There is no such process, or it has been waited for.
#define RUMPVM_ESRCH 3

// Input or output failed, or an object ends before that page: SIGBUS.
#define RUMPVM_EIO 5

// There is no such space, or it has ended.
#define RUMPVM_EBADF 9

// There is no child to wait for.
#define RUMPVM_ECHILD 10

// Temporarily impossible.
#define RUMPVM_EAGAIN 11

// No memory; or, of a range, that part of it is not mapped.
#define RUMPVM_ENOMEM 12

// The mapping does not give that right: SIGSEGV, SEGV_ACCERR.
#define RUMPVM_EACCES 13

// Nothing is mapped there: SIGSEGV, SEGV_MAPERR.
#define RUMPVM_EFAULT 14

// Locked, or in use.
#define RUMPVM_EBUSY 16

// There is something already.
#define RUMPVM_EEXIST 17

// Too early: rumpvm_init, or the first memory, is missing.
#define RUMPVM_ENODEV 19

// An argument makes no sense.
#define RUMPVM_EINVAL 22

// It would become longer than an object can be.
#define RUMPVM_EFBIG 27

// A table is full.
#define RUMPVM_ENOSPC 28

// A string has no end within the room for it.
#define RUMPVM_ENAMETOOLONG 36

// Offset and length are more than an object can have.
#define RUMPVM_EOVERFLOW 75

// Not supported.
#define RUMPVM_EOPNOTSUPP 95

// An invariant is broken.
#define RUMPVM_EUCLEAN 117

// Of rumpvm_process_wait: do not sleep.
#define RUMPVM_WNOHANG 1

// State of a process: it has a space.
#define RUMPVM_STATE_RUNNING 0

// State of a process: it has exited, and nobody has waited for it.
#define RUMPVM_STATE_ZOMBIE 1

// Of rumpvm_frame_alloc: the frame is full of zeros.
#define RUMPVM_FRAME_ZERO 1

// Version of this interface. A library serves hosts that were compiled against the same one.
#define RUMPVM_VERSION 1

// Words of 64 bits in a set of CPUs: CPU n is bit n % 64 of word n / 64.
#define RUMPVM_CPU_WORDS 4

// In place of a moment: never.
#define RUMPVM_NEVER UINT64_MAX

// One request larger than all memory is refused (Linux's mode 0).
#define RUMPVM_COMMIT_HEURISTIC 0

// Nothing is refused (mode 1).
#define RUMPVM_COMMIT_ALWAYS 1

// What goes beyond the limit in sum is refused (mode 2).
#define RUMPVM_COMMIT_NEVER 2

// Of rumpvm_mlock2: pages are not brought in, but stay once they are.
#define RUMPVM_MLOCK_ONFAULT 1

// Of rumpvm_mlockall: what is mapped now.
#define RUMPVM_MCL_CURRENT 1

// Of rumpvm_mlockall: what is mapped from now on.
#define RUMPVM_MCL_FUTURE 2

// Of rumpvm_mlockall, with either: pages are not brought in, but stay once they are.
#define RUMPVM_MCL_ONFAULT 4

// Loads.
#define RUMPVM_PROT_READ 1

// Stores.
#define RUMPVM_PROT_WRITE 2

// Instruction fetches.
#define RUMPVM_PROT_EXEC 4

// Stores are seen by all who share the memory, children above all.
#define RUMPVM_MAP_SHARED 1

// Stores are one's own.
#define RUMPVM_MAP_PRIVATE 2

// In place of RUMPVM_MAP_PRIVATE: pages that may go when memory is short.
#define RUMPVM_MAP_DROPPABLE 8

// Exactly at the hint, replacing what is there.
#define RUMPVM_MAP_FIXED 16

// Zero-filled memory: of rumpvm_mmap, and not of rumpvm_mmap_object.
#define RUMPVM_MAP_ANONYMOUS 32

// Below 2 GiB.
#define RUMPVM_MAP_32BIT 64

// A stack: faults below extend it.
#define RUMPVM_MAP_GROWSDOWN 256

// The pages stay in memory.
#define RUMPVM_MAP_LOCKED 8192

// It is not counted against memory.
#define RUMPVM_MAP_NORESERVE 16384

// The pages are brought in at once.
#define RUMPVM_MAP_POPULATE 32768

// With RUMPVM_MAP_POPULATE, and of rumpvm_remap_file_pages: nothing is brought in.
#define RUMPVM_MAP_NONBLOCK 65536

// Exactly at the hint, or not at all.
#define RUMPVM_MAP_FIXED_NOREPLACE 1048576

// It may move.
#define RUMPVM_MREMAP_MAYMOVE 1

// It must move to the new address, replacing what is there.
#define RUMPVM_MREMAP_FIXED 2

// It moves, and the old range stays mapped, empty.
#define RUMPVM_MREMAP_DONTUNMAP 4

// A child gets the same memory.
#define RUMPVM_INHERIT_SHARE 0

// A child gets a copy.
#define RUMPVM_INHERIT_COPY 1

// A child gets nothing.
#define RUMPVM_INHERIT_NONE 2

// A child gets zeros.
#define RUMPVM_INHERIT_ZERO 3

// Of rumpvm_object_memory_file: seals can be added.
#define RUMPVM_MFD_ALLOW_SEALING 2

// Of rumpvm_object_memory_file: not executable, and sealed so; other seals can be added.
#define RUMPVM_MFD_NOEXEC_SEAL 8

// Of rumpvm_object_memory_file: executable, as it is without this.
#define RUMPVM_MFD_EXEC 16

// Seal: no more seals.
#define RUMPVM_SEAL_SEAL 1

// Seal: it does not become shorter.
#define RUMPVM_SEAL_SHRINK 2

// Seal: it does not become longer.
#define RUMPVM_SEAL_GROW 4

// Seal: nobody stores to it.
#define RUMPVM_SEAL_WRITE 8

// Seal: nobody stores to it but through mappings that there are already.
#define RUMPVM_SEAL_FUTURE_WRITE 16

// Seal: whether it is executable does not change.
#define RUMPVM_SEAL_EXEC 32

// Of rumpvm_msync: begin to write.
#define RUMPVM_MS_ASYNC 1

// Of rumpvm_msync: other mappings must see it; they always do.
#define RUMPVM_MS_INVALIDATE 2

// Of rumpvm_msync: write, and return when it is done.
#define RUMPVM_MS_SYNC 4

// Of rumpvm_pmap_enter and its like: the mapping stays until the host takes it away.
#define RUMPVM_PMAP_WIRED 1

// Of rumpvm_shm_status: `id` is a segment's number (IPC_STAT).
#define RUMPVM_SHM_BY_NUMBER 0

// Of rumpvm_shm_status: `id` is a place in the table (SHM_STAT).
#define RUMPVM_SHM_BY_PLACE 1

// Of rumpvm_shm_status: `id` is a place in the table, whoever asks (SHM_STAT_ANY).
#define RUMPVM_SHM_BY_PLACE_ANY 2

// Of rumpvm_shmget, for `key`: a segment that nobody finds by its key.
#define RUMPVM_IPC_PRIVATE 0

// Of rumpvm_shmget: make it if there is none with that key.
#define RUMPVM_IPC_CREAT 512

// Of rumpvm_shmget, with RUMPVM_IPC_CREAT: fail if there is one.
#define RUMPVM_IPC_EXCL 1024

// Of rumpvm_shmget: it is not counted against memory.
#define RUMPVM_SHM_NORESERVE 4096

// Of rumpvm_shmat: to load only.
#define RUMPVM_SHM_RDONLY 4096

// Of rumpvm_shmat: round the address down.
#define RUMPVM_SHM_RND 8192

// Of rumpvm_shmat: in place of what is there.
#define RUMPVM_SHM_REMAP 16384

// Of rumpvm_shmat: to execute, too.
#define RUMPVM_SHM_EXEC 32768

// Words of 64 bits in struct rumpvm_thread.
#define RUMPVM_THREAD_WORDS 256

// Of rumpvm_kernel_window: CPUs keep its translations when CR3 is loaded, if CR4.PGE is on.
#define RUMPVM_WINDOW_GLOBAL 1

// A zone.
struct rumpvm_zone;

// An address space, by a number that is never 0 and, once it was destroyed, names no other (until 4 billion more were
// made in its place). A wrong number is refused with -EBADF.
typedef uint64_t rumpvm_space;

// A range of addresses that means one thing.
struct rumpvm_area {
    // Its first byte.
    uint64_t start;
    // One past its last.
    uint64_t end;
    // Byte of the object at `start`; 0 without one.
    uint64_t offset;
    // As the host named the file in rumpvm_object_open; else 0.
    uint64_t device;
    // As `device`.
    uint64_t inode;
    // RUMPVM_PROT_*.
    uint32_t prot;
    // What rumpvm_mprotect may make of that.
    uint32_t max_prot;
    // RUMPVM_AREA_*.
    uint32_t flags;
    // Zero.
    uint32_t reserved;
};

// A process, by its number: from 1 on, and none is given twice.
typedef uint32_t rumpvm_pid;

// What a zone has.
struct rumpvm_zone_usage {
    // Items handed out, ever.
    uint64_t taken;
    // Items in use.
    uint64_t out;
    // Free items that CPUs have at hand.
    uint64_t cached;
    // Items that there is memory for.
    uint64_t items;
    // Pages that the zone has.
    uint64_t frames;
    // Requests that failed.
    uint64_t failed;
};

// Where things begin in a space. A new space has the layout of Linux without chance; a child has its parent's.
struct rumpvm_layout {
    // Where mappings begin that may go anywhere.
    uint64_t base;
    // One past the highest byte of the stack. For whoever loads a program; nothing comes of it.
    uint64_t stack_top;
    // Bytes between the end of a program and its heap. As stack_top.
    uint64_t heap_gap;
    // 0: each mapping goes below the last. 1: above it.
    uint32_t goes_up;
    // Zero.
    uint32_t reserved;
};

// Limits of one space, in bytes but `areas`. A new space has Linux's for root; a child has its parent's.
struct rumpvm_limits {
    // Largest size that a growing stack reaches (RLIMIT_STACK).
    uint64_t stack;
    // Most bytes mapped (RLIMIT_AS).
    uint64_t address_space;
    // Largest heap, and most bytes of private memory that can be stored to, stacks aside (RLIMIT_DATA).
    uint64_t data;
    // Most bytes locked (RLIMIT_MEMLOCK).
    uint64_t locked;
    // Most areas (vm.max_map_count).
    uint64_t areas;
    // No mapping below this address (vm.mmap_min_addr).
    uint64_t lowest;
    // 1: what is kept for administrators is kept from this space, too. 0: it is not.
    uint32_t is_ordinary;
    // Zero.
    uint32_t reserved;
};

// What one space has.
struct rumpvm_usage {
    // Bytes mapped.
    uint64_t mapped;
    // Bytes in locked areas.
    uint64_t locked;
    // Bytes of private memory that can be stored to, stacks aside.
    uint64_t data;
    // Bytes that were promised to it.
    uint64_t promised;
    // Areas.
    uint64_t areas;
    // Pages that its page tables map, those that it shares with other spaces included.
    uint64_t resident;
    // Pages of those tables, shared ones included.
    uint64_t tables;
};

// How much may be promised: memory that was mapped and may be needed. In bytes but `mode` and `ratio`.
struct rumpvm_commit_policy {
    // RUMPVM_COMMIT_*.
    uint32_t mode;
    // Of all memory, in per cent, unless `bytes` says it. For RUMPVM_COMMIT_NEVER.
    uint32_t ratio;
    // In all; 0 for the ratio.
    uint64_t bytes;
    // What only spaces get that are not ordinary.
    uint64_t admin_reserve;
    // Most that is kept from a space because it is large: a 32nd of its own size.
    uint64_t user_reserve;
};

// A range of addresses, as struct iovec.
struct rumpvm_range {
    // Where it begins.
    uint64_t start;
    // Bytes.
    uint64_t length;
};

// A thread, as far as rumpvm knows it. A host with threads has one in each; its contents are rumpvm's.
struct rumpvm_thread {
    // Not for the host.
    uint64_t words[RUMPVM_THREAD_WORDS];
};

// What a host does for rumpvm. Everything but `size` and `panic` may be left out, that is, be zero; what holds then is
// said with each. All are called on the CPU and stack of whoever called rumpvm, none with a lock of rumpvm held but
// where it says "under spin locks". None may call rumpvm unless it says so.
struct rumpvm_hypercalls {
    // Bytes in this table: sizeof(struct rumpvm_hypercalls).
    uint64_t size;
    // Where the host sees physical address 0: physical address p is mapped at p + direct_map, readable and writable,
    // for all p that are ever given by rumpvm_add_memory. A multiple of 4096; 0 for an identity mapping. On i386 the sum
    // has 32 bits.
    uint64_t direct_map;
    // Physical address of a root table whose last entries map the host in every space: 256 of them on x86-64 and on
    // i386, one with PAE. Left out: the host must give tlb_activate.
    uint64_t kernel_root;
    // Number of CPUs that may ever call rumpvm, at most 256. Left out: 1.
    uint32_t cpu_count;
    // Zero.
    uint32_t reserved;
    // An invariant of rumpvm broke: tells `story`, one line of ASCII that ends with a zero, and does not return.
    // Under spin locks. Must be given.
    void (*panic)(const char *story);
    // Prints `length` bytes: warnings, a line in each call. Left out: they are dropped.
    void (*console)(const char *bytes, size_t length);
    // Nanoseconds since some moment; never goes back. Under spin locks. Left out: time stands still.
    uint64_t (*clock)(void);
    // Masks interrupts on this CPU and returns the state to go back to. Works from the first call of rumpvm on, on
    // every CPU. Under spin locks. Left out, with intr_restore: pushf and cli.
    size_t (*intr_save)(void);
    // Goes back to the state that intr_save returned. Under spin locks. Given with intr_save.
    void (*intr_restore)(size_t state);
    // Makes this CPU translate user addresses through the root table at physical address `root`, of which rumpvm has all
    // entries but the last ones (kernel_root); through none if `root` is 0. Drops the translations of the space that it
    // leaves. With PAE also called for the same root, when an entry of it has changed: CPUs keep these in registers.
    // Under spin locks. Left out, with tlb_invalidate: copies those last entries of kernel_root to `root`, and loads CR3
    // with it.
    void (*tlb_activate)(uint64_t root);
    // Drops this CPU's translations of user addresses from `start` to `end`, multiples of 4096, those of the tables
    // above the pages included. Under spin locks. Given with tlb_activate. Left out: invlpg, or a load of CR3.
    void (*tlb_invalidate)(uint64_t start, uint64_t end);
    // Number of this CPU, below cpu_count; the same as long as the caller stays there. Works from the first call of
    // rumpvm on, on every CPU. Under spin locks. Left out: 0; needed for more than one CPU.
    uint32_t (*cpu_id)(void);
    // Has every CPU of the set `cpus` (RUMPVM_CPU_WORDS words) call rumpvm_tlb_interrupt soon; never names the
    // caller's. Under spin locks. Left out: nobody is asked; needed for more than one CPU.
    void (*tlb_ipi)(const uint64_t *cpus);
    // The caller waits for another CPU to change a word, and will look again when this returns, soon. Under spin locks.
    // Left out: the instruction `pause`, which is right where every CPU is real; a process yields here.
    void (*relax)(void);
    // What the host keeps of the calling thread for rumpvm: see rumpvm_thread_init. Under spin locks. Left out: each
    // CPU is one thread, which is true of a host that never switches threads inside a call of rumpvm.
    struct rumpvm_thread *(*thread)(void);
    // Blocks the calling thread while *word == expected, as a futex does: the comparison and the decision to sleep
    // are one step for wakeup. May return early, and does at the time `until` of the clock, unless that is
    // RUMPVM_NEVER. Left out, with wakeup: the caller spins.
    void (*sleep)(const uint32_t *word, uint32_t expected, uint64_t until);
    // Wakes every thread that sleeps on `word`. Given with sleep.
    void (*wakeup)(const uint32_t *word);
    // Until release_cpu, this thread stays on this CPU and no other may run there; they nest. Left out, with
    // release_cpu: nothing is done, which is right for a host that switches threads only where they ask for it.
    void (*hold_cpu)(void);
    // Undoes one hold_cpu. Under spin locks. Given with hold_cpu.
    void (*release_cpu)(void);
};

// Something that can be mapped, by a number as that of a space. Each number is one user of the object; its mappings
// are others, so a number may be closed while the object is mapped.
typedef uint64_t rumpvm_object;

// How rumpvm reaches the contents of a file of the host's. Callbacks get the cookie of rumpvm_object_open, may sleep,
// are called with no lock of rumpvm held, from several CPUs at once, but never twice at once for the same page. They
// return 0, or an error number, negative, which the caller of rumpvm gets as -EIO. They must not use memory that only
// this file maps.
struct rumpvm_pager {
    // Bytes in this table: sizeof(struct rumpvm_pager).
    uint64_t size;
    // How many bytes the file has now. Must be given.
    uint64_t (*length)(void *cookie);
    // Fills `into` from byte `offset` on; returns how many bytes there were, fewer than `length` only at the end of
    // the file. Must be given.
    int64_t (*read)(void *cookie, uint64_t offset, uint8_t *into, size_t length);
    // Writes all of `from` at byte `offset`, never beyond the file's length. Left out: -EOPNOTSUPP, and what was
    // stored in shared mappings stays in memory until the machine ends.
    int32_t (*write)(void *cookie, uint64_t offset, const uint8_t *from, size_t length);
    // Cuts the file off at `bytes`, or extends it with zeros. Left out: -EOPNOTSUPP.
    int32_t (*set_length)(void *cookie, uint64_t bytes);
    // Makes what has been written durable. Left out: it is when it is written.
    int32_t (*sync)(void *cookie);
    // rumpvm uses the cookie no more. May come with locks of rumpvm held: takes note, and does not call rumpvm nor
    // sleep. Left out: nobody wants to know.
    void (*close)(void *cookie);
};

// Page tables of one address space, by a number that is never 0 and, once it was destroyed, names no other (until 4
// billion more were made in its place). A wrong number is refused with -EBADF.
typedef uint64_t rumpvm_pmap;

// Who calls.
struct rumpvm_caller {
    // Effective user.
    uint32_t uid;
    // Effective group.
    uint32_t gid;
    // Further groups, as many as `group_count`.
    const uint32_t *groups;
    // How many.
    uint32_t group_count;
    // 1 if permissions and ownership do not bind it, else 0.
    uint32_t is_admin;
    // Number of its process.
    uint32_t pid;
    // Zero.
    uint32_t reserved;
    // Seconds since 1970.
    int64_t now;
};

// What is known of a segment.
struct rumpvm_segment {
    // Its number.
    int32_t id;
    // Its key; RUMPVM_IPC_PRIVATE once it is removed.
    int32_t key;
    // Owner.
    uint32_t uid;
    // The owner's group.
    uint32_t gid;
    // Who made it.
    uint32_t creator_uid;
    // The group of who made it.
    uint32_t creator_gid;
    // Permissions, with 0o1000 (octal) when it is removed and 0o2000 when it is locked.
    uint32_t mode;
    // Process that made it.
    uint32_t creator;
    // Process that attached or detached it last.
    uint32_t last;
    // Zero.
    uint32_t reserved;
    // Bytes, as they were asked for.
    uint64_t bytes;
    // Areas of it, in all spaces.
    uint64_t attachments;
    // When it was last attached, in seconds since 1970.
    int64_t attached;
    // When it was last detached by rumpvm_shmdt.
    int64_t detached;
    // When it was made or changed.
    int64_t changed;
};

// What there is of all segments.
struct rumpvm_segment_totals {
    // Segments.
    uint64_t segments;
    // Pages of all.
    uint64_t pages;
    // Pages of all that are in memory.
    uint64_t resident;
    // Highest place in the table that is in use; 0 if none is.
    uint64_t highest;
};

// Limits of all segments.
struct rumpvm_segment_limits {
    // Most bytes of one.
    uint64_t bytes;
    // Most of them.
    uint64_t segments;
    // Most pages of all.
    uint64_t pages;
};

// Counts since the start, and what is in use now. In pieces, pages or calls; of the heap in bytes. Later versions
// append.
struct rumpvm_statistics {
    // Faults on a page that nobody had touched: zero-filled.
    uint64_t faults_zero_fill;
    // Read faults answered with the shared zero page.
    uint64_t faults_zero_page;
    // Write faults that copied a page.
    uint64_t faults_copy;
    // Write faults that found the page to be the writer's alone.
    uint64_t faults_reuse;
    // Faults on a page that was resident and only had to be mapped.
    uint64_t faults_soft;
    // Faults that had to wait for a pager.
    uint64_t faults_pager;
    // Faults that found the mapping already good.
    uint64_t faults_spurious;
    // Faults that grew a stack.
    uint64_t faults_stack;
    // Faults that ended in an error.
    uint64_t faults_failed;
    // Faults that began again because the map changed under them.
    uint64_t faults_retry;
    // Neighbouring pages mapped along with a fault.
    uint64_t mapped_around;
    // Pages read from files.
    uint64_t pages_in;
    // Pages written to files.
    uint64_t pages_out;
    // Pages filled with zeros when they were needed.
    uint64_t pages_zeroed;
    // Pages zeroed by an idle CPU beforehand.
    uint64_t pages_zeroed_idle;
    // Page-table pages made.
    uint64_t tables_made;
    // Page-table pages freed.
    uint64_t tables_freed;
    // Page-table pages that a fork shared instead of copying.
    uint64_t tables_shared;
    // Shared page-table pages given up for one's own.
    uint64_t tables_unshared;
    // Amap and object nodes made.
    uint64_t nodes_made;
    // Amap and object nodes freed.
    uint64_t nodes_freed;
    // Amap nodes copied because a fork had shared them.
    uint64_t nodes_unshared;
    // Flush debts paid.
    uint64_t flushes;
    // Flush requests sent to other CPUs.
    uint64_t flushes_remote;
    // Spaces forked.
    uint64_t forks;
    // Pages that rumpvm was given, its records included.
    uint64_t frames_total;
    // Pages that are free now, in whatever cache.
    uint64_t frames_free;
    // Most pages that were in use at once, to the batch of a CPU's cache.
    uint64_t frames_peak;
    // Pages that hold page records.
    uint64_t frames_records;
    // Bytes that the heap for small records has taken.
    uint64_t heap_total;
    // Bytes of it that are in use.
    uint64_t heap_used;
    // Mappings that the host entered by rumpvm_pmap_enter.
    uint64_t pmap_enters;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes one access (RUMPVM_ACCESS_*) to `address` in `space` possible, or says why not: to be called by the host's
// page fault handler, with interrupts on if they were on in the program. Takes no lock of the space, sleeps while
// pages of the space move; from a thread that holds no spin lock. After 0 the access is tried again. -EFAULT: nothing
// is mapped there (SIGSEGV, SEGV_MAPERR); -EACCES: the right is missing (SIGSEGV, SEGV_ACCERR); -EIO: SIGBUS;
// -ENOMEM: no memory, nothing has changed; -EINVAL: no such access; -EBADF, -ENODEV.
int32_t rumpvm_fault(rumpvm_space space,
                     uint64_t address,
                     uint32_t access);

// As rumpvm_fault, for the error code that the CPU pushed; `address` is CR2. -EINVAL for a reserved bit in a page
// table: that is a bug, not the program's.
int32_t rumpvm_fault_code(rumpvm_space space,
                          uint64_t address,
                          uint32_t code);

// Copies `length` bytes of `space` from address `from` on to `into`, through the direct map: it need not be the
// active space, and no page fault comes of it. Sleeps as a fault does; from a thread that holds no spin lock. Returns
// 0, or an error of rumpvm_fault, and then a first part may have been copied.
// Contract: There are `length` bytes to write at `into`.
int32_t rumpvm_copyin(rumpvm_space space,
                      uint64_t from,
                      uint8_t *into,
                      size_t length);

// Copies `length` bytes at `from` to address `to` of `space`; otherwise as rumpvm_copyin.
// Contract: There are `length` bytes to read at `from`, which nobody changes meanwhile.
int32_t rumpvm_copyout(rumpvm_space space, const uint8_t *from, uint64_t to, size_t length);

// Copies the bytes of `space` from address `from` on, up to a zero and with it, to `into`, at most `size`; stores how
// many at `length`, unless that is null. Otherwise as rumpvm_copyin. -ENAMETOOLONG if there is no zero among them.
// Contract: There are `size` bytes to write at `into`, and a number at `length`, or that is null.
int32_t rumpvm_copyinstr(rumpvm_space space,
                         uint64_t from,
                         uint8_t *into,
                         size_t size,
                         size_t *length);

// Stores the areas of `space` that end above `from` at `into`, in order of address, `room` at most, and returns how
// many it has stored; whoever wants more calls with the last one's end. Time grows with the number of areas below, too.
// Takes no lock, does not sleep; from a thread. Or -EINVAL (null), -EBADF, -ENODEV.
// Contract: There is room for so many at `into`.
int64_t rumpvm_areas(rumpvm_space space,
                     uint64_t from,
                     struct rumpvm_area *into,
                     size_t room);

// Waits for child `whom` of `process`, or for whichever ends first if that is 0, and returns its number, which names
// nothing from now on; stores its status at `status`, unless that is null. Any thread of the process may wait, several
// at once: each child is for one of them. Takes the table's lock, and sleeps until a child has ended; with `flags`
// RUMPVM_WNOHANG it does not sleep, and returns 0 if none has. From a thread. Or -ECHILD (no such child), -EINVAL (no
// such flag), -ESRCH, -ENODEV.
// Contract: `status` is null, or there is a number to write.
int64_t rumpvm_process_wait(rumpvm_pid process,
                            rumpvm_pid whom,
                            uint32_t flags,
                            int32_t *status);

// Says whether `process` gets the children of its descendants when those exit: `adopts` is 1 if it does
// (PR_SET_CHILD_SUBREAPER), 0 if they go to somebody above it. A child does not inherit this. Takes the table's lock for
// an instant; from a thread. Returns 0, -EINVAL, -ESRCH, -ENODEV.
int32_t rumpvm_process_adopt_orphans(rumpvm_pid process,
                                     uint32_t adopts);

// Number of the parent of `process`; 0 if it has none, and then it is waited for by nobody: its number is gone when it
// exits. Takes the table's lock for an instant; from a thread. Or -ESRCH, -ENODEV.
int64_t rumpvm_process_parent(rumpvm_pid process);

// How many threads `process` has. Takes the table's lock for an instant; from a thread. Or -ESRCH, -ENODEV.
int64_t rumpvm_process_threads(rumpvm_pid process);

// RUMPVM_STATE_* of `process`; of a zombie its status is stored at `status`, unless that is null. Takes the table's
// lock for an instant; from a thread. Or -ESRCH, -ENODEV.
// Contract: `status` is null, or there is a number to write.
int32_t rumpvm_process_state(rumpvm_pid process,
                             int32_t *status);

// The lowest number above `process` that a process has, zombies too, or 0 if there is none: from 0 on, all of them one
// after the other. Takes the table's lock for an instant; from a thread. Or -ENODEV.
int64_t rumpvm_process_after(rumpvm_pid process);

// Takes a frame of 4096 bytes for the host; returns its physical address. `flags` is 0 or RUMPVM_FRAME_ZERO. Takes
// spin locks, does not sleep; from anywhere. Or -ENOMEM, -EINVAL (other flags), -ENODEV.
int64_t rumpvm_frame_alloc(uint32_t flags);

// Takes 2 to the power of `order` frames in a row for the host, aligned to their length; returns the physical address of
// the first. Each is freed by itself. Takes spin locks, does not sleep; from anywhere. Or -ENOMEM, -EINVAL (an order
// above 18), -ENODEV.
int64_t rumpvm_frame_alloc_run(uint32_t order);

// Gives back a frame of the host's, by its physical address. Takes spin locks, does not sleep; from anywhere. Returns 0;
// -EINVAL (the host does not have it), -EBUSY (something maps it that rumpvm keeps track of), -ENODEV.
int32_t rumpvm_frame_free(uint64_t address);

// A block of `size` bytes, at a multiple of 16; of 0 bytes too. Its contents are unknown. The first call, which is from
// a thread, makes the heap: some 20 KiB for each CPU. Blocks up to a page come from caches of the calling CPU, larger
// ones are whole pages in a row; all are wired. All calls of this family: from anywhere, on an attached CPU; they take
// spin locks now and then, do not sleep, and wait for no other CPU. Null: no memory.
void *rumpvm_malloc(size_t size);

// As rumpvm_malloc, of `many` times `size` bytes, which are zero.
void *rumpvm_calloc(size_t many, size_t size);

// As rumpvm_malloc, at a multiple of `align`, a power of two. Null also if it is none.
void *rumpvm_memalign(size_t align, size_t size);

// Makes `block` `size` bytes long, in its place or elsewhere, and returns where it is; what it had up to there it keeps.
// Elsewhere it is at a multiple of 16. Null, and the block is as it was: no memory. A null `block` is a new one; a
// `size` of 0 is a size.
// Contract: `block` is null, or came from this family and is in use.
void *rumpvm_realloc(void *block,
                     size_t size);

// Frees a block of this family; null is none.
// Contract: `block` is null, or came from this family and is used no more.
void rumpvm_free(void *block);

// Bytes of `block` that may be used: what was asked for, or more.
// Contract: As rumpvm_realloc.
size_t rumpvm_malloc_usable_size(void *block);

// Gives back pages that rumpvm_malloc's family keeps at hand and nobody uses, but for what other CPUs have at hand.
// Requests that would fail, of this family or any other, do that by themselves. From anywhere.
void rumpvm_malloc_drain(void);

// Makes a zone: items of `size` bytes (16 KiB at most) at multiples of `align` (a power of two, a page at most), of which
// each CPU keeps some at hand. No more than `limit` items, rounded up to whole slabs, unless it is 0. `construct`, if
// not null, is called for an item before it is first handed out, `destroy` before its memory is given back, both from
// within the calls below, and they may call nothing of rumpvm; an item is freed as it would be handed out. When there is
// no page for another call of rumpvm's, it takes those that the zone keeps and nobody uses; with `destroy` only
// rumpvm_zone_drain gives back what was constructed. `name` is for reports, and stays. The zone is stored at `made`.
// From a thread; takes spin locks. Returns 0, -EINVAL, -ENOMEM, -ENODEV.
// Contract: `name` is null or a string that stays for good; `made` is null, or there is a pointer to write; the functions may be
// called until the zone is destroyed.
int32_t rumpvm_zone_create(const char *name,
                           uint32_t size,
                           uint32_t align,
                           uint64_t limit,
                           void (*construct)(void *item),
                           void (*destroy)(void *item),
                           struct rumpvm_zone **made);

// An item of `zone`, or null: no memory, or the limit is reached. From anywhere, on an attached CPU; takes spin locks
// now and then, does not sleep.
// Contract: `zone` was made by rumpvm_zone_create and not destroyed.
void *rumpvm_zone_alloc(struct rumpvm_zone *zone);

// Frees an item. From anywhere, as rumpvm_zone_alloc.
// Contract: As rumpvm_zone_alloc; `item` is null, or came from this zone and is used no more.
void rumpvm_zone_free(struct rumpvm_zone *zone, void *item);

// Gives back the pages of a zone that nobody uses, but for what other CPUs have at hand. From anywhere.
// Contract: As rumpvm_zone_alloc.
void rumpvm_zone_drain(struct rumpvm_zone *zone);

// Stores at `usage` what `zone` has. From anywhere; takes its spin lock. Returns 0, -EINVAL, -ENODEV.
// Contract: As rumpvm_zone_alloc; `usage` is null, or there is such a structure to write.
int32_t rumpvm_zone_usage(struct rumpvm_zone *zone,
                          struct rumpvm_zone_usage *usage);

// Destroys a zone that nobody calls any more, and gives all its pages back. From a thread. Returns 0; -EBUSY if items
// are in use, and then it stays; -EINVAL, -ENODEV.
// Contract: As rumpvm_zone_alloc, or null; nobody else uses the zone from now on.
int32_t rumpvm_zone_destroy(struct rumpvm_zone *zone);

// Moves the end of the heap of `space` to `end` if that is possible, and returns where it is then, which is all that
// brk(2) says: with 0, where it is now. The heap begins where rumpvm_set_brk_base said, and is private memory. Takes the
// map's sleep lock, waits for other CPUs' flushes when it shrinks; from a thread, with interrupts on. Or -EBADF,
// -ENODEV.
int64_t rumpvm_brk(rumpvm_space space,
                   uint64_t end);

// Has the heap of `space` begin at `start`, empty, for whoever loads a program; what was mapped as heap stays mapped.
// Takes the map's sleep lock; from a thread. Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_set_brk_base(rumpvm_space space,
                            uint64_t start);

// Where the heap of `space` begins. Takes the map's sleep lock; from a thread. Or -EBADF, -ENODEV.
int64_t rumpvm_brk_base(rumpvm_space space);

// Keeps `length` bytes free, at `hint`, near it, or anywhere: nothing can be used there, no rights can be given, and no
// mapping goes there but by RUMPVM_MAP_FIXED (FreeBSD's MAP_GUARD). `flags` is RUMPVM_MAP_FIXED,
// RUMPVM_MAP_FIXED_NOREPLACE, or 0. Returns where, or a negative error as rumpvm_mmap does. Takes the map's sleep
// lock; from a thread, with interrupts on.
int64_t rumpvm_reserve(rumpvm_space space,
                       uint64_t hint,
                       uint64_t length,
                       uint32_t flags);

// Stores the layout of `space` at `into`. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL (null),
// -EBADF, -ENODEV.
// Contract: `into` is null, or there is a layout to write.
int32_t rumpvm_layout(rumpvm_space space,
                      struct rumpvm_layout *into);

// Places mappings of `space` by the layout at `from` from now on, and those of children made from now on. Takes the
// map's sleep lock; from a thread. Returns 0; -EINVAL (null, `base` is not a multiple of 4096, `goes_up` is neither 0
// nor 1, `reserved` not 0), -EBADF, -ENODEV, and nothing has changed.
// Contract: `from` is null, or points to a layout.
int32_t rumpvm_set_layout(rumpvm_space space,
                          const struct rumpvm_layout *from);

// Stores the limits of `space` at `into`. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL (null),
// -EBADF, -ENODEV.
// Contract: `into` is null, or there are limits to write.
int32_t rumpvm_limits(rumpvm_space space,
                      struct rumpvm_limits *into);

// Gives `space` the limits at `from`; what is over one already stays. Takes the map's sleep lock; from a thread.
// Returns 0; -EINVAL (null, `is_ordinary` is neither 0 nor 1, `reserved` not 0), -EBADF, -ENODEV, and nothing has
// changed.
// Contract: `from` is null, or points to limits.
int32_t rumpvm_set_limits(rumpvm_space space,
                          const struct rumpvm_limits *from);

// Stores what `space` has at `into`, each number as of some moment of the call. Takes the map's sleep lock; from a
// thread. Returns 0, -EINVAL (null), -EBADF, -ENODEV.
// Contract: `into` is null, or there is a usage to write.
int32_t rumpvm_usage(rumpvm_space space,
                     struct rumpvm_usage *into);

// Stores how much may be promised at `into`. Takes no lock; from a thread. Returns 0, -EINVAL (null), -ENODEV.
// Contract: `into` is null, or there is a policy to write.
int32_t rumpvm_commit_policy(struct rumpvm_commit_policy *into);

// Changes how much may be promised to what is at `from`; what has been promised stays so. Takes no lock; from a
// thread. Returns 0; -EINVAL (null, no such mode), -ENODEV, and nothing has changed.
// Contract: `from` is null, or points to a policy.
int32_t rumpvm_set_commit_policy(const struct rumpvm_commit_policy *from);

// Bytes that are promised now (Committed_AS): private memory that can be stored to, and shared anonymous memory, both
// unless they were mapped with RUMPVM_MAP_NORESERVE. As of some moment. Takes no lock; from a thread. Or -ENODEV.
int64_t rumpvm_committed(void);

// Bytes that may be promised with RUMPVM_COMMIT_NEVER (CommitLimit). Takes no lock; from a thread. Or -ENODEV.
int64_t rumpvm_commit_limit(void);

// As rumpvm_mlock, with `flags` (RUMPVM_MLOCK_*); see mlock2(2).
int32_t rumpvm_mlock2(rumpvm_space space, uint64_t address, uint64_t length, uint32_t flags);

// Keeps all pages in memory as `flags` say (RUMPVM_MCL_*); without RUMPVM_MCL_FUTURE what is mapped later is not kept
// any more. See mlockall(2). A page that cannot be brought in is no error. Takes the map's sleep lock, and sleeps as a
// fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EPERM, -EBADF, -ENODEV.
int32_t rumpvm_mlockall(rumpvm_space space,
                        uint32_t flags);

// Undoes rumpvm_mlockall and rumpvm_mlock for the whole space; see munlockall(2). Takes the map's sleep lock; from a
// thread. Returns 0, -ENOMEM, -EBADF, -ENODEV.
int32_t rumpvm_munlockall(rumpvm_space space);

// As rumpvm_mprotect, for the protection key `key`: -1 for none. There are no others, so pkey_alloc(2) and
// pkey_free(2) are -EINVAL, and this is too where it would have something to do.
int32_t rumpvm_pkey_mprotect(rumpvm_space space,
                             uint64_t address,
                             uint64_t length,
                             uint32_t prot,
                             int32_t key);

// Maps `size` bytes of the object at `start` from its page `page` on, in place of what is there, with the rights that
// are there; `start` and `size` are rounded down to pages, and `rights` is 0. The range is shared, and mapped alike
// throughout. Pages are brought in unless `flags` is RUMPVM_MAP_NONBLOCK. See remap_file_pages(2). Takes the map's
// sleep lock, and sleeps as a fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EPERM,
// -EAGAIN, -EACCES, -EBADF, -ENODEV.
int32_t rumpvm_remap_file_pages(rumpvm_space space,
                                uint64_t start,
                                uint64_t size,
                                uint64_t rights,
                                uint64_t page,
                                uint32_t flags);

// Takes `advice`, by the numbers of rumpvm_madvise, on each of the `count` ranges at `ranges` in `space`, and returns
// how many bytes were advised; the first range that cannot be ends it, and its error is returned only if nothing was
// advised before. See process_madvise(2); `flags` is 0. `is_own` is 1 if `space` is the adviser's own; if it is 0, only
// advice is taken that destroys nothing, and whether this adviser may is for the host to say. Takes the map's sleep lock,
// waits for other CPUs' flushes; from a thread, with interrupts on. Or -EINVAL (also: more than 1024 ranges, a null
// pointer), -EFAULT, an error of rumpvm_madvise.
// Contract: There are `count` ranges at `ranges`, which nobody changes meanwhile.
int64_t rumpvm_process_madvise(rumpvm_space space,
                               const struct rumpvm_range *ranges,
                               size_t count,
                               int32_t advice,
                               uint32_t flags,
                               uint32_t is_own);

// Takes over the host's table, of which a copy is kept; the first call of all. `version` is RUMPVM_VERSION. Once, on
// one CPU. Touches nothing but the table; takes no lock, does not sleep. Returns 0; or -EINVAL, and rumpvm_reason
// says what is wrong with it.
// Contract: `table` is null or points to a table of the size that it begins with; what it names may be called for good.
int32_t rumpvm_init(uint32_t version,
                    const struct rumpvm_hypercalls *table);

// Why rumpvm_init, rumpvm_add_memory or rumpvm_cpu_attach was last refused: a line that ends with a zero and stays for
// good. From anywhere.
const char *rumpvm_reason(void);

// Gives rumpvm the physical memory from byte `start` to byte `end`, rounded inwards to whole pages, for good: mapped
// at direct_map, and used by nobody else. Any number of times (64 separate ranges), at any time; one page in 64 holds
// the records of the others. The first range becomes the machine: some 256 KiB of it hold its first records, on one
// CPU; it is given before any other call, on one CPU.
//
// On i386, with PAE too, only what lies below 4 GiB and is mapped at direct_map for good: some 900 MiB, where the host
// has the uppermost GiB of addresses; the rest is never seen by turns.
//
// Takes spin locks, does not sleep. Returns 0, or with a rumpvm_reason: -EINVAL (no whole page, seen at address 0 or
// among user addresses, out of reach), -EEXIST (overlaps what was given), -ENOSPC (too many ranges), -ENOMEM (too
// small for the first records, to which it then goes as a whole), -ENODEV (before rumpvm_init).
int32_t rumpvm_add_memory(uint64_t start,
                          uint64_t end);

// The calling CPU will call rumpvm from now on. Once on each CPU, behind the first memory, before any other call
// there. Takes no lock, does not sleep. Returns 0, or with a rumpvm_reason: -EINVAL (its number is not below
// cpu_count, or it is set up otherwise than rumpvm's page tables need), -EEXIST (that number has attached), -ENODEV
// (too early).
int32_t rumpvm_cpu_attach(void);

// Does a little work that need not be done now: zeroes a page ahead of need, frees what nobody can see any more, lets the
// heap grow while there is time. Returns 1 if there may be more, 0 if not. Takes spin locks, does not sleep; from a
// thread, not from an interrupt.
//
// This is all that rumpvm asks of the host's threads. The idle loop of each CPU calls it until it returns 0, and halts; or a
// thread of least priority on each CPU does, and sleeps for a tenth of a second. A CPU frees what it gave up itself, so
// one thread for all of them is not enough. Without any, pages are zeroed when they are needed, and what was given up
// comes back when memory is short. There is no pageout daemon, because there is no swap. Files are written by
// rumpvm_msync, by rumpvm_object_sync, which a syncer of the host's may call, and for their last user.
int32_t rumpvm_idle(void);

// Carries out what other CPUs asked of this one: to be called on each CPU that the hypercall tlb_ipi names, from its
// interrupt. Takes spin locks, waits for nobody, does not sleep; interrupts may be masked.
void rumpvm_tlb_interrupt(void);

// Walks every invariant of the machine: page tables, reverse mappings, private pages, objects, every frame. At a
// quiet moment: nobody is inside any other call. Takes all locks in turns; time and memory grow with the memory
// given, some 80 bytes of the heap for each page. Returns 0; or -EUCLEAN, and `story` is told what is broken, in
// `size` bytes at most and with a zero at its end; -ENOMEM, -ENODEV.
// Contract: `story` is null, and `size` 0, or there are `size` bytes to write.
int32_t rumpvm_check(char *story,
                     size_t size);

// Maps `length` bytes, rounded up to whole pages, of zero-filled memory with the rights `prot` (RUMPVM_PROT_*) as
// `flags` say (RUMPVM_MAP_*), at `hint`, near it, or anywhere; returns where, or a negative error: see mmap(2). Pages
// come when they are touched. Takes the map's sleep lock; from a thread, with interrupts on.
int64_t rumpvm_mmap(rumpvm_space space,
                    uint64_t hint,
                    uint64_t length,
                    uint32_t prot,
                    uint32_t flags);

// Unmaps every page that `length` bytes from `address`, a multiple of 4096, touch; see munmap(2). Takes the map's
// sleep lock and waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM.
int32_t rumpvm_munmap(rumpvm_space space,
                      uint64_t address,
                      uint64_t length);

// Gives `length` bytes from `address` on the rights `prot`; see mprotect(2). Up to the first hole it is done even if
// there is one, which is -ENOMEM then. Takes the map's sleep lock, waits for other CPUs' flushes; from a thread, with
// interrupts on. Returns 0, -EINVAL, -EACCES, -ENOMEM.
int32_t rumpvm_mprotect(rumpvm_space space,
                        uint64_t address,
                        uint64_t length,
                        uint32_t prot);

// Takes advice on `length` bytes from `address` on, by the numbers of Linux's madvise(2) (4: the contents are not
// needed, 22 and 23: bring the pages in, 102: a guard, ...). Takes the map's sleep lock, waits for other CPUs'
// flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM (also: a hole), -EAGAIN, -EFAULT.
int32_t rumpvm_madvise(rumpvm_space space,
                       uint64_t address,
                       uint64_t length,
                       int32_t advice);

// Sets `resident[i]` to 1 if page i from `address` on is in memory, else to 0, for each page that `length` bytes touch;
// see mincore(2). Takes no lock, does not sleep: what changes meanwhile may be seen or not. Returns 0, -EINVAL,
// -ENOMEM (a hole).
// Contract: `resident` has a byte for each of those pages.
int32_t rumpvm_mincore(rumpvm_space space,
                       uint64_t address,
                       uint64_t length,
                       uint8_t *resident);

// Says what a child gets of every page that `length` bytes from `address` touch (RUMPVM_INHERIT_*); see minherit(2)
// of the BSDs. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -EOPNOTSUPP.
int32_t rumpvm_minherit(rumpvm_space space,
                        uint64_t address,
                        uint64_t length,
                        int32_t inheritance);

// Makes the `old_length` bytes mapped at `old` be `new_length` bytes, here or as `flags` (RUMPVM_MREMAP_*) allow
// elsewhere; returns where, or a negative error: see mremap(2). Takes the map's sleep lock, waits for other CPUs'
// flushes; from a thread, with interrupts on.
int64_t rumpvm_mremap(rumpvm_space space,
                      uint64_t old,
                      uint64_t old_length,
                      uint64_t new_length,
                      uint32_t flags,
                      uint64_t new_address);

// Brings in every page that `length` bytes from `address` touch, and keeps them in memory; see mlock(2). Takes the
// map's sleep lock, and sleeps as a fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM,
// -EPERM, -EAGAIN.
int32_t rumpvm_mlock(rumpvm_space space,
                     uint64_t address,
                     uint64_t length);

// Undoes rumpvm_mlock for every page that `length` bytes from `address` touch; see munlock(2). Takes the map's sleep
// lock; from a thread. Returns 0, -EINVAL, -ENOMEM.
int32_t rumpvm_munlock(rumpvm_space space,
                       uint64_t address,
                       uint64_t length);

// Makes an empty memory file, as memfd_create(2) does with `flags` (RUMPVM_MFD_*), and stores its object's number at
// `made`. Takes the registry's sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -ENOSPC, -ENODEV.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_object_memory_file(uint32_t flags,
                                  rumpvm_object *made);

// How many bytes `object` has. Takes no lock; from a thread. Or -EBADF, -ENODEV.
int64_t rumpvm_object_size(rumpvm_object object);

// Stores `length` bytes at `from` in `object` from byte `offset` on, and returns how many; mappings see them. A memory
// file becomes longer if need be; a file of the host's is written with its last user, or by rumpvm_msync. Sleeps as a
// fault does; from a thread, with interrupts on. Or, when nothing was stored: -EPERM (sealed), -EIO, -ENOMEM, -EINVAL,
// -EFBIG, -EBADF, -ENODEV.
// Contract: There are `length` bytes to read at `from`, which nobody changes meanwhile.
int64_t rumpvm_object_write(rumpvm_object object,
                            uint64_t offset,
                            const uint8_t *from,
                            size_t length);

// Makes `length` bytes of a memory file from byte `offset` on zeros, and gives their pages back; see fallocate(2),
// FALLOC_FL_PUNCH_HOLE. Sleeps; from a thread, with interrupts on. Returns 0; -EINVAL (no length), -EPERM (sealed),
// -EOPNOTSUPP (no memory file), -EFBIG, -EBADF, -ENODEV, and nothing has changed.
int32_t rumpvm_object_punch(rumpvm_object object,
                            uint64_t offset,
                            uint64_t length);

// Brings in what is missing of `length` bytes of a memory file from byte `offset` on, so that none of it can fail to
// come later; see fallocate(2). `keeps_size` is 0 if the file is to become longer where it has to, 1 if not. Sleeps;
// from a thread, with interrupts on. Returns 0; -EINVAL, -EFBIG, -EPERM (sealed), -EOPNOTSUPP (no memory file),
// -ENOMEM (the size is what it was then), -EBADF, -ENODEV.
int32_t rumpvm_object_allocate(rumpvm_object object,
                               uint64_t offset,
                               uint64_t length,
                               uint32_t keeps_size);

// The seals of a memory file (RUMPVM_SEAL_*). Takes no lock; from a thread. Or -EINVAL (no memory file), -EBADF,
// -ENODEV.
int64_t rumpvm_object_seals(rumpvm_object object);

// Adds `seals` (RUMPVM_SEAL_*) to a memory file; see fcntl(2), F_ADD_SEALS. That the descriptor was opened for writing
// is for the host to look at. Sleeps while the size is being changed; from a thread. Returns 0; -EINVAL (unknown
// seals, no memory file), -EPERM (sealed off itself), -EBUSY (stores are to be sealed off, and a shared mapping could
// be stored through), -EBADF, -ENODEV, and nothing has changed.
int32_t rumpvm_object_add_seals(rumpvm_object object,
                                uint32_t seals);

// Opens the file `inode` of volume `device`, by numbers of the host's: opens of one file share pages. Stores the
// object's number at `made`. The table is copied. If the file is open already, its first cookie goes on being used,
// and this one is closed at once. Takes the registry's sleep lock, and sleeps while the file's last user writes it;
// from a thread. Returns 0; -EINVAL (a pointer is null, or the table incomplete), -ENODEV, and the cookie was not
// taken; -ENOMEM, -ENOSPC, and it was closed.
// Contract: `pager` is null or points to a table; what it names may be called until the cookie is closed. `made` is null, or
// there is a number to write.
int32_t rumpvm_object_open(const struct rumpvm_pager *pager,
                           void *cookie,
                           uint64_t device,
                           uint64_t inode,
                           rumpvm_object *made);

// Makes an object of `bytes` bytes of zeros, for spaces to share, and stores its number at `made`. Pages come when
// they are touched. Takes the registry's sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -ENOSPC, -ENODEV.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_object_memory(uint64_t bytes,
                             rumpvm_object *made);

// Makes an object of the device memory at physical address `start`, of `bytes` bytes, both multiples of 4096, which
// was not given by rumpvm_add_memory; stores its number at `made`. It can be shared, not copied. Takes the registry's
// sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -ENOSPC, -ENODEV.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_object_device(uint64_t start,
                             uint64_t bytes,
                             rumpvm_object *made);

// Closes a number. If nothing else uses the object, it ends: a file is written, and its cookie closed. Sleeps; from a
// thread. Returns 0, -EBADF, -ENODEV; -EIO if the file could not be written, and then its pages stay for the next
// open. (If another call still uses the number, the object is given up when that returns, and that call tells of it.)
int32_t rumpvm_object_close(rumpvm_object object);

// As rumpvm_mmap, of `object` from byte `offset` on, a multiple of 4096. `rights` (RUMPVM_PROT_*) is all that the
// mapping may ever have, as the open file has it: stores to a private mapping need only the right to load. -EACCES if
// it is more.
int64_t rumpvm_mmap_object(rumpvm_space space,
                           uint64_t hint,
                           uint64_t length,
                           uint32_t prot,
                           uint32_t flags,
                           rumpvm_object object,
                           uint64_t offset,
                           uint32_t rights);

// Writes what was stored through the shared file mappings in `length` bytes from `address` on, if `flags`
// (RUMPVM_MS_*) say so; see msync(2). Holes do not stop it, but are -ENOMEM. Sleeps; from a thread, with interrupts
// on. Returns 0, -EINVAL, -ENOMEM, -EBUSY, -EIO.
int32_t rumpvm_msync(rumpvm_space space,
                     uint64_t address,
                     uint64_t length,
                     uint32_t flags);

// Writes what was stored in `object`, through whatever mapping, to its file, and makes that durable, as fsync(2). Nothing
// is done for what is no file. A host that wants files to be written now and then has a thread that calls it for
// each that it has open. Sleeps; from a thread, with interrupts on. Returns 0; -EIO, and what was not written is
// still to be; -EBADF, -ENODEV.
int32_t rumpvm_object_sync(rumpvm_object object);

// Copies up to `length` bytes of `object` from byte `offset` on to `into`; returns how many there were, or a negative
// error. It sees what mappings see. Sleeps as a fault does; from a thread.
// Contract: There are `length` bytes to write at `into`.
int64_t rumpvm_object_read(rumpvm_object object,
                           uint64_t offset,
                           uint8_t *into,
                           size_t length);

// Makes `object` `bytes` bytes long: pages beyond are taken from all mappings, and the file is told. Takes the
// object's sleep lock, waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -EPERM,
// -EIO, -ENOMEM.
int32_t rumpvm_object_resize(rumpvm_object object,
                             uint64_t bytes);

// Makes an empty pmap with one reference, and stores its number at `made`: pmap_create. Takes spin locks, does not
// sleep; from a thread. Returns 0, -EINVAL (`made` is null), -ENOMEM, -ENOSPC (65,536 pmaps), -ENODEV.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_pmap_create(rumpvm_pmap *made);

// One more reference, of who has one: pmap_reference. Takes no lock; from anywhere. Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_pmap_reference(rumpvm_pmap pmap);

// Gives up a reference: pmap_destroy. With the last one the number names nothing any more, and all mappings go, wired or not,
// when the last CPU that translates through the pmap has left it. What CPUs noted is kept. Takes spin locks, does not
// sleep; from a thread. Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_pmap_destroy(rumpvm_pmap pmap);

// Maps the frame at physical address `frame` at `address`, with exactly the rights `prot`, which are not 0, in place of what is
// mapped there: pmap_enter. `flags` is 0 or RUMPVM_PMAP_WIRED. Takes spin locks, waits for other CPUs' flushes if
// something is replaced or loses rights, does not sleep; from a thread. Returns 0; -ENOMEM, -EINVAL (no such address,
// rights or flags; a frame that was given to rumpvm and is not the host's), -EBADF, -ENODEV, and what was there is
// there still.
int32_t rumpvm_pmap_enter(rumpvm_pmap pmap,
                          uint64_t address,
                          uint64_t frame,
                          uint32_t prot,
                          uint32_t flags);

// Unmaps `length` bytes from `address` on, wired or not: pmap_remove. Frames stay the host's. Takes spin locks, waits for
// other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 0, -EINVAL, -EBADF, -ENODEV.
int32_t rumpvm_pmap_remove(rumpvm_pmap pmap,
                           uint64_t address,
                           uint64_t length);

// Leaves no more than `prot` of the rights in `length` bytes from `address` on: pmap_protect. It never gives rights, and
// with 0 it unmaps. Otherwise as rumpvm_pmap_remove.
int32_t rumpvm_pmap_protect(rumpvm_pmap pmap,
                            uint64_t address,
                            uint64_t length,
                            uint32_t prot);

// Physical address behind `address`, which need not be aligned: pmap_extract. Stores its rights (RUMPVM_PROT_*) at `prot`
// and RUMPVM_PMAP_WIRED or 0 at `flags`, unless they are null. Takes no lock; from anywhere. Or -EFAULT (nothing is
// mapped), -EBADF, -ENODEV.
// Contract: `prot` and `flags` are null, or there are numbers to write.
int64_t rumpvm_pmap_extract(rumpvm_pmap pmap,
                            uint64_t address,
                            uint32_t *prot,
                            uint32_t *flags);

// Makes what is mapped at `address` wired or not, as `flags` say: pmap_change_wiring, pmap_unwire. Takes a spin lock, does not
// sleep; from anywhere. Returns 0, -EFAULT (nothing is mapped), -EINVAL, -EBADF, -ENODEV.
int32_t rumpvm_pmap_change_wiring(rumpvm_pmap pmap,
                                  uint64_t address,
                                  uint32_t flags);

// Maps at `at` in `to`, where nothing is mapped, what `length` bytes of `from` from `address` on map: pmap_copy, which saves
// faults after a fork. Advice: wired mappings and devices' are left out, and so is what memory does not suffice for. Takes
// spin locks, does not sleep; from a thread. Returns the number of pages; -EINVAL, -EBADF, -ENODEV.
int64_t rumpvm_pmap_copy(rumpvm_pmap to,
                         uint64_t at,
                         rumpvm_pmap from,
                         uint64_t address,
                         uint64_t length);

// Unmaps what is not wired, and frees the tables that this empties: pmap_collect. For when memory is short. Otherwise as
// rumpvm_pmap_remove.
int32_t rumpvm_pmap_collect(rumpvm_pmap pmap);

// Pages that `pmap` maps: pmap_resident_count. Takes no lock; from anywhere. Or -EBADF, -ENODEV.
int64_t rumpvm_pmap_resident(rumpvm_pmap pmap);

// Physical address of its root, for looking only. Takes no lock; from anywhere. Or -EBADF, -ENODEV.
int64_t rumpvm_pmap_root(rumpvm_pmap pmap);

// This CPU translates user addresses through `pmap` from now on: pmap_activate. Does nothing if it does already. The pmap
// lives until the CPU leaves it. Takes spin locks, does not sleep; interrupts may be masked, from anywhere but an
// interrupt. Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_pmap_activate(rumpvm_pmap pmap);

// This CPU translates user addresses through nothing from now on: pmap_deactivate. Otherwise as rumpvm_pmap_activate.
int32_t rumpvm_pmap_deactivate(void);

// Leaves no more than `prot` of the rights of every mapping of the frame at physical address `frame`, in every pmap, wired or
// not: pmap_page_protect. With 0 nothing maps it any more, and it may be freed or get other contents. Takes spin locks, waits for
// other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 0, -EINVAL (also: not the host's), -ENODEV.
int32_t rumpvm_page_protect(uint64_t frame,
                            uint32_t prot);

// Whether the frame was stored to through any mapping since rumpvm_page_clear_modify: pmap_is_modified. Stores of the kernel
// through the direct map or the window do not count. Takes a spin lock, does not sleep; from a thread. Returns 1, 0, -EINVAL,
// -ENODEV.
int32_t rumpvm_page_is_modified(uint64_t frame);

// As rumpvm_page_is_modified, of any access: pmap_is_referenced.
int32_t rumpvm_page_is_referenced(uint64_t frame);

// Forgets that the frame was stored to; whether it was: pmap_clear_modify. A store after it is noted again. Takes spin locks,
// waits for other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 1, 0, -EINVAL, -ENODEV.
int32_t rumpvm_page_clear_modify(uint64_t frame);

// As rumpvm_page_clear_modify, of any access: pmap_clear_reference.
int32_t rumpvm_page_clear_reference(uint64_t frame);

// Fills a frame of the host's with zeros: pmap_zero_page. Takes no lock; from anywhere. Returns 0, -EINVAL, -ENODEV.
int32_t rumpvm_page_zero(uint64_t frame);

// Copies the contents of the host's frame `from` to its frame `to`: pmap_copy_page. Takes no lock; from anywhere. Returns
// 0, -EINVAL, -ENODEV.
int32_t rumpvm_page_copy(uint64_t from,
                         uint64_t to);

// Makes a process without parent, with an empty space and one thread, and returns its number; stores a number for its
// space at `space`. That number is another user of the space, as of rumpvm_space_share, for faults, calls and
// switches; the host destroys it when the process ends, or what is mapped stays. Takes sleep locks for an instant;
// from a thread. Or -ENOMEM, -ENOSPC, -EINVAL (`space` is null), -EAGAIN (all 4 billion numbers are used up), -ENODEV,
// and nothing has changed.
// Contract: `space` is null, or there is a number to write.
int64_t rumpvm_process_create(rumpvm_space *space);

// Makes a child of `process` with a copy of its space (see rumpvm_space_fork) and one thread, and returns its number;
// stores a number for its space at `space`, as rumpvm_process_create does. Takes the map's sleep lock, then the
// table's; from a thread. Or as rumpvm_process_create; -EINVAL also if `process` has exited, or does so meanwhile;
// -ESRCH.
// Contract: `space` is null, or there is a number to write.
int64_t rumpvm_process_fork(rumpvm_pid process,
                            rumpvm_space *space);

// As rumpvm_process_fork, but the child has the space of `process` itself until it execs or exits. The calling thread
// calls rumpvm_process_await_release, and runs in the space again after that; other threads of `process` go on.
// Contract: `space` is null, or there is a number to write.
int64_t rumpvm_process_vfork(rumpvm_pid process,
                             rumpvm_space *space);

// Sleeps until `child`, which rumpvm_process_vfork made, has a space of its own or has exited; takes no lock. From a
// thread. Returns 0, -ESRCH (it has even been waited for), -ENODEV.
int32_t rumpvm_process_await_release(rumpvm_pid child);

// Stores another number for the space that `process` has now at `space`, as rumpvm_space_share does. Takes a sleep
// lock for an instant; from a thread. Returns 0, -EINVAL (it has exited; `space` is null), -ENOMEM, -ENOSPC, -ESRCH,
// -ENODEV.
// Contract: `space` is null, or there is a number to write.
int32_t rumpvm_process_space(rumpvm_pid process,
                             rumpvm_space *space);

// Gives `process` a fresh, empty space in place of its own, as execve(2) does: one step, after which nothing can fail.
// The number at `space`, if it is not 0, is destroyed, and that of the fresh space stored there; this CPU is to be
// switched to it. The parent of a vfork goes on. Sleeps until the caller's is the only thread of the process: the host
// ends the others, each with rumpvm_process_thread_ends. Takes sleep locks, waits for other CPUs' flushes; from a
// thread, with interrupts on. Returns 0; or -EAGAIN (another thread is in exec), -EINVAL (it has exited; `space` is
// null), -EBADF (no such number at `space`), -ENOMEM, -ENOSPC, -ESRCH, -ENODEV, and nothing has changed.
// Contract: `space` is null, or points to a number that nobody else uses meanwhile.
int32_t rumpvm_process_exec(rumpvm_pid process,
                            rumpvm_space *space);

// Ends `process` with `status`, for its last thread: its space loses a user, and is taken down unless there are others
// (a number of the host's; the other side of a vfork). It is a zombie, whose number and status stay until somebody has
// waited for it; its children go to the nearest ancestor that adopts orphans, else to the oldest that runs. Nothing
// happens if it has exited before. Takes sleep locks, waits for other CPUs' flushes, and sleeps where a file loses its
// last user; from a thread, with interrupts on. Returns 0, -ESRCH, -ENODEV.
int32_t rumpvm_process_exit(rumpvm_pid process,
                            int32_t status);

// `process` has one more thread. Takes the table's lock for an instant; from a thread. Returns 0, -ESRCH, -ENODEV.
int32_t rumpvm_process_thread_starts(rumpvm_pid process);

// `process` has one thread less. Returns 1 if that was the last, which now calls rumpvm_process_exit; 0 if there are
// others, one of which may be waiting for this in rumpvm_process_exec. Takes the table's lock for an instant; from a
// thread. Or -EINVAL (there is none), -ESRCH, -ENODEV.
int32_t rumpvm_process_thread_ends(rumpvm_pid process);

// Stores what is known of segment `id`, which is found as `how` says (RUMPVM_SHM_BY_*), at `into`. Takes the table's
// sleep lock; from a thread. Returns 0, -EINVAL, -EACCES, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups; `into` is null, or there is a segment to write.
int32_t rumpvm_shm_status(const struct rumpvm_caller *caller,
                          int32_t id,
                          uint32_t how,
                          struct rumpvm_segment *into);

// Changes owner and permissions of segment `id` (IPC_SET). Takes the table's sleep lock; from a thread. Returns 0,
// -EINVAL, -EPERM, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int32_t rumpvm_shm_set(const struct rumpvm_caller *caller,
                       int32_t id,
                       uint32_t uid,
                       uint32_t gid,
                       uint32_t mode);

// Removes segment `id` (IPC_RMID): nobody finds it by its key any more, and its memory goes with its last area. Takes
// the table's sleep lock, and sleeps where the memory goes now; from a thread, with interrupts on. Returns 0, -EINVAL,
// -EPERM, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int32_t rumpvm_shm_remove(const struct rumpvm_caller *caller,
                          int32_t id);

// Marks segment `id` as locked in memory, or not, as `locked` is 1 or 0 (SHM_LOCK, SHM_UNLOCK), by the limit of
// `space` on locked memory. It is in memory anyway. Takes the table's sleep lock; from a thread. Returns 0, -EINVAL,
// -EPERM, -EBADF, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int32_t rumpvm_shm_lock(const struct rumpvm_caller *caller,
                        rumpvm_space space,
                        int32_t id,
                        uint32_t locked);

// Stores what there is of all segments at `into` (SHM_INFO). Takes the table's sleep lock; from a thread. Returns 0,
// -EINVAL (null), -ENODEV.
// Contract: `into` is null, or there are totals to write.
int32_t rumpvm_shm_totals(struct rumpvm_segment_totals *into);

// Stores the limits of all segments at `into` (IPC_INFO); before rumpvm_shm_set_limits, Linux's. Takes the table's sleep
// lock; from a thread. Returns 0, -EINVAL (null), -ENODEV.
// Contract: `into` is null, or there are limits to write.
int32_t rumpvm_shm_limits(struct rumpvm_segment_limits *into);

// Changes them to those at `from`; what there is stays. Takes the table's sleep lock; from a thread. Returns 0, -EINVAL
// (null), -ENODEV.
// Contract: `from` is null, or points to limits.
int32_t rumpvm_shm_set_limits(const struct rumpvm_segment_limits *from);

// The number of the segment with `key`, or of a new one of `bytes` bytes; `flags` are RUMPVM_IPC_CREAT,
// RUMPVM_IPC_EXCL, RUMPVM_SHM_NORESERVE, and permissions below them. See shmget(2). Takes the table's sleep lock; from a
// thread. Or -ENOENT, -EEXIST, -EACCES, -ENOSPC, -ENOMEM, -EINVAL, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int64_t rumpvm_shmget(const struct rumpvm_caller *caller,
                      int32_t key,
                      uint64_t bytes,
                      uint32_t flags);

// Maps segment `id` in `space`, at `address`, or anywhere if that is 0, as `flags` say (RUMPVM_SHM_*); returns where. See
// shmat(2). Takes the table's sleep lock, then the map's; from a thread, with interrupts on. Or -EINVAL, -EACCES,
// -ENOMEM, -EBADF, -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int64_t rumpvm_shmat(const struct rumpvm_caller *caller,
                     rumpvm_space space,
                     int32_t id,
                     uint64_t address,
                     uint32_t flags);

// Unmaps what is left of the segment that was attached in `space` at `address`; see shmdt(2). Takes the map's sleep
// lock, waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EBADF,
// -ENODEV.
// Contract: `caller` is null, or points to a caller with his groups.
int32_t rumpvm_shmdt(const struct rumpvm_caller *caller,
                     rumpvm_space space,
                     uint64_t address);

// Makes another number for `space` itself, as threads of a program or the two sides of a vfork want it, and stores it
// at `made`: whatever is done under one number is seen under the other, and CPUs that translate through one translate
// through the other. Each number is destroyed by itself; what is mapped goes with the last. Takes no sleep lock and
// does not sleep; from a thread. Returns 0, -EBADF, -ENOMEM, -ENOSPC (65,536 numbers), -EINVAL (`made` is null),
// -ENODEV.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_space_share(rumpvm_space space,
                           rumpvm_space *made);

// Gives up the space whose number is at `space`, and stores the number of a fresh, empty one there, as execve(2) does:
// one step, after which nothing can fail. Whoever else has a number for the old space (the parent of a vfork) keeps
// it; else what is mapped there goes. This CPU is to be switched to the fresh one. Limits, layout and heap are those
// of a new space. Takes sleep locks for an instant, the old map's lock, and waits for other CPUs' flushes; from a
// thread, with interrupts on. Returns 0; or -EBADF, -ENOMEM, -ENOSPC, -EINVAL (`space` is null), -ENODEV, and the old
// space is as it was.
// Contract: `space` is null, or points to a number that nobody else uses meanwhile.
int32_t rumpvm_space_exec(rumpvm_space *space);

// Makes an empty space and stores its number at `made`. Takes a sleep lock for an instant; from a thread. Returns 0,
// or -ENOMEM, -ENOSPC (65,536 spaces), -EINVAL (`made` is null), -ENODEV, and nothing has changed.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_space_create(rumpvm_space *made);

// Makes a copy of `space`, as fork(2) does, and stores its number at `made`: private memory is copied when one of the
// two first stores to it, shared memory is shared, page tables are shared where they can be. Time grows with the
// number of mappings, not of pages. Takes the map's sleep lock of `space`, whose faults wait meanwhile; from a
// thread. Returns 0, or as rumpvm_space_create; -EBADF.
// Contract: `made` is null, or there is a number to write.
int32_t rumpvm_space_fork(rumpvm_space space,
                          rumpvm_space *made);

// Makes this CPU translate user addresses through `space`, or through none if it is 0. Does nothing if it does
// already. Takes a spin lock, does not sleep; interrupts may be masked. A CPU with nothing to run is not asked to
// flush when it translates through none. Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_space_switch(rumpvm_space space);

// Ends `space`: its number names nothing from now on, and when the last call that still uses it has returned, and it
// has no other number (rumpvm_space_share) and no process, what is mapped goes, and CPUs that translate through it are
// made to give it up. Takes the map's lock and waits for other CPUs' flushes; from a thread, with interrupts on.
// Returns 0, -EBADF, -ENODEV.
int32_t rumpvm_space_destroy(rumpvm_space space);

// Physical address of the root of the page tables of `space`, for looking only: who changes entries, breaks it. Takes
// no lock; from anywhere. Or -EBADF, -ENODEV.
int64_t rumpvm_space_root(rumpvm_space space);

// Pages that the page tables of `space` map, those that it shares with others included. Takes no lock; from anywhere.
// Or -EBADF, -ENODEV.
int64_t rumpvm_space_resident(rumpvm_space space);

// Stores the first `size` bytes of the statistics at `into`; sizeof(struct rumpvm_statistics) for all that a host's
// header knows. The CPUs' counters are read one after the other while they count. Takes spin locks, does not sleep;
// from anywhere. Returns 0, -EINVAL (more than there are), -ENODEV.
// Contract: There are `size` bytes to write at `into`.
int32_t rumpvm_statistics(struct rumpvm_statistics *into,
                          size_t size);

// Makes `thread` ready for a new thread with number `id`, which is not 0 and differs from those of all threads alive.
// It then stays where it is until the thread has ended. Takes no lock, does not sleep; from anywhere, before the
// thread calls rumpvm. Returns 0, or -EINVAL for the number 0 or a null pointer.
// Contract: `thread` is null, or points to a record that no thread uses.
int32_t rumpvm_thread_init(struct rumpvm_thread *thread,
                           uint64_t id);

// Takes the kernel's addresses from `start` to `end`, multiples of 4096 in the upper half, over, for rumpvm_kernel_enter
// and its like. rumpvm makes the tables, and tells `link` of each entry that leads to one: it belongs, for good, in the
// host's table of that `level` which serves `address`, in every space, and nothing else may be mapped by it (a level-4
// entry serves 512 GiB, a level-2 entry 2 or 4 MiB). A null `link`: rumpvm stores them in kernel_root, or with PAE in the
// directory that its last entry leads to, from where every space gets them. `flags` is
// 0 or RUMPVM_WINDOW_GLOBAL.
//
// Once, behind the first memory, before any CPU translates through a root of rumpvm's. Takes spin locks, does not sleep; from
// a thread. Returns 0; -EINVAL (no such addresses or flags; neither `link` nor kernel_root), -EEXIST, -ENOMEM, -ENODEV.
// Contract: `link` may be called, and the entries that are stored map nothing else.
int32_t rumpvm_kernel_window(uint64_t start,
                             uint64_t end,
                             uint32_t flags,
                             void (*link)(uint64_t address, uint32_t level, uint64_t entry));

// Makes the tables for `length` bytes of the window from `address` on, so that rumpvm_kernel_enter cannot fail there:
// pmap_growkernel. They stay. Takes spin locks, does not sleep; from anywhere. Returns 0, -EINVAL, -ENOMEM, -ENODEV (no
// window).
int32_t rumpvm_kernel_prepare(uint64_t address,
                              uint64_t length);

// Maps the `count` frames whose physical addresses stand at `frames` at successive pages of the window from `address` on,
// with the rights `prot` for supervisors, in place of what was there: pmap_kenter_pa, pmap_qenter. Who enters says when it
// ends: rumpvm_page_protect leaves these mappings, and rumpvm_frame_free does not know of them. One caller at a time for
// each address. Takes spin locks, waits for other CPUs' flushes if there was something, does not sleep; from a thread, and
// from anywhere where there was nothing. Returns 0; -EINVAL, -ENODEV, and nothing has changed; -ENOMEM only where
// nothing was prepared, and then a first part may be mapped.
// Contract: `count` numbers can be read at `frames`; whatever the kernel does at those addresses is its own affair.
int32_t rumpvm_kernel_enter(uint64_t address,
                            const uint64_t *frames,
                            size_t count,
                            uint32_t prot);

// Unmaps `length` bytes of the window from `address` on, on every CPU that has attached: pmap_kremove, pmap_qremove. The
// frames stay their owners'. Takes spin locks, waits for other CPUs' flushes, does not sleep; from a thread, with
// interrupts on. Returns 0, -EINVAL, -ENODEV.
int32_t rumpvm_kernel_remove(uint64_t address,
                             uint64_t length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RUMPVM_H */
