# Traps and system calls: from the CPU's own bookkeeping to a complete frame, and back.
#
# A trap from kernel code gets its frame on the stack in use; `kernel_trap` returns to where it came from.
# A trap or a system call from a program gets its frame in the program's own record: the CPU's trap stack pointer is
# set to the end of it. All that is left to do is to go back to the kernel stack that `enter_program` left,
# so entering a program looks to Rust like a call that returns at the next trap.
#
# Frame, upwards: 15 registers, vector, error code, then what the CPU pushes. `frame.rs` has it as a structure.

.macro save
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

.macro restore
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    addq $16, %rsp                          # vector and error code
.endm

# 256 gates, 16 bytes each. Where the CPU pushes no error code, a zero stands for it. What has a stack of its own may
# come at any instruction.
.text
.balign 16
.global trap_gates
trap_gates:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_anywhere
    .else
    jmp trap
    .endif
    .set vector, vector + 1
.endr

.balign 16
trap:
    testb $3, 24(%rsp)                      # code segment
    jnz trap_of_program
    save
    cld
    movq %rsp, %rdi
    call kernel_trap
    restore
    iretq

# At any instruction, even where `gs` is the program's while the segments say kernel.
trap_anywhere:
    save
    cld
    movl $0xc0000101, %ecx
    rdmsr
    xorl %ebx, %ebx
    testl %edx, %edx                        # kernel addresses are negative
    js 1f
    swapgs
    movl $1, %ebx
1:  movq %rsp, %rdi
    call kernel_trap
    testl %ebx, %ebx
    jz 2f
    swapgs
2:  restore
    iretq

# Back to the kernel stack that `enter_program` left, from the end of the saved registers.
.macro leave_program
    movq -16(%rsp), %rsp                    # `kernel_stack` of the program's record
    popq %rbp
    popq %rbx
.endm

# `syscall` has turned off all flags that could disturb (`start_system_calls`).
.global system_call
system_call:
    swapgs
    movq %rsp, %gs:{SCRATCH}
    movq %gs:{USER_END}, %rsp
    pushq ${USER_DATA}
    pushq %gs:{SCRATCH}
    pushq %r11                              # flags
    pushq ${USER_CODE}
    pushq %rcx                              # where it goes on
    pushq $0
    pushq ${SYSTEM_CALL}
    save
    leave_program
    ret
trap_of_program:
    swapgs
    save
    cld
    leave_program
    testb $1, {SMAP}(%rip)
    jz 2f
    clac                                    # a program may have set the flag that suspends SMAP
2:  ret

# enter_program(record), interrupts masked: runs the program until its next trap. Keeps %rbx and %rbp; who calls
# counts every other register as lost.
.global enter_program
enter_program:
    pushq %rbx
    pushq %rbp
    movq %rsp, (%rdi)
    leaq {RECORD}(%rdi), %rax
    movq %rax, %gs:{USER_END}
    movq %rax, %gs:{TRAP_STACK}
    leaq 16(%rdi), %rsp
    restore
    swapgs
    iretq

# switch_stacks(save, load): goes on where the stack pointer `load` was saved.
.global switch_stacks
switch_stacks:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
