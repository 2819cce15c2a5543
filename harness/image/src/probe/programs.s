# Programs of a few instructions each, for ring 3. They stand at any address, and end by a system call or by a fault.
#
# System calls: number in %rax. 0: exit with %rdi. 1: go on? (0 for no). 2: nothing. 3: %fs begins at %rdi.
# Each begins with its argument in %rdi, and with a page of data below its stack pointer.

.section .rodata.probe, "a"
.balign 16
.global probe_begin
probe_begin:

# Numbers the first words of the pages below its stack, %rdi of them, and adds them up again.
probe_touch:
    movq %rsp, %rbx
    movq %rdi, %rcx
1:  subq $4096, %rbx
    movq %rcx, (%rbx)
    loop 1b
    xorl %edx, %edx
    movq %rsp, %rbx
    movq %rdi, %rcx
2:  subq $4096, %rbx
    addq (%rbx), %rdx
    loop 2b
    movq %rdx, %rdi
    xorl %eax, %eax
    syscall

# Keeps %rdi in its FPU, its %fs and its other registers while others run; exits with 1 if one of them changes.
probe_registers:
    movq %rdi, %r12
    movq %rdi, %xmm0
    movq %rdi, %xmm15
    leaq -64(%rsp), %rdi
    movq %r12, (%rdi)
    movl $3, %eax
    syscall
1:  movl $20000, %ecx
2:  movq %xmm0, %rax
    cmpq %r12, %rax
    jne 3f
    movq %xmm15, %rax
    cmpq %r12, %rax
    jne 3f
    cmpq %r12, %fs:0
    jne 3f
    loop 2b
    movl $1, %eax
    syscall
    testl %eax, %eax
    jnz 1b
    xorl %edi, %edi
    xorl %eax, %eax
    syscall
3:  movl $1, %edi
    xorl %eax, %eax
    syscall

# Loads from %rdi for ever.
probe_load:
    movq (%rdi), %rax
    jmp probe_load

# Stores to %rdi for ever.
probe_store:
    incq (%rdi)
    jmp probe_store

# Goes on at %rdi.
probe_jump:
    jmp *%rdi

# What only the kernel may do.
probe_halt:
    hlt
probe_port:
    inb $0x60, %al
probe_root:
    movq %rdi, %cr3
probe_swap:
    swapgs
probe_interrupt:
    int $0xe0

# What a program may do wrong by itself.
probe_divide:
    xorl %ecx, %ecx
    movl $1, %eax
    cqto
    idivl %ecx
probe_break:
    int3
probe_undefined:
    ud2

# System calls with flags, segments and a stack that the kernel must not depend on.
probe_odd:
    movq %rsp, %rbx
    pushq $0x245dd5 & ~0x100                # all that a program may set, nested task included; no single step
    popfq
    movq $-1, %rsp
    movl $2, %eax
    syscall
    movq %rbx, %rsp
    cld
    movl $0x2b, %eax
    movl %eax, %ds
    movl $2, %eax
    syscall
    movl $77, %edi
    xorl %eax, %eax
    syscall

# Single steps into a system call.
probe_step:
    movl $2, %eax
    pushfq
    orq $0x100, (%rsp)
    popfq
    syscall
    xorl %eax, %eax
    syscall

.global probe_end
probe_end:

.balign 8
.global probe_table
probe_table:
    .quad probe_touch - probe_begin
    .quad probe_registers - probe_begin
    .quad probe_load - probe_begin
    .quad probe_store - probe_begin
    .quad probe_jump - probe_begin
    .quad probe_halt - probe_begin
    .quad probe_port - probe_begin
    .quad probe_root - probe_begin
    .quad probe_swap - probe_begin
    .quad probe_interrupt - probe_begin
    .quad probe_divide - probe_begin
    .quad probe_break - probe_begin
    .quad probe_undefined - probe_begin
    .quad probe_odd - probe_begin
    .quad probe_step - probe_begin
.text
