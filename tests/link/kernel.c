/*
 * A kernel in C without virtual memory of its own: a serial port, and rumpvm. For x86-64 with two CPUs, and for i386 with one
 * and either kind of page tables (machine.h).
 *
 * It starts in QEMU, gives rumpvm all memory behind itself, and leaves everything to it that has a default: interrupts, CR3,
 * TLB. Then it makes a space, puts a program into it (kernel.S, kernel32.S), has the program's page faults made good, and forks
 * it when it asks for that. What the program says of its variable proves copy-on-write in ring 3; the kernel looks at the page
 * tables themselves each time. At last it tries what only its machine has.
 *
 * What a space is, space.h says; space_map.c does it by rumpvm's maps, and rumpvm's counters prove who did it all.
 *
 * Flow: entry (kernel.S) -> kernel_main -> enter -> the program -> trap -> space_fault -> the program ... -> finish.
 */
#include "boot.h"
#include "kernel.h"
#include "machine.h"
#include "ports.h"
#include "space.h"

#define PROCESSES 2

struct process {
    space space; /* 0 if there is none */
    struct frame frame;
};

/* What a process said of its variable, and what the page tables said then. */
struct word {
    uint64_t value, physical;
    int is_writable;
};

void kernel_main(uint32_t info, uint32_t magic) __attribute__((noreturn));
void trap(struct frame *frame);

static struct process processes[PROCESSES];
static unsigned current;
static unsigned faults;
static struct word said[PROCESSES][4];
static unsigned count[PROCESSES];

/* What a compiler asks for by itself. */

void *memcpy(void *to, const void *from, size_t bytes)
{
    void *start = to;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return start;
}

void *memset(void *at, int value, size_t bytes)
{
    void *start = at;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
    return start;
}

/* The machine. */

void say(const char *text)
{
    for (; *text != 0; text++) {
        while ((in(0x3fd) & 0x20) == 0)
            ;
        out(0x3f8, (uint8_t)*text);
    }
}

void say_number(unsigned long number)
{
    char digits[21];
    char *at = digits + 20;

    *at = 0;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    say(at);
}

