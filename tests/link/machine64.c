/*
 * The kernel's machine on x86-64: two CPUs with local APICs (Intel SDM vol. 3A, 11).
 *
 * The second CPU runs a program that only loads, over and over, until the first CPU has unmapped the page: it ends only if its
 * TLB was flushed.
 */
#include "kernel.h"
#include "machine.h"
#include "ports.h"
#include "space.h"

#define FLUSH_VECTOR 64
#define START 0x8000ull /* where the second CPU begins; below 1 MiB, a multiple of 4096 */

extern char reader[], reader_end[], start_code[], start_code_end[];
extern uint64_t gdt[], boot_upper[];
void second_main(void) __attribute__((noreturn));

/* Of the two CPUs' space; and how far the second CPU is. */
static space common;
static volatile int is_up, may_go, is_ready, is_gone;

static volatile uint32_t *const apic = (volatile uint32_t *)(DIRECT_MAP + 0xfee00000);

enum { ID = 0x20 / 4, END = 0xb0 / 4, SPURIOUS = 0xf0 / 4, COMMAND = 0x300 / 4, TARGET = 0x310 / 4 };

/* The direct map covers the first GiB of RAM; registers have a large page of their own, uncached. */
static void map_apic(void)
{
    static uint64_t table[512] __attribute__((aligned(4096)));

    table[0x3ee00000 >> 21] = 0xfee00000 | 0x93;
    boot_upper[3] = ((uint64_t)(uintptr_t)table - IMAGE) | 3;
}

uint32_t machine_cpu(void)
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

void machine_describe(struct rumpvm_hypercalls *calls)
{
    calls->cpu_count = CPUS;
    calls->cpu_id = machine_cpu;
    calls->tlb_ipi = tlb_ipi;
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
    const uint32_t cpu = machine_cpu();
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

void machine_start(void)
{
    map_apic();
    set_traps();
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

void machine_try(void)
{
    memcpy(seen(START), start_code, (size_t)(start_code_end - start_code));
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

static void page_fault(struct frame *frame)
{
    uint64_t at;
    int error;

    __asm__ volatile("mov %%cr2, %0" : "=r"(at));
    error = space_fault(common, at, (uint32_t)frame->code);
    if (error == 0)
        return;
    EXPECT(error == -RUMPVM_EFAULT && at == DATA && is_ready);
    is_gone = 1;
    for (;;) /* and takes interrupts */
        __asm__ volatile("hlt");
}

int machine_trap(struct frame *frame)
{
    if (frame->vector == FLUSH_VECTOR) {
        rumpvm_tlb_interrupt();
        apic[END] = 0;
        return 1;
    }
    if (machine_cpu() == 0 || frame->cs != USER_CODE)
        return 0;
    if (frame->vector == 14)
        page_fault(frame);
    else if (frame->vector == 128 && frame->ax == 5)
        is_ready = 1;
    else
        return 0;
    return 1;
}
