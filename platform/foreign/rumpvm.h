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
 * Long mode, four levels of page tables. The lower half of the root belongs to rumpvm, the upper half to the host, which lives
 * there. EFER.NXE must be on. Made by `cargo xtask header`; do not edit.
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

// Not permitted: a limit, or a seal.
#define RUMPVM_EPERM 1

// Input or output failed, or an object ends before that page: SIGBUS.
#define RUMPVM_EIO 5

// There is no such space, or it has ended.
#define RUMPVM_EBADF 9

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

// A table is full.
#define RUMPVM_ENOSPC 28

// A string has no end within the room for it.
#define RUMPVM_ENAMETOOLONG 36

// Not supported.
#define RUMPVM_EOPNOTSUPP 95

// An invariant is broken.
#define RUMPVM_EUCLEAN 117

// Version of this interface. A library serves hosts that were compiled against the same one.
#define RUMPVM_VERSION 1

// Words of 64 bits in a set of CPUs: CPU n is bit n % 64 of word n / 64.
#define RUMPVM_CPU_WORDS 4

// In place of a moment: never.
#define RUMPVM_NEVER UINT64_MAX

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

// Exactly at the hint, replacing what is there.
#define RUMPVM_MAP_FIXED 16

// Zero-filled memory: of rumpvm_mmap, and not of rumpvm_mmap_object.
#define RUMPVM_MAP_ANONYMOUS 32

// A stack: faults below extend it.
#define RUMPVM_MAP_GROWSDOWN 256

// The pages stay in memory.
#define RUMPVM_MAP_LOCKED 8192

// It is not counted against memory.
#define RUMPVM_MAP_NORESERVE 16384

// The pages are brought in at once.
#define RUMPVM_MAP_POPULATE 32768

// Exactly at the hint, or not at all.
#define RUMPVM_MAP_FIXED_NOREPLACE 1048576

// It may move.
#define RUMPVM_MREMAP_MAYMOVE 1

// It must move to the new address, replacing what is there.
#define RUMPVM_MREMAP_FIXED 2

// A child gets the same memory.
#define RUMPVM_INHERIT_SHARE 0

// A child gets a copy.
#define RUMPVM_INHERIT_COPY 1

// A child gets nothing.
#define RUMPVM_INHERIT_NONE 2

// A child gets zeros.
#define RUMPVM_INHERIT_ZERO 3

// Of rumpvm_msync: begin to write.
#define RUMPVM_MS_ASYNC 1

// Of rumpvm_msync: other mappings must see it; they always do.
#define RUMPVM_MS_INVALIDATE 2

// Of rumpvm_msync: write, and return when it is done.
#define RUMPVM_MS_SYNC 4

// Words of 64 bits in struct rumpvm_thread.
#define RUMPVM_THREAD_WORDS 256

// A zone.
struct rumpvm_zone;

// An address space, by a number that is never 0 and, once it was destroyed, names no other (until 4 billion more were
// made in its place). A wrong number is refused with -EBADF.
typedef uint64_t rumpvm_space;

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
    // for all p that are ever given by rumpvm_add_memory. A multiple of 4096; 0 for an identity mapping.
    uint64_t direct_map;
    // Physical address of a root table whose upper half, 256 entries, maps the host in every space. Left out: the
    // host must give tlb_activate.
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
    // Makes this CPU translate user addresses through the root table at physical address `root`, whose lower half is
    // rumpvm's; through none if `root` is 0. Drops the translations of the space that it leaves. Under spin locks.
    // Left out, with tlb_invalidate: copies the upper half of kernel_root to `root`, and loads CR3 with it.
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

// Something that can be mapped, by a number as that of a space. Each number is one user of the object; its mappings
// are others, so a number may be closed while the object is mapped.
typedef uint64_t rumpvm_object;

// Counts since the start, and what is in use now. In pieces, pages or calls; the last two in bytes. Later versions
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
// Requests that would fail do that by themselves; this is for when others need the memory. From anywhere.
void rumpvm_malloc_drain(void);

// Makes a zone: items of `size` bytes (16 KiB at most) at multiples of `align` (a power of two, a page at most), of which
// each CPU keeps some at hand. No more than `limit` items, rounded up to whole slabs, unless it is 0. `construct`, if
// not null, is called for an item before it is first handed out, `destroy` before its memory is given back, both from
// within the calls below, and they may call nothing of rumpvm; an item is freed as it would be handed out. `name` is
// for reports, and stays. The zone is stored at `made`. From a thread; takes spin locks. Returns 0, -EINVAL, -ENOMEM,
// -ENODEV.
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
// Takes spin locks, does not sleep. Returns 0, or with a rumpvm_reason: -EINVAL (no whole page, seen at address 0,
// out of reach), -EEXIST (overlaps what was given), -ENOSPC (too many ranges), -ENOMEM (too small for the first
// records, to which it then goes as a whole), -ENODEV (before rumpvm_init).
int32_t rumpvm_add_memory(uint64_t start,
                          uint64_t end);

// The calling CPU will call rumpvm from now on. Once on each CPU, behind the first memory, before any other call
// there. Takes no lock, does not sleep. Returns 0, or with a rumpvm_reason: -EINVAL (its number is not below
// cpu_count, or it is set up otherwise than rumpvm's page tables need), -EEXIST (that number has attached), -ENODEV
// (too early).
int32_t rumpvm_cpu_attach(void);

// Does a little work on a CPU that has nothing to do (pages are zeroed, records freed). Returns 1 if there may be
// more, 0 if not. Takes spin locks, does not sleep; from a thread, not from an interrupt.
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

// Ends `space`: its number names nothing from now on, and when the last call that still uses it has returned, what is
// mapped goes, and CPUs that translate through it are made to give it up. Takes the map's lock and waits for other
// CPUs' flushes; from a thread, with interrupts on. Returns 0, -EBADF, -ENODEV.
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

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RUMPVM_H */
