/* What a program pays its kernel, in ticks of the time stamp counter: where the machine counts instructions instead of
 * time, those are instructions.
 *
 * Usage: measure [start|short]. The same file runs on Linux and here; each line of output is `measured NAME: TICKS`.
 * With `start` only the first is printed, which is the counter when the program began; with `short` each operation is
 * done twice.
 *
 * Each operation is done several times, and the least counts: an interrupt in between belongs to nobody. What is around
 * an operation (a fork around a fault in the child) is outside of the two looks at the counter.
 *
 * The program needs nothing but its own path in its first word, for exec: no file system is mounted yet. */
#define _GNU_SOURCE
#include "ticks.h"
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 7, CALLS = 100, PAGES = 256 };

static char *self;

/* A file of so many pages that nobody has mapped, with all its pages in memory. */
static int file(size_t pages) {
    int number = memfd_create("measure", 0);
    EXPECT(number >= 0 && ftruncate(number, (off_t)(pages * PAGE)) == 0);
    for (size_t page = 0; page < pages; page++)
        EXPECT(pwrite(number, "x", 1, (off_t)(page * PAGE)) == 1);
    return number;
}

static void reap(pid_t child) {
    int status;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What `touch` costs on fresh pages, `before` having touched them. */
static unsigned long touch_fresh(void (*before)(char *, size_t), void (*touch)(char *, size_t)) {
    char *at = map(PAGES, 0);
    if (before)
        before(at, PAGES);
    unsigned long begin = ticks();
    touch(at, PAGES);
    unsigned long spent = ticks() - begin;
    unmap(at, PAGES);
    return spent;
}

/* Each of these returns ticks, of as many operations as the table below says. */

static unsigned long null_call(void) {
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call++) {
        long result = SYS_getppid;
        __asm__ volatile("syscall" : "+a"(result)::"rcx", "r11", "memory");
    }
    return ticks() - begin;
}

static unsigned long first_store(void) {
    return touch_fresh(0, store);
}

static unsigned long first_load(void) {
    return touch_fresh(0, load);
}

static unsigned long store_after_load(void) {
    return touch_fresh(load, store);
}

static unsigned long populate(void) {
    unsigned long begin = ticks();
    char *at = map(PAGES, MAP_POPULATE);
    unsigned long spent = ticks() - begin;
    unmap(at, PAGES);
    return spent;
}

static unsigned long map_and_unmap(void) {
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call++) {
        char *at = map(1, 0);
        store(at, 1);
        unmap(at, 1);
    }
    return ticks() - begin;
}

static unsigned long unmap_resident(void) {
    char *at = map(PAGES, 0);
    store(at, PAGES);
    unsigned long begin = ticks();
    unmap(at, PAGES);
    return ticks() - begin;
}

/* Rights of `pages` resident pages, `from` the beginning of 600, taken and given back. */
static unsigned long change_rights(size_t from, size_t pages, size_t all) {
    char *at = map(all, 0);
    store(at, all);
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call += 2) {
        protect(at + from * PAGE, pages, PROT_READ);
        protect(at + from * PAGE, pages, PROT_READ | PROT_WRITE);
    }
    unsigned long spent = ticks() - begin;
    unmap(at, all);
    return spent;
}

static unsigned long protect_page(void) {
    return change_rights(0, 1, 1);
}

static unsigned long protect_middle(void) {
    return change_rights(300, 1, 600);
}

static unsigned long protect_many(void) {
    return change_rights(0, 512, 512);
}

static unsigned long move(void) {
    char *at = map(1, 0), *other = map(1, 0);
    store(at, 1);
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call++) {
        EXPECT(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
        char *next = at;
        at = other;
        other = next;
    }
    unsigned long spent = ticks() - begin;
    unmap(at, 1);
    return spent;
}

/* From the birth of a child, by fork or vfork, to its burial. */
static unsigned long child(pid_t (*born)(void), int execs) {
    unsigned long begin = ticks();
    pid_t child = born();
    if (child == 0) {
        if (execs)
            execl(self, self, "nothing", (char *)0);
        _exit(execs);
    }
    reap(child);
    return ticks() - begin;
}

static unsigned long fork_only(void) {
    return child(fork, 0);
}

static unsigned long fork_large(void) {
    char *at = map(16384, 0);
    store(at, 16384);
    unsigned long spent = child(fork, 0);
    unmap(at, 16384);
    return spent;
}

static unsigned long vfork_only(void) {
    return child(vfork, 0);
}

