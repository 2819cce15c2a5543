/*
 * Records what a program asks of malloc, for `cargo xtask bench heap`:
 *
 *   cc -O2 -shared -fPIC -o /tmp/record.so record.c
 *   TRACE=/tmp/git.trace LD_PRELOAD=/tmp/record.so git log --stat -300 > /dev/null
 *   gzip -9n < /tmp/git.trace > git.trace.gz
 *
 * The three beside this file are of that command, of
 *   PYTHONMALLOC=malloc python3 -c 'import json, argparse; json.loads(json.dumps([{str(i): [i] * 9} for i in range(1500)]))'
 * and of
 *   perl -ne 'push @{$h{length $_}}, [split]; END { print scalar keys %h }' rumpvm/DESIGN.md README.md
 *
 * A trace is a row of numbers in LEB128: an operation, and what belongs to it. Blocks are numbered as they come.
 *   0 size          alloc
 *   1 back          free of the block that came `back` blocks before the next one
 *   2 back size     realloc; the block keeps its number
 *   3 log2 size     alloc at a multiple of 2^log2
 * Recorded is one process, the first that is started, whatever its threads do, up to LIMIT operations.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIMIT 60000
#define SLOTS (1u << 20)

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* Blocks by address: number plus one. What was freed leaves its place taken, so that searches go on behind it. */
static struct { uintptr_t at; uint32_t number; } slots[SLOTS];
static unsigned char bytes[LIMIT * 12];
static size_t length;
static uint32_t blocks, operations;
static pid_t own;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void put(uint64_t value)
{
    do {
        bytes[length++] = (value & 127) | (value > 127 ? 128 : 0);
    } while (value >>= 7);
}

static uint32_t *slot(uintptr_t at)
{
    uint32_t i = (uint32_t)((at >> 4) * 2654435761u) % SLOTS;

    while (slots[i].at != 0 && slots[i].at != at)
        i = (i + 1) % SLOTS;
    slots[i].at = at;
    return &slots[i].number;
}

/* Whether the caller is recorded; then the lock is held. */
static int begin(void)
{
    pthread_mutex_lock(&lock);
    if (own == 0)
        own = getpid();
    if (operations < LIMIT && own == getpid())
        return 1;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void end(void)
{
    operations++;
    pthread_mutex_unlock(&lock);
}

static void *came(void *at, size_t align, size_t size)
{
    if (at != NULL && begin()) {
        if (align > 16) {
            put(3);
            put(__builtin_ctzl(align));
        } else {
            put(0);
        }
        put(size);
        *slot((uintptr_t)at) = ++blocks;
        end();
    }
    return at;
}

void *malloc(size_t size)
{
    return came(__libc_malloc(size), 0, size);
}

void *calloc(size_t many, size_t size)
{
    return came(__libc_calloc(many, size), 0, many * size);
}

void *memalign(size_t align, size_t size)
{
    return came(__libc_memalign(align, size), align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **made, size_t align, size_t size)
{
    *made = memalign(align, size);
    return *made == NULL ? ENOMEM : 0;
}

void free(void *at)
{
    if (at != NULL && begin()) {
        uint32_t *number = slot((uintptr_t)at);

        if (*number != 0) {
            put(1);
            put(blocks - *number);
            *number = 0;
        }
        end();
    }
    __libc_free(at);
}

void *realloc(void *at, size_t size)
{
    void *to;
    uint32_t number = 0;

    if (at == NULL)
        return malloc(size);
    if (size == 0) {
        free(at);
        return NULL;
    }
    /* Noted before, because another thread may get the old place at once. */
    if (begin()) {
        number = *slot((uintptr_t)at);
        *slot((uintptr_t)at) = 0;
        if (number != 0) {
            put(2);
            put(blocks - number);
            put(size);
        }
        end();
    }
    to = __libc_realloc(at, size);
    if (number != 0) {
        pthread_mutex_lock(&lock);
        *slot((uintptr_t)to) = number;
        pthread_mutex_unlock(&lock);
    }
    return to;
}

__attribute__((destructor)) static void save(void)
{
    const char *name = getenv("TRACE");
    int file;

    if (name == NULL || own != getpid())
        return;
    file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (size_t at = 0; file >= 0 && at < length;) {
        ssize_t wrote = write(file, bytes + at, length - at);
        if (wrote <= 0)
            break;
        at += wrote;
    }
    close(file);
}
