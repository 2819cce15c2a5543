#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static int me, step, file, memory;
static atomic_int *now; /* then the processes, and the segments with their numbers */
#define PROCESSES ((volatile int *)now + 1)
#define SEGMENTS ((volatile int *)now + 8)
static unsigned char vector[1 << 12];
static sigjmp_buf back;
static volatile unsigned long fetching;
static unsigned char scratch;

static void caught(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (number == SIGTRAP && !(registers[REG_EFL] & 0x100)) {
        registers[REG_EFL] |= 0x100; /* one instruction, and no more */
        registers[REG_RIP] = fetching;
        registers[REG_RAX] = (greg_t)&scratch;
        return;
    }
    registers[REG_EFL] &= ~0x100;
    if (number == SIGTRAP)
        printf("%3d process %d: fetched\n", step, me);
    else
        printf("%3d process %d: signal %d, code %d, at %p\n", step, me, number, info->si_code, info->si_addr);
    siglongjmp(back, 1);
}

static inline void begin(unsigned long locked) {
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct rlimit limit;
    char page[PAGE];
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    sigaction(SIGTRAP, &action, 0);
    setvbuf(stdout, 0, _IONBF, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    getrlimit(RLIMIT_MEMLOCK, &limit); /* root is not bound by it: run this as somebody else */
    limit.rlim_cur = locked < limit.rlim_max ? locked : limit.rlim_max;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    now = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    PROCESSES[0] = getpid();
    SEGMENTS[0] = SEGMENTS[1] = SEGMENTS[2] = -1;
    file = memfd_create("file", MFD_ALLOW_SEALING);
    memory = memfd_create("memory", MFD_ALLOW_SEALING);
    if (now == MAP_FAILED || ftruncate(memory, PAGES * PAGE))
        exit(2);
    for (int index = 0; index < PAGES; index++) {
        memset(page, NOP, PAGE);
        memset(page, 0x10 + index, STORED);
        page[PAGE - 1] = 0x10 + index;
        if (pwrite(file, page, PAGE, (long)index * PAGE) != PAGE)
            exit(2);
    }
}

static inline int turn(int number, int who) {
    if (step != number || me != who)
        while (atomic_load(now) < number)
            usleep(100);
    step = number;
    if (who != me)
        return 0;
    atomic_store(now, number);
    return 1;
}

static inline void done(void) { atomic_store(now, step + 1); }

#define call(name, ...) answered(name, syscall(__VA_ARGS__))

static inline long answered(const char *name, long value) {
    if (value == -1)
        printf("%3d process %d: %s: %s\n", step, me, name, strerror(errno));
    else
        printf("%3d process %d: %s: %#lx\n", step, me, name, value);
    done();
    return value;
}

static inline void place(unsigned long length, long at) {
    if (at != -1 && ((unsigned long)at < FIRST || (unsigned long)at >= END))
        munmap((void *)at, length); /* a place of the kernel's choice */
}

static inline void limit(int which, unsigned long more) {
    char line[256];
    unsigned long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, which ? "VmData: %lu" : "VmSize: %lu", &kib) == 1)
            break;
    if (status)
        fclose(status);
    struct rlimit both = {(kib << 10) + more, RLIM_INFINITY};
    call("limit", SYS_prlimit64, 0, which ? RLIMIT_DATA : RLIMIT_AS, &both, 0);
}

static inline void crowd(int room) { /* areas far away, until there is room for so many only */
    static char *pages = (char *)0x2000000000;
    while (mmap(pages, PAGE, (unsigned long)pages / PAGE % 2 ? PROT_NONE : PROT_READ,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED)
        pages += PAGE;
    for (; room >= 0; room--)
        munmap(pages -= PAGE, PAGE);
    answered("crowd", 0);
}

static inline void advise(int who, unsigned long at, unsigned long length, unsigned long next, unsigned long more, int advice) {
    struct iovec ranges[2] = {{(void *)at, length}, {(void *)next, more}};
    int process = syscall(SYS_pidfd_open, PROCESSES[who], 0);
    call("process_madvise", SYS_process_madvise, process, ranges, 2, advice, 0);
    close(process);
}

static inline void heap(unsigned long at) { /* brk begins there; nothing else uses it */
    struct prctl_mm_map map = {at - 1, at, at, at, at, at, at, at, at, at, at, 0, 0, -1};
    mallopt(M_MMAP_THRESHOLD, 0);
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0))
        perror("the heap cannot be placed");
}

