/* Alarms in the middle of everything: somebody wakes up often, on the CPU on which somebody else gives memory back. Where
 * time is counted in instructions, an alarm that is set to go off at once does so before the next one. */
#define _GNU_SOURCE
#include "expect.h"
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLEEPS = 1000, BYTES = 1 << 20 };

int main(void) {
    pid_t sleeper = fork();
    EXPECT(sleeper >= 0);
    if (sleeper == 0) {
        for (long number = 0; number < SLEEPS; number++) {
            struct timespec rest = {0, 20000 + number * 7919 % 100000};
            EXPECT(nanosleep(&rest, 0) == 0);
        }
        _exit(0);
    }
    int status = 0;
    while (waitpid(sleeper, &status, WNOHANG) == 0) {
        char *memory = mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(memory != MAP_FAILED);
        for (long at = 0; at < BYTES; at += 4096)
            memory[at] = 1;
        EXPECT(munmap(memory, BYTES) == 0);
    }
    EXPECT(status == 0);
    puts("alarms: done");
    return 0;
}
