/* What the files of the kernel share: a serial port, an end, and what a compiler asks for by itself. */
#ifndef KERNEL_H
#define KERNEL_H

#include "rumpvm.h"

#define PAGE 4096u

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *at, int value, size_t bytes);

void say(const char *text);
void say_number(uint64_t number);
void power_off(uint8_t value) __attribute__((noreturn));

#define EXPECT(what)                       \
    do {                                   \
        if (!(what)) {                     \
            say("kernel: not so: " #what "\n"); \
            power_off(1);                  \
        }                                  \
    } while (0)

#endif
