/*
 * A kernel in C without virtual memory of its own: x86-64, two CPUs, a serial port, and rumpvm.
 *
 * It starts in QEMU (PVH), gives rumpvm all memory behind itself, and leaves everything to it that has a default: interrupts,
 * CR3, TLB. Then it makes a space, puts a program into it (kernel.S), has the program's page faults made good, and forks it
 * when it asks for that. What the program says of its variable proves copy-on-write in ring 3. At last the second CPU runs a
 * program that only loads, over and over, until the first CPU has unmapped the page: it ends only if its TLB was flushed.
 *
 * What a space is, space.h says; space_map.c does it by rumpvm's maps, and rumpvm's counters prove who did it all.
 *
 * Flow: entry (kernel.S) -> kernel_main -> enter -> the program -> trap -> space_fault -> the program ... -> two_cpus -> finish.
 */
#include "kernel.h"
#include "space.h"

#define DIRECT_MAP 0xffff800000000000ull
#define IMAGE 0xffffffff80000000ull

#define CODE 0x400000ull
#define DATA 0x500000ull
#define STACK 0x600000ull

#define PROCESSES 2
#define CPUS 2

#define FLUSH_VECTOR 64
#define START 0x8000ull /* where the second CPU begins; below 1 MiB, a multiple of 4096 */

/* What traps leave on the stack. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, code;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct process {
    space space; /* 0 if there is none */
    struct frame frame;
};

/* Xen's public/arch-x86/hvm/start_info.h, as far as it is looked at. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};

struct memory {
    uint64_t start, bytes;
    uint32_t type, reserved;
};

extern char image_end[], boot_root[], program[], program_end[], reader[], reader_end[];
extern char trap_stacks[], start_code[], start_code_end[];
extern uint64_t gdt[], boot_upper[];
void trap_double(void), trap_protection(void), trap_page(void), trap_flush(void), trap_call(void);
void trap_other(void);
void enter(const struct frame *frame) __attribute__((noreturn));
void kernel_main(uint64_t info) __attribute__((noreturn));
void second_main(void) __attribute__((noreturn));
void trap(struct frame *frame);

static struct process processes[PROCESSES];
static unsigned current;
static unsigned faults;
static uint64_t said[PROCESSES][4];
static unsigned count[PROCESSES];

/* Of the two CPUs' space; and how far the second CPU is. */
static space common;
static volatile int is_up, may_go, is_ready, is_gone;

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

static void out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

void say(const char *text)
{
    for (; *text != 0; text++) {
        while ((in(0x3fd) & 0x20) == 0)
            ;
        out(0x3f8, (uint8_t)*text);
    }
}

void say_number(uint64_t number)
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

/* The local APIC. Intel SDM vol. 3A, 11. */

static volatile uint32_t *const apic = (volatile uint32_t *)(DIRECT_MAP + 0xfee00000);

enum { ID = 0x20 / 4, END = 0xb0 / 4, SPURIOUS = 0xf0 / 4, COMMAND = 0x300 / 4, TARGET = 0x310 / 4 };

/* The direct map covers the first GiB of RAM; registers have a large page of their own, uncached. */
static void map_apic(void)
{
    static uint64_t table[512] __attribute__((aligned(4096)));

    table[0x3ee00000 >> 21] = 0xfee00000 | 0x93;
    boot_upper[3] = ((uint64_t)(uintptr_t)table - IMAGE) | 3;
}

static uint32_t cpu_id(void)
{
    return apic[ID] >> 24;
}

static void send(uint32_t cpu, uint32_t command)
{
    apic[TARGET] = cpu << 24;
    apic[COMMAND] = command;
    while (apic[COMMAND] & 0x1000)
        ;
}

static void tlb_ipi(const uint64_t *cpus)
{
    uint32_t cpu;

    for (cpu = 0; cpu < CPUS; cpu++)
        if (cpus[0] & 1ull << cpu)
            send(cpu, 0x4000 | FLUSH_VECTOR);
}

