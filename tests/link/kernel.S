# The parts of kernel.c that C cannot say: the way into 64-bit mode, traps, and the program.
#
# Entry is Multiboot's and PVH's, which are alike: 32-bit protected mode without paging, %ebx points to what is told, and %eax says
# who tells, if it is Multiboot. Symbols are linked at the image's upper place; before the jump there each is used less IMAGE.

.set IMAGE, 0xffffffff80000000
.set LARGE_RW, 0x83

.section .note.Xen, "a", @note
.balign 4
    .long 4                                 # name
    .long 8                                 # value
    .long 18                                # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad entry - IMAGE

.section .text
#ifndef PVH_ONLY
# Multiboot, 3.1.1. With addresses, because loaders would take no other file of 64 bits.
.balign 4
multiboot:
    .long 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
    .long multiboot - IMAGE, multiboot - IMAGE, load_end - IMAGE, image_end - IMAGE, entry - IMAGE
#endif
.code32
.global entry
entry:
    cli
    cld
    movl %ebx, %edi
    movl %eax, %esi

    # 1 GiB in large pages, seen at 0 (for the next instructions), in the direct map, and at IMAGE.
    movl $(boot_large - IMAGE), %ebx
    movl $LARGE_RW, %eax
    movl $512, %ecx
1:  movl %eax, (%ebx)
    addl $8, %ebx
    addl $0x200000, %eax
    loop 1b
    movl $(boot_large - IMAGE + 3), %eax
    movl %eax, boot_upper - IMAGE
    movl %eax, boot_upper - IMAGE + 510 * 8
    movl $(boot_upper - IMAGE + 3), %eax
    movl %eax, boot_root - IMAGE
    movl %eax, boot_root - IMAGE + 256 * 8
    movl %eax, boot_root - IMAGE + 511 * 8

    movl $(boot_root - IMAGE), %eax
    movl %eax, %cr3
    movl $0x20, %eax                        # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx                  # EFER: LME, and NXE, which rumpvm needs
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax                  # paging, write protection, protected mode
    movl %eax, %cr0
    lgdt gdt_pointer_low - IMAGE
    ljmp $8, $(long_mode - IMAGE)

# The second CPU. It begins in real mode with this code, copied to START, and goes the same way.
.set START, 0x8000
.global start_code, start_code_end
.balign 16
start_code:
.code16
    cli
    xorl %eax, %eax
    movw %ax, %ds
    lgdtl START + start_gdt - start_code
    movl $0x11, %eax                        # protected mode
    movl %eax, %cr0
    ljmpl $8, $(START + start_32 - start_code)
.balign 8
start_table:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
start_gdt:
    .word 23
    .long START + start_table - start_code
.code32
start_32:
    movl $16, %eax
    movl %eax, %ds
    movl $(boot_root - IMAGE), %eax
    movl %eax, %cr3
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    lgdt gdt_pointer_low - IMAGE
    ljmp $8, $(second - IMAGE)
start_code_end:

.code64
second:
    movabsq $1f, %rax
    jmp *%rax
1:  lgdt gdt_pointer(%rip)
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    leaq second_stack_end(%rip), %rsp
    xorl %ebp, %ebp
    call second_main

long_mode:
    movabsq $1f, %rax
    jmp *%rax
1:  lgdt gdt_pointer(%rip)
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    leaq boot_stack_end(%rip), %rsp
    xorl %ebp, %ebp
    call kernel_main                        # with two words: what is told, and who tells

# Traps. All end in trap(struct frame *), which may change the frame, and go back by it.
.macro vector name, number, has_code
.global \name
\name:
    .if \has_code == 0
    pushq $0
    .endif
    pushq $\number
    jmp all_traps
.endm
vector trap_double, 8, 1
vector trap_protection, 13, 1
vector trap_page, 14, 1
vector trap_flush, 64, 0
vector trap_call, 128, 0
vector trap_other, 255, 0

all_traps:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    xorl %ebp, %ebp
    call trap
    movq %rsp, %rdi
# enter(struct frame *): to where the frame says, never back.
.global enter
enter:
    movq %rdi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

# The program, for ring 3; kernel.c says what it must come to. %rdi is its variable.
.section .rodata
.global program, program_end
program:
    movl $0x500000, %edi
    movq $42, (%rdi)
    movl $1, %eax                           # fork
    int $0x80
    testq %rax, %rax
    jz 1f
    call 2f                                 # parent
    movl $3, %eax                           # yield: the child stores 7
    int $0x80
    call 2f                                 # still 42
    movq $43, (%rdi)
    call 2f
    movl $4, %eax                           # exit
    int $0x80
1:  call 2f                                 # child: 42
    movq $7, (%rdi)
    call 2f
    movl $3, %eax                           # yield: the parent stores 43
    int $0x80
    call 2f                                 # still 7
    movq $0, -8(%rip)                       # its own code: may not
    ud2
2:  movq (%rdi), %rsi                       # say(variable)
    movl $2, %eax
    int $0x80
    ret
program_end:

# For two threads of one space, on two CPUs: loads, until the page goes.
.global reader, reader_end
reader:
    movl $0x500000, %edi
    movl $5, %eax                           # ready
    int $0x80
1:  movq (%rdi), %rsi
    jmp 1b
reader_end:

.section .data
.balign 8
.global gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff                # 0x08: code
    .quad 0x00cf93000000ffff                # 0x10: data
    .quad 0x00cff3000000ffff                # 0x18: data, ring 3
    .quad 0x00affb000000ffff                # 0x20: code, ring 3
    .quad 0, 0, 0, 0                        # 0x28, 0x38: task states; kernel.c fills them in
gdt_end:
gdt_pointer_low:
    .word gdt_end - gdt - 1
    .long gdt - IMAGE
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

.section .bss
.balign 4096
.global boot_root, boot_upper, trap_stacks
boot_root:
    .skip 4096
boot_upper:
    .skip 4096
boot_large:
    .skip 4096
boot_stack:
    .skip 65536
boot_stack_end:
second_stack:
    .skip 65536
second_stack_end:
trap_stacks:
    .skip 2 * 65536

.section .note.GNU-stack, "", @progbits
