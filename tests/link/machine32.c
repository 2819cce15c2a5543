/*
 * The kernel's machine on i386: one CPU, no interrupts. What it tries are the limits of memory that has to be seen in one GiB.
 */
#include "kernel.h"
#include "machine.h"
#include "ports.h"

#define GIB 0x40000000ull

extern uint64_t gdt[];

uint32_t machine_cpu(void)
{
    return 0;
}

#ifdef REGISTERS
/*
 * A CPU keeps PAE's root in registers (Intel SDM vol. 3A, 4.4.1). QEMU's looks it up each time, so here it walks a copy, which is
 * made when the root is loaded: what rumpvm changes in the root is seen only if it loads it again.
 */
static uint64_t registers[4] __attribute__((aligned(4096)));
static unsigned again;

static void load_root(uint64_t at)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"((uint32_t)at) : "memory");
}

static void tlb_activate(uint64_t root)
{
    static uint64_t last;
    const uint64_t *entries = seen(root);

    again += root != 0 && root == last;
    last = root;
    if (root != 0) {
        memcpy(registers, entries, 3 * sizeof *entries);
        registers[3] = *(const uint64_t *)(const void *)(boot_root + 3 * sizeof *entries);
    }
    load_root((root != 0 ? (uintptr_t)registers : (uintptr_t)boot_root) - IMAGE);
}

static void tlb_invalidate(uint64_t start, uint64_t end)
{
    for (; start < end; start += PAGE)
        __asm__ volatile("invlpg (%0)" : : "r"((uint32_t)start) : "memory");
}
#endif

void machine_describe(struct rumpvm_hypercalls *calls)
{
#ifdef REGISTERS
    calls->tlb_activate = tlb_activate;
    calls->tlb_invalidate = tlb_invalidate;
#else
    (void)calls;
#endif
}

static void set_gate(uint64_t *idt, unsigned vector, void (*to)(void), uint64_t ring)
{
    uint64_t at = (uintptr_t)to;

    /* An interrupt gate in code segment 8. */
    idt[vector] = (at & 0xffff) | 8u << 16 | (0x8e00 | ring << 13) << 32 | (at >> 16) << 48;
}

void machine_start(void)
{
    static uint64_t idt[256];
    static uint32_t task[26];
    static struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer;
    const uint64_t at = (uintptr_t)task;
    unsigned vector;

    for (vector = 0; vector < 256; vector++)
        set_gate(idt, vector, trap_other, 0);
    set_gate(idt, 8, trap_double, 0);
    set_gate(idt, 13, trap_protection, 0);
    set_gate(idt, 14, trap_page, 0);
    set_gate(idt, 128, trap_call, 3);
    out(0x21, 0xff);
    out(0xa1, 0xff);
    pointer.limit = sizeof idt - 1;
    pointer.base = (uintptr_t)idt;
    __asm__ volatile("lidt %0" : : "m"(pointer));
    task[1] = (uintptr_t)trap_stacks + 65536;
    task[2] = 16;
    task[25] = 104u << 16; /* no map of ports */
    gdt[5] = 103 | (at & 0xffffff) << 16 | 0x89ull << 40 | (at >> 24) << 56;
    __asm__ volatile("ltr %0" : : "r"((uint16_t)0x28));
    __asm__ volatile("sti");
}

static void expect_refused(uint64_t start, const char *what)
{
    EXPECT(rumpvm_add_memory(start, start + (4u << 20)) == -RUMPVM_EINVAL);
    say("kernel: memory ");
    say(what);
    say(": ");
    say(rumpvm_reason());
    say("\n");
}

void machine_try(void)
{
    expect_refused(4 * GIB, "at 4 GiB");
    expect_refused(GIB, "at 1 GiB");
    expect_refused(GIB - (2u << 20), "around 1 GiB");
#ifdef REGISTERS
    EXPECT(again > 0);
    say("kernel: a root was loaded again ");
    say_number(again);
    say(" times, because it had changed\n");
#else
    /* Who sets the root himself may see memory anywhere. */
    expect_refused(GIB + (4u << 20), "above 1 GiB");
#endif
}

int machine_trap(struct frame *frame)
{
    (void)frame;
    return 0;
}
