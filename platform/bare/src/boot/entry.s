# Entry from the boot loader: 32-bit protected mode without paging, to 64-bit mode in the upper half.
#
# Two doors. PVH: %ebx is the address of the start info. Multiboot 1: %eax is a magic number, %ebx the address of
# the information. Behind both: look for long mode, build tables that map the first 4 GiB three times (at its
# physical address, in the direct map, and at the image's place), switch, and call `boot_main(door, info)`.
#
# Symbols are linked at the image's upper place; before the jump there each is used less IMAGE.

.set IMAGE, 0xffffffff80000000
.set LARGE_RW, 0x83

.section .multiboot, "a"
.balign 16
multiboot_header:
    .long 0x1badb002                        # magic
    .long 0x00010003                        # modules on pages, memory map, addresses below
    .long -(0x1badb002 + 0x00010003)        # checksum
    .long multiboot_header - IMAGE
    .long image_text_start - IMAGE
    .long image_load_end - IMAGE
    .long image_end - IMAGE
    .long multiboot_entry - IMAGE

.section .note.Xen, "a", @note
.balign 4
    .long 4                                 # name
    .long 8                                 # value
    .long 18                                # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry - IMAGE

.section .boot, "ax"
.code32
.global pvh_entry
pvh_entry:
    movl $1, %esi
    jmp entry
multiboot_entry:
    movl $2, %esi
    cmpl $0x2badb002, %eax
    je entry
    movl $(unknown_loader - IMAGE), %esi
    jmp give_up
entry:
    cli
    cld
    movl %ebx, %edi
    rdtsc
    movl %eax, boot_entered - IMAGE
    movl %edx, boot_entered - IMAGE + 4
    movl $(boot_stack_end - IMAGE), %esp
    xorl %ebp, %ebp                         # features of leaf 8000_0001, once known

    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    movl %edx, %ebp
    btl $29, %ebp
    jnc no_long_mode

    # 2048 large pages, one after the other.
    movl $(boot_low - IMAGE), %ebx
    movl $LARGE_RW, %eax
    movl $2048, %ecx
1:  movl %eax, (%ebx)
    movl $0, 4(%ebx)
    addl $8, %ebx
    addl $0x200000, %eax
    loop 1b
    # Four tables of them, in one table above.
    movl $(boot_low - IMAGE + 3), %eax
    movl %eax, boot_upper - IMAGE
    movl %eax, boot_top - IMAGE + 510 * 8
    addl $0x1000, %eax
    movl %eax, boot_upper - IMAGE + 8
    movl %eax, boot_top - IMAGE + 511 * 8
    addl $0x1000, %eax
    movl %eax, boot_upper - IMAGE + 16
    addl $0x1000, %eax
    movl %eax, boot_upper - IMAGE + 24
    # And the root: at 0, in the direct map, and at IMAGE.
    movl $(boot_upper - IMAGE + 3), %eax
    movl %eax, boot_root - IMAGE
    movl %eax, boot_root - IMAGE + 256 * 8
    movl $(boot_top - IMAGE + 3), %eax
    movl %eax, boot_root - IMAGE + 511 * 8

    movl $(boot_root - IMAGE), %eax
    movl %eax, %cr3
    call long_mode
    lgdt boot_gdt_pointer - IMAGE
    ljmp $8, $(in_long_mode - IMAGE)

# Turns on what 64-bit mode needs; %ebp has the features. Also called by the processors started later.
.global long_mode
long_mode:
    movl %cr4, %eax
    orl $0x20, %eax                         # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx                  # EFER
    rdmsr
    orl $0x100, %eax                        # LME
    btl $20, %ebp
    jnc 1f
    orl $0x800, %eax                        # NXE
1:  wrmsr
    movl %cr0, %eax
    andl $0x9ffffff3, %eax                  # caches on, FPU not emulated, no task switched
    orl $0x80010003, %eax                   # paging, write protection, FPU monitored, protected mode
    movl %eax, %cr0
    ret

no_long_mode:
    movl $(needs_long_mode - IMAGE), %esi
# Writes the text at %esi to the first serial port, and stops with status 101.
give_up:
    movw $0x3fd, %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    lodsb
    testb %al, %al
    jz 2f
    movw $0x3f8, %dx
    outb %al, %dx
    jmp give_up
2:  movl $101, %eax
    movw $0xf4, %dx
    outl %eax, %dx
3:  hlt
    jmp 3b

.code64
in_long_mode:
    movabsq $1f, %rax
    jmp *%rax
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leaq boot_stack_end(%rip), %rsp
    movl %edi, %eax
    movl %esi, %edi
    movl %eax, %esi
    xorl %ebp, %ebp
    call boot_main
    ud2

needs_long_mode:
    .asciz "rumpvm: this processor has no 64-bit mode, which rumpvm needs\r\n"
unknown_loader:
    .asciz "rumpvm: started by an unknown boot loader; PVH and Multiboot 1 are supported\r\n"

# Where the other processors begin, in real mode: copied to a page below 1 MiB, so nothing is named by its address.
.code16
.global processor_start
processor_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl processor_gdt_pointer - processor_start
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $24, $(processor_protected - IMAGE)
.balign 4
processor_gdt_pointer:
    .word 31
    .long boot_gdt - IMAGE
.global processor_start_end
processor_start_end:

.code32
processor_protected:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    # For one call; one processor starts at a time.
    movl $(processor_stack_end - IMAGE), %esp
    movl $0x80000001, %eax
    cpuid
    movl %edx, %ebp
    movl $(boot_root - IMAGE), %eax
    movl %eax, %cr3
    call long_mode
    ljmp $8, $(processor_long - IMAGE)

.code64
processor_long:
    movabsq $1f, %rax
    jmp *%rax
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq processor_root(%rip), %rax
    movq %rax, %cr3
    movq processor_stack(%rip), %rsp
    movq processor_number(%rip), %rdi
    xorl %ebp, %ebp
    call processor_main
    ud2

.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff                # code
    .quad 0x00cf92000000ffff                # data
    .quad 0x00cf9a000000ffff                # 32-bit code
boot_gdt_pointer:
    .word 31
    .long boot_gdt - IMAGE

.section .bss.boot, "aw", @nobits
.balign 4096
.global boot_root
boot_root:  .skip 4096
boot_upper: .skip 4096
boot_top:   .skip 4096
boot_low:   .skip 4 * 4096
.skip 64 * 1024
boot_stack_end:
.skip 256
processor_stack_end:
# Filled in before each processor is started: the kernel's root, its stack, its number.
.global processor_root, processor_stack, processor_number
processor_root: .skip 8
processor_stack: .skip 8
processor_number: .skip 8
# What the time stamp counter was at entry.
.global boot_entered
boot_entered: .skip 8
.text