/* An access to this port takes a microsecond, roughly. */
static void wait(unsigned microseconds)
{
    while (microseconds-- > 0)
        in(0x80);
}

static void await(volatile int *word, const char *what)
{
    unsigned patience = 10000;

    while (*word == 0) {
        if (patience-- == 0) {
            say("kernel: the second CPU: ");
            say(what);
            say("\n");
            power_off(4);
        }
        wait(1000);
    }
}

static void set_gate(uint64_t *idt, unsigned vector, void (*to)(void), uint64_t ring)
{
    uint64_t at = (uint64_t)(uintptr_t)to;

    /* An interrupt gate in code segment 8. */
    idt[2 * vector] = (at & 0xffff) | 8u << 16 | (0x8e00 | ring << 13) << 32 | (at >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = at >> 32;
}

/* On each CPU: traps, a stack for them, its APIC; then interrupts are on, and rumpvm masks them. */
static void set_traps(void)
{
    static uint64_t idt[2 * 256];
    static uint32_t tasks[CPUS][26];
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
    const uint32_t cpu = cpu_id();
    uint32_t *task = tasks[cpu];
    uint64_t at = (uint64_t)(uintptr_t)task, stack = (uint64_t)(uintptr_t)trap_stacks + (cpu + 1) * 65536;
    unsigned vector;

    if (cpu == 0) {
        for (vector = 0; vector < 256; vector++)
            set_gate(idt, vector, trap_other, 0);
        set_gate(idt, 8, trap_double, 0);
        set_gate(idt, 13, trap_protection, 0);
        set_gate(idt, 14, trap_page, 0);
        set_gate(idt, FLUSH_VECTOR, trap_flush, 0);
        set_gate(idt, 128, trap_call, 3);
        /* Nothing else is to interrupt. */
        out(0x21, 0xff);
        out(0xa1, 0xff);
    }
    __asm__ volatile("lidt %0" : : "m"(pointer));
    task[1] = (uint32_t)stack;
    task[2] = (uint32_t)(stack >> 32);
    task[25] = 104u << 16; /* no map of ports */
    gdt[5 + 2 * cpu] = 103 | (at & 0xffffff) << 16 | 0x89ull << 40 | (at >> 24 & 0xff) << 56;
    gdt[6 + 2 * cpu] = at >> 32;
    __asm__ volatile("ltr %0" : : "r"((uint16_t)(0x28 + 16 * cpu)));
    apic[SPURIOUS] = 0x1ff;
    __asm__ volatile("sti");
}

/* The steps of the guide: init, memory, CPU. */
static void start_rumpvm(const struct start_info *info)
{
    static struct rumpvm_hypercalls calls;
    const struct memory *map = (const struct memory *)(DIRECT_MAP + info->memory_map);
    const uint64_t own_end = (uint64_t)(uintptr_t)image_end - IMAGE;
    uint32_t at;

    calls.size = sizeof calls;
    calls.direct_map = DIRECT_MAP;
    calls.kernel_root = (uint64_t)(uintptr_t)boot_root - IMAGE;
    calls.panic = panic;
    calls.cpu_count = CPUS;
    calls.cpu_id = cpu_id;
    calls.tlb_ipi = tlb_ipi;
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    for (at = 0; at < info->memory_map_entries; at++) {
        uint64_t end = map[at].start + map[at].bytes;

        /* RAM behind the kernel; what lies below 1 MiB is left alone. */
        if (map[at].type == 1 && end > own_end)
            EXPECT(rumpvm_add_memory(map[at].start > own_end ? map[at].start : own_end, end) == 0);
    }
    EXPECT(rumpvm_cpu_attach() == 0);
}

/* Programs. */

static void load_program(space space, const char *code, const char *end)
{
    space_map(space, CODE, PAGE);
    space_map(space, DATA, PAGE);
    space_map(space, STACK - PAGE, PAGE);
    space_copy_out(space, code, CODE, (size_t)(end - code));
    space_protect(space, CODE, PAGE);
}

static void __attribute__((noreturn)) enter_program(void)
{
    struct frame first;

    memset(&first, 0, sizeof first);
    first.rip = CODE;
    first.cs = 0x23;
    first.rflags = 0x202;
    first.rsp = STACK;
    first.ss = 0x1b;
    enter(&first);
}

/* The second CPU, from kernel.S. */
void second_main(void)
{
    set_traps();
    EXPECT(rumpvm_cpu_attach() == 0);
    is_up = 1;
    while (!may_go)
        ;
    space_switch(common);
    enter_program();
}

static void two_cpus(void)
{
    memcpy((void *)(DIRECT_MAP + START), start_code, (size_t)(start_code_end - start_code));
    send(1, 0x4500); /* INIT, and twice where to start: Intel SDM vol. 3A, 9.4.4 */
    wait(10000);
    send(1, 0x4600 | START >> 12);
    wait(200);
    if (!is_up)
        send(1, 0x4600 | START >> 12);
    await(&is_up, "does not start");

    common = space_create();
    load_program(common, reader, reader_end);
    may_go = 1;
    await(&is_ready, "does not run its program");
    /* It loads from the page, through its TLB. */
    wait(2000);
    EXPECT(!is_gone);
    space_unmap(common, DATA, PAGE);
    await(&is_gone, "still sees a page that was unmapped");
    space_destroy(common);
}

static void __attribute__((noreturn)) finish(void)
{
    static const uint64_t expected[PROCESSES][3] = {{42, 42, 43}, {42, 7, 7}};
    unsigned number, at;

    for (number = 0; number < PROCESSES; number++) {
        EXPECT(count[number] == 3);
        for (at = 0; at < 3; at++)
            EXPECT(said[number][at] == expected[number][at]);
    }
    two_cpus();
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
    frame->rax = 0;
    processes[1].frame = *frame;
    frame->rax = 1;
}

static void page_fault(struct frame *frame)
{
    uint64_t at;
    int error;

    __asm__ volatile("mov %%cr2, %0" : "=r"(at));
    if (frame->cs == 8) {
        say("kernel: a page fault of the kernel's own\n");
        power_off(3);
    }
    if (cpu_id() != 0) {
        error = space_fault(common, at, (uint32_t)frame->code);
        if (error == 0)
            return;
        EXPECT(error == -RUMPVM_EFAULT && at == DATA && is_ready);
        is_gone = 1;
        for (;;) /* and takes interrupts */
            __asm__ volatile("hlt");
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
    if (frame->rflags & 0x200)
        __asm__ volatile("sti");
    if (frame->vector == FLUSH_VECTOR) {
        rumpvm_tlb_interrupt();
        apic[END] = 0;
    } else if (frame->vector == 14) {
        page_fault(frame);
    } else if (frame->vector == 128 && frame->rax == 5 && cpu_id() == 1) {
        is_ready = 1;
    } else if (frame->vector == 128 && frame->rax == 1) {
        fork_process(frame);
    } else if (frame->vector == 128 && frame->rax == 2 && count[current] < 4) {
        said[current][count[current]++] = frame->rsi;
    } else if (frame->vector == 128 && frame->rax == 3) {
        switch_from(frame);
    } else if (frame->vector == 128 && frame->rax == 4) {
        end_process(frame);
    } else {
        say("kernel: a trap that nobody expects: ");
        say_number(frame->vector);
        say("\n");
        power_off(3);
    }
    __asm__ volatile("cli");
}

void kernel_main(uint64_t info)
{
    map_apic();
    set_traps();
    start_rumpvm((const struct start_info *)(DIRECT_MAP + info));
    processes[0].space = space_create();
    load_program(processes[0].space, program, program_end);
    space_switch(processes[0].space);
    enter_program();
}