static inline void get(int name, int key, unsigned long bytes, int flags) {
    int number = syscall(SYS_shmget, key ? 0x52560000 + key : IPC_PRIVATE, bytes, flags);
    if (number != -1)
        SEGMENTS[name] = number;
    answered("shmget", number);
}

static inline void attach(int name, unsigned long at, int flags) {
    long where = syscall(SYS_shmat, SEGMENTS[name], at, flags);
    answered("shmat", where);
    if (where != -1 && ((unsigned long)where < FIRST || (unsigned long)where >= END))
        shmdt((void *)where); /* a place of the kernel's choice */
}

static inline void control(int name, int command, int mode) {
    struct shmid_ds status = {.shm_perm = {.uid = geteuid(), .gid = getegid(), .mode = mode}};
    if (!shmctl(SEGMENTS[name], command, &status) && command == IPC_STAT)
        printf("%3d process %d: %zu bytes, mode %#o, %lu areas\n", step, me, status.shm_segsz,
               status.shm_perm.mode, (unsigned long)status.shm_nattch);
    else
        perror("shmctl");
    done();
}

static inline void load(unsigned long at) {
    if (!sigsetjmp(back, 1))
        printf("%3d process %d: %#lx\n", step, me, *(volatile unsigned long *)at);
    done();
}

static inline void store(unsigned long at, unsigned long value) {
    if (!sigsetjmp(back, 1)) {
        *(volatile unsigned long *)at = value;
        printf("%3d process %d: stored\n", step, me);
    }
    done();
}

static inline void fetch(unsigned long at) {
    if (!sigsetjmp(back, 1)) {
        (void)*(volatile unsigned long *)at;
        fetching = at;
        __asm__ volatile("int3" ::: "rax", "memory");
    }
    done();
}

static inline void child(int number) {
    int parent = step, process = fork();
    if (!process) {
        me = number;
        return;
    }
    PROCESSES[number] = process;
    printf("%3d process %d: forked\n", parent, me);
    done();
}

static inline void leave(void) {
    done();
    _exit(0);
}

static inline void look(int parts) {
    char line[512];
    unsigned long start = 0, end;
    FILE *maps = fopen("/proc/self/smaps", "r");
    while (maps && (parts & 3) && fgets(line, sizeof line, maps)) {
        unsigned long from;
        if (sscanf(line, "%lx-%lx ", &from, &end) == 2)
            start = from;
        if (start >= FIRST && start < END && (start == from || !strncmp(line, "VmFlags", 7)))
            printf("%3d process %d: %s", step, me, line);
        from = 1;
    }
    for (unsigned long at = FIRST; at < END; at += PAGE) {
        if ((parts & 2) && !syscall(SYS_mincore, at, PAGE, vector))
            printf("%3d process %d: %#lx: mincore %d\n", step, me, at, vector[0] & 1);
    }
    for (volatile unsigned long at = FIRST; at < END && (parts & 4); at += PAGE) {
        if (!sigsetjmp(back, 1))
            printf("%3d process %d: %#lx: %#lx\n", step, me, at, *(volatile unsigned long *)at);
    }
    if (maps)
        fclose(maps);
    done();
}

static inline void end(int number) {
    while (atomic_load(now) < number)
        usleep(100);
    while (wait(0) > 0)
        ;
    for (int name = 0; name < 3 && !me; name++)
        shmctl(SEGMENTS[name], IPC_RMID, 0);
    exit(0);
}
