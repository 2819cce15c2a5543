/* Random system calls, with arguments that are random, nearly valid, or wild: the kernel has to go on whatever is asked.
 *
 * Usage: calls SEED COUNT. Each few thousand calls are made by a child, which may end in any way; what counts is that
 * its parent lives to see the last one. */
#define _GNU_SOURCE
#include "expect.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Calls of each child, and milliseconds that it may take. */
enum { EACH = 1000, PATIENCE = 300 };

static unsigned long state;

static unsigned long next(void) {
    unsigned long mixed = state += 0x9e3779b97f4a7c15ul;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ul;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebul;
    return mixed ^ (mixed >> 31);
}

static char *pages;
static const char *paths[] = {"/tmp", "/tmp/a", "/tmp/b/c", "/dev/zero", "/proc/self/maps", ".", "", "/proc/self/fd/1"};

/* An argument: a place in memory that is there, or nearly, a small number, a flag, a wild one. */
static unsigned long argument(void) {
    static const unsigned long wild[] = {0, -1ul, 1ul << 47, (1ul << 47) - 1, 0xffff800000000000ul,
        0xffffffff80100000ul, 1ul << 63, 4096, 0x7fffffff, 0x80000000, -4096ul};
    switch (next() % 8) {
    case 0: return (unsigned long)pages + next() % (8 * 4096);
    case 1: return (unsigned long)pages + next() % 8 * 4096;
    case 2: return next() % 16;
    case 3: return 1ul << next() % 64;
    case 4: return wild[next() % (sizeof wild / sizeof *wild)];
    case 5: return (unsigned long)paths[next() % 8];
    case 6: return next() % 70000;
    default: return next();
    }
}

/* Those that would end the experiment rather than the kernel: exit, what stops or waits for ever, what kills others. */
static int is_left_out(long number) {
    static const short out[] = {SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigsuspend, SYS_kill, SYS_tkill, SYS_tgkill,
        SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_vfork, SYS_fork, SYS_clone, SYS_clone3, SYS_reboot,
        SYS_pidfd_send_signal, SYS_rt_sigreturn, SYS_execve, SYS_execveat, SYS_umount2, SYS_chroot, SYS_mlockall,
        SYS_setrlimit, SYS_prlimit64, SYS_setsid, SYS_setpgid};
    for (unsigned at = 0; at < sizeof out / sizeof *out; at++)
        if (out[at] == number)
            return 1;
    return 0;
}

static void child(unsigned long seed, long count) {
    state = seed;
    struct sigaction nothing = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &nothing, 0);
    pages = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int at = 0; at < 8 * 4096; at += 8)
        *(unsigned long *)(pages + at) = next() % 3 ? argument() : 0;
    mprotect(pages + 6 * 4096, 4096, PROT_READ);
    munmap(pages + 7 * 4096, 4096);
    /* What it writes by chance is nobody's to read. */
    int null = open("/dev/null", O_RDWR);
    for (int number = 0; number < 3; number++)
        EXPECT(dup2(null, number) == number);
    for (long made = 0; made < count; made++) {
        long number = next() % 460;
        if (!is_left_out(number))
            syscall(number, argument(), argument(), argument(), argument(), argument(), argument());
    }
    _exit(0);
}

int main(int count, char **words) {
    unsigned long seed = count > 1 ? strtoul(words[1], 0, 0) : 1;
    long calls = count > 2 ? strtol(words[2], 0, 0) : 100000;
    long ended = 0, killed = 0;
    for (long made = 0; made < calls; made += EACH) {
        pid_t born = fork();
        EXPECT(born >= 0);
        if (born == 0) {
            setpgid(0, 0);
            child(seed * 1000003 + (unsigned long)made, EACH);
        }
        int status = 0;
        pid_t found = 0;
        /* What sleeps for long is ended. */
        for (int wait = 0; wait < PATIENCE && found == 0; wait++) {
            struct timespec rest = {0, 1000000};
            nanosleep(&rest, 0);
            found = waitpid(born, &status, WNOHANG);
        }
        if (found == 0) {
            EXPECT(kill(born, SIGKILL) == 0);
            found = waitpid(born, &status, 0);
        }
        EXPECT(found == born);
        if (WIFEXITED(status))
            ended++;
        else
            killed++;
    }
    printf("calls: %ld children ended, %ld were killed\n", ended, killed);
    return 0;
}
