# The parts of kernel.c that C cannot say, on i386: the way to paging, traps, and the program. With -DPAE the tables have three
# levels, otherwise two.
#
# Entry is Multiboot's: protected mode without paging, %ebx points to what is told, %eax says who tells. Symbols are linked at the
# image's upper place; before the jump there each is used less IMAGE.

.set IMAGE, 0xc0000000

.section .text
# Multiboot, 3.1.1.
.balign 4
    .long 0x1badb002, 2, -(0x1badb002 + 2)

.global entry
entry:
    cli
    cld
    movl %ebx, %edi
    movl %eax, %esi

    # 900 MiB in large pages, seen at IMAGE, and for the next instructions at 0 too.
#ifdef PAE
    movl $(boot_directory - IMAGE), %ebx
    movl $0x83, %eax
    movl $450, %ecx
1:  movl %eax, (%ebx)
    addl $8, %ebx
    addl $0x200000, %eax
    loop 1b
    movl $(boot_directory - IMAGE + 1), %eax
    movl %eax, boot_root - IMAGE
    movl %eax, boot_root - IMAGE + 3 * 8
    movl $0x20, %eax                        # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx                  # EFER: NXE, which rumpvm needs
    rdmsr
    orl $0x800, %eax
    wrmsr
#else
    movl $(boot_root - IMAGE + 768 * 4), %ebx
    movl $0x83, %eax
    movl %eax, boot_root - IMAGE
    movl $225, %ecx
1:  movl %eax, (%ebx)
    addl $4, %ebx
    addl $0x400000, %eax
    loop 1b
    movl $0x10, %eax                        # pages of 4 MiB
    movl %eax, %cr4
#endif
    movl $(boot_root - IMAGE), %eax
    movl %eax, %cr3
    movl $0x80010033, %eax                  # paging, write protection, protected mode
    movl %eax, %cr0
    lgdt gdt_pointer_low - IMAGE
    ljmp $8, $upper

    # Data segments are those of ring 3 at all times: a return there would empty others.
upper:
    lgdt gdt_pointer
    movl $0x1b, %eax
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $16, %eax
    movl %eax, %ss
    movl $boot_stack_end, %esp
    xorl %ebp, %ebp
    movl $0, boot_root                      # nothing at 0 any more
    movl %cr3, %eax
    movl %eax, %cr3
    pushl %esi                              # who tells, and what is told
    pushl %edi
    call kernel_main

# Traps. All end in trap(struct frame *), which may change the frame, and go back by it.
.macro vector name, number, has_code
.global \name
\name:
    .if \has_code == 0
    pushl $0
    .endif
    pushl $\number
    jmp all_traps
.endm
vector trap_double, 8, 1
vector trap_protection, 13, 1
vector trap_page, 14, 1
vector trap_call, 128, 0
vector trap_other, 255, 0

all_traps:
    pushal
    cld
    xorl %ebp, %ebp
    pushl %esp
    call trap
    addl $4, %esp
    jmp 1f
# enter(struct frame *): to where the frame says, never back.
.global enter
enter:
    movl 4(%esp), %esp
1:  popal
    addl $8, %esp
    iret

# The program, for ring 3; kernel.c says what it must come to. %edi is its variable.
.section .rodata
.global program, program_end
program:
    movl $0x500000, %edi
    movl $42, (%edi)
    movl $1, %eax                           # fork
    int $0x80
    testl %eax, %eax
    jz 1f
    call 2f                                 # parent
    movl $3, %eax                           # yield: the child stores 7
    int $0x80
    call 2f                                 # still 42
    movl $43, (%edi)
    call 2f
    movl $4, %eax                           # exit
    int $0x80
1:  call 2f                                 # child: 42
    movl $7, (%edi)
    call 2f
    movl $3, %eax                           # yield: the parent stores 43
    int $0x80
    call 2f                                 # still 7
    movl $0, 0x400000                       # its own code: may not
    ud2
2:  movl (%edi), %esi                       # say(variable)
    movl $2, %eax
    int $0x80
    ret
program_end:

.section .data
.balign 8
.global gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff                # 0x08: code
    .quad 0x00cf93000000ffff                # 0x10: data
    .quad 0x00cff3000000ffff                # 0x18: data, ring 3
    .quad 0x00cffb000000ffff                # 0x20: code, ring 3
    .quad 0                                 # 0x28: task state; machine32.c fills it in
gdt_end:
gdt_pointer_low:
    .word gdt_end - gdt - 1
    .long gdt - IMAGE
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

.section .bss
.balign 4096
.global boot_root, trap_stacks
boot_root:
    .skip 4096
#ifdef PAE
boot_directory:
    .skip 4096
#endif
boot_stack:
    .skip 65536
boot_stack_end:
trap_stacks:
    .skip 65536

.section .note.GNU-stack, "", @progbits
