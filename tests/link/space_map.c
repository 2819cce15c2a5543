/* The kernel's spaces are rumpvm's: each call is one of rumpvm.h. */
#include "kernel.h"
#include "machine.h"
#include "space.h"

space space_create(void)
{
    rumpvm_space made;

    EXPECT(rumpvm_space_create(&made) == 0);
    return made;
}

space space_fork(space parent)
{
    rumpvm_space child;

    EXPECT(rumpvm_space_fork(parent, &child) == 0);
    return child;
}

void space_destroy(space space)
{
    EXPECT(rumpvm_space_destroy(space) == 0);
}

void space_switch(space space)
{
    EXPECT(rumpvm_space_switch(space) == 0);
}

void space_map(space space, uint64_t at, uint64_t bytes)
{
    const uint32_t flags = RUMPVM_MAP_PRIVATE | RUMPVM_MAP_ANONYMOUS | RUMPVM_MAP_FIXED;

    EXPECT(rumpvm_mmap(space, at, bytes, RUMPVM_PROT_READ | RUMPVM_PROT_WRITE, flags) == (int64_t)at);
}

void space_protect(space space, uint64_t at, uint64_t bytes)
{
    EXPECT(rumpvm_mprotect(space, at, bytes, RUMPVM_PROT_READ | RUMPVM_PROT_EXEC) == 0);
}

void space_unmap(space space, uint64_t at, uint64_t bytes)
{
    EXPECT(rumpvm_munmap(space, at, bytes) == 0);
}

void space_copy_out(space space, const void *from, uint64_t at, size_t bytes)
{
    EXPECT(rumpvm_copyout(space, from, at, bytes) == 0);
}

int space_fault(space space, uint64_t at, uint32_t code)
{
    return rumpvm_fault_code(space, at, code);
}

void space_report(void)
{
    static struct rumpvm_statistics end;
    static char story[256];

    if (rumpvm_check(story, sizeof story) != 0) {
        say(story);
        EXPECT(!"the check passes");
    }
    EXPECT(rumpvm_statistics(&end, sizeof end) == 0);
    EXPECT(end.forks == 1 && end.faults_copy > 0 && end.faults_zero_fill > 0);
    EXPECT(CPUS == 1 || end.flushes_remote > 0);
    say("rumpvm counted ");
    say_number(end.faults_copy);
    say(" copied, ");
    say_number(end.faults_reuse);
    say(" reused, ");
    say_number(end.flushes_remote);
    say(" flushes on the other CPU, ");
    say_number(end.frames_free);
    say(" of ");
    say_number(end.frames_total);
    say(" pages free\n");
}