static unsigned long fork_and_exec(void) {
    return child(fork, 1);
}

static unsigned long copy_on_write(void) {
    char *at = map(PAGES, 0);
    unsigned long *spent = (unsigned long *)mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(spent != MAP_FAILED);
    *spent = 0;
    store(at, PAGES);
    pid_t child = fork();
    if (child == 0) {
        unsigned long begin = ticks();
        store(at, PAGES);
        *spent = ticks() - begin;
        _exit(0);
    }
    reap(child);
    unsigned long result = *spent;
    unmap(at, PAGES);
    unmap((char *)spent, 1);
    return result;
}

static unsigned long fault_of_file(int rights, void (*touch)(char *, size_t)) {
    int number = file(PAGES);
    char *at = mmap(0, PAGES * PAGE, rights, MAP_SHARED, number, 0);
    EXPECT(at != MAP_FAILED);
    unsigned long begin = ticks();
    touch(at, PAGES);
    unsigned long spent = ticks() - begin;
    unmap(at, PAGES);
    close(number);
    return spent;
}

static unsigned long store_to_file(void) {
    return fault_of_file(PROT_READ | PROT_WRITE, store);
}

static unsigned long load_of_file(void) {
    return fault_of_file(PROT_READ, load);
}

static char *volatile guarded;

static void allow(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    protect(guarded, 1, PROT_READ | PROT_WRITE);
}

static unsigned long signal_and_return(void) {
    struct sigaction action = {.sa_sigaction = allow, .sa_flags = SA_SIGINFO}, before;
    EXPECT(sigaction(SIGSEGV, &action, &before) == 0);
    guarded = map(1, 0);
    store(guarded, 1);
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call++) {
        protect(guarded, 1, PROT_READ);
        store(guarded, 1);
    }
    unsigned long spent = ticks() - begin;
    unmap(guarded, 1);
    EXPECT(sigaction(SIGSEGV, &before, 0) == 0);
    return spent;
}

static unsigned long round_trip(void) {
    int there[2], back[2];
    char byte = 0;
    EXPECT(pipe(there) == 0 && pipe(back) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1)
            EXPECT(write(back[1], &byte, 1) == 1);
        _exit(0);
    }
    unsigned long begin = ticks();
    for (int call = 0; call < CALLS; call++)
        EXPECT(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
    unsigned long spent = ticks() - begin;
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    reap(child);
    return spent;
}

static const struct {
    const char *name;
    unsigned long (*work)(void);
    unsigned long operations;
} table[] = {
    {"null call", null_call, CALLS},
    {"store to a fresh page", first_store, PAGES},
    {"load of a fresh page", first_load, PAGES},
    {"store after that load", store_after_load, PAGES},
    {"populate, per page", populate, PAGES},
    {"mmap, store, munmap", map_and_unmap, CALLS},
    {"munmap, per resident page", unmap_resident, PAGES},
    {"mprotect of an area's only page", protect_page, CALLS},
    {"mprotect of a page in the middle", protect_middle, CALLS},
    {"mprotect of 512 pages", protect_many, CALLS},
    {"mremap of a page", move, CALLS},
    {"fork, exit, wait", fork_only, 1},
    {"the same with 64 MiB resident", fork_large, 1},
    {"vfork, exit, wait", vfork_only, 1},
    {"fork, exec, exit, wait", fork_and_exec, 1},
    {"copy on write, per page", copy_on_write, PAGES},
    {"store to a shared file's page", store_to_file, PAGES},
    {"load of a shared file's page", load_of_file, PAGES},
    {"SIGSEGV, two mprotects, return", signal_and_return, CALLS},
    {"pipe round trip of two processes", round_trip, CALLS},
};

int main(int count, char **words) {
    unsigned long start = ticks();
    self = words[0];
    if (count > 1 && strcmp(words[1], "nothing") == 0)
        return 0;
    int times = count > 1 && strcmp(words[1], "short") == 0 ? 2 : TIMES;
    printf("measured start: %lu\n", start);
    if (count > 1 && strcmp(words[1], "start") == 0)
        return 0;
    for (size_t row = 0; row < sizeof table / sizeof *table; row++) {
        unsigned long least = -1ul;
        for (int time = 0; time < times; time++) {
            unsigned long spent = table[row].work();
            least = spent < least ? spent : least;
        }
        printf("measured %s: %lu\n", table[row].name, (least + table[row].operations / 2) / table[row].operations);
    }
    return 0;
}