/* QEMU ends with twice the value, plus one. */
void power_off(uint8_t value)
{
    out(0xf4, value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void panic(const char *story)
{
    say("kernel: rumpvm panics: ");
    say(story);
    say("\n");
    power_off(2);
}

/*
 * Where the active space has `at`, by the entries that the CPU itself walks, and whether ring 3 may store there; the kernel has
 * just seen that it may load. A root entry of PAE has no rights (Intel SDM vol. 3A, 4.4.1).
 */
static uint64_t translate(uint64_t at, int *is_writable)
{
    const uint64_t frame = 0xffffffffff000ull;
    uintptr_t root;
    uint64_t found;
    int level;

    __asm__ volatile("mov %%cr3, %0" : "=r"(root));
    *is_writable = 1;
    for (found = root, level = LEVELS; level > 0; level--) {
        const entry *table = seen(found & frame);

        found = table[at >> (12 + INDEX_BITS * (level - 1)) & ((1u << INDEX_BITS) - 1)];
        EXPECT(found & 1);
        if (LEVELS != 3 || level != 3) {
            EXPECT(found & 4);
            *is_writable = *is_writable && (found & 2);
        }
    }
    return (found & frame) + at % PAGE;
}

/* The steps of the guide: init, memory, CPU. */
static void start_rumpvm(uint32_t magic, uint64_t info)
{
    static struct rumpvm_hypercalls calls;
    static struct range ranges[MOST_RANGES];
    const uint64_t own_end = (uintptr_t)image_end - IMAGE;
    const unsigned known = boot_memory(magic, info, ranges);
    unsigned at;

    calls.size = sizeof calls;
    calls.direct_map = DIRECT_MAP;
    calls.kernel_root = (uintptr_t)boot_root - IMAGE;
    calls.panic = panic;
    machine_describe(&calls);
    if (rumpvm_init(RUMPVM_VERSION, &calls) != 0)
        panic(rumpvm_reason());
    for (at = 0; at < known; at++) {
        const struct range *one = &ranges[at];

        /* RAM behind the kernel; what lies below 1 MiB is left alone. */
        if (one->end > own_end)
            EXPECT(rumpvm_add_memory(one->start > own_end ? one->start : own_end, one->end) == 0);
    }
    EXPECT(rumpvm_cpu_attach() == 0);
}

/* Programs. */

void load_program(space space, const char *code, const char *end)
{
    space_map(space, CODE, PAGE);
    space_map(space, DATA, PAGE);
    space_map(space, STACK - PAGE, PAGE);
    space_copy_out(space, code, CODE, (size_t)(end - code));
    space_protect(space, CODE, PAGE);
}

void enter_program(void)
{
    struct frame first;

    memset(&first, 0, sizeof first);
    first.ip = CODE;
    first.cs = USER_CODE;
    first.flags = 0x202;
    first.sp = STACK;
    first.ss = USER_DATA;
    enter(&first);
}

/* The program has just loaded what it says. */
static void hear(uint64_t value)
{
    struct word *word = &said[current][count[current]++];

    word->value = value;
    word->physical = translate(DATA, &word->is_writable);
    EXPECT(*(const uint32_t *)seen(word->physical) == value);
}

/* What both said, and in which pages they had it: one for both until a store, then two. */
static void expect_copy_on_write(void)
{
    static const uint64_t expected[PROCESSES][3] = {{42, 42, 43}, {42, 7, 7}};
    const struct word *parent = said[0], *child = said[1];
    unsigned number, at;

    for (number = 0; number < PROCESSES; number++) {
        EXPECT(count[number] == 3);
        for (at = 0; at < 3; at++)
            EXPECT(said[number][at].value == expected[number][at]);
    }
    EXPECT(parent[0].physical == child[0].physical && parent[1].physical == child[0].physical);
    EXPECT(!parent[0].is_writable && !child[0].is_writable);
    EXPECT(child[1].physical != child[0].physical && child[1].is_writable);
    EXPECT(child[2].physical == child[1].physical && child[2].is_writable);
    EXPECT(parent[2].physical != child[1].physical && parent[2].is_writable);
}

static void __attribute__((noreturn)) finish(void)
{
    expect_copy_on_write();
    machine_try();
    EXPECT(faults > 0);
    say("kernel: parent said 42 42 43, child 42 7 7; ");
    say_number(faults);
    say(" faults in ring 3; ");
    space_report();
    power_off(16);
}

/* The other process runs; or, if this one has ended, and there is none, all is done. */
static void switch_from(struct frame *frame)
{
    unsigned next = (current + 1) % PROCESSES;

    if (processes[next].space == 0) {
        if (processes[current].space == 0)
            finish();
        return;
    }
    processes[current].frame = *frame;
    current = next;
    *frame = processes[current].frame;
    space_switch(processes[current].space);
}

static void end_process(struct frame *frame)
{
    space space = processes[current].space;

    processes[current].space = 0;
    space_destroy(space);
    switch_from(frame);
}

static void fork_process(struct frame *frame)
{
    EXPECT(current == 0 && processes[1].space == 0);
    processes[1].space = space_fork(processes[0].space);
    frame->ax = 0;
    processes[1].frame = *frame;
    frame->ax = 1;
}

static void page_fault(struct frame *frame)
{
    uintptr_t at;
    int error;

    __asm__ volatile("mov %%cr2, %0" : "=r"(at));
    if (frame->cs != USER_CODE) {
        say("kernel: a page fault of the kernel's own\n");
        power_off(3);
    }
    faults++;
    error = space_fault(processes[current].space, at, (uint32_t)frame->code);
    if (error == 0)
        return;
    /* SIGSEGV. Only the child does that, at last, to its code. */
    EXPECT(current == 1 && error == -RUMPVM_EACCES && at >= CODE && at < CODE + PAGE);
    end_process(frame);
}

void trap(struct frame *frame)
{
    /* Who was interruptible, is. */
    if (frame->flags & 0x200)
        __asm__ volatile("sti");
    if (machine_trap(frame)) {
        /* It was not of the two processes. */
    } else if (frame->vector == 14) {
        page_fault(frame);
    } else if (frame->vector == 128 && frame->ax == 1) {
        fork_process(frame);
    } else if (frame->vector == 128 && frame->ax == 2 && count[current] < 4) {
        hear(frame->si);
    } else if (frame->vector == 128 && frame->ax == 3) {
        switch_from(frame);
    } else if (frame->vector == 128 && frame->ax == 4) {
        end_process(frame);
    } else {
        say("kernel: a trap that nobody expects: ");
        say_number(frame->vector);
        say("\n");
        power_off(3);
    }
    __asm__ volatile("cli");
}

void kernel_main(uint32_t info, uint32_t magic)
{
    machine_start();
    start_rumpvm(magic, info);
    processes[0].space = space_create();
    load_program(processes[0].space, program, program_end);
    space_switch(processes[0].space);
    enter_program();
}
