/*
 * A host that misuses what rumpvm_malloc and a zone gave it, linked with the library of `rumpvm lib --debug`. C, and C++ too.
 *
 * Each misuse is a process of its own, which must end in the host's panic, with a story that says what happened, to which
 * item, and where in the library; one that does nothing wrong must come to its end. Exit status 0: all of that was so.
 */
#include "pretend.h"

#include <sys/wait.h>
#include <unistd.h>

#define BYTES 40u

/* Where panic's story goes. */
static int told;

static void tell(const char *story)
{
    size_t length = strlen(story);

    _exit(write(told, story, length) == (ssize_t)length ? 2 : 1);
}

static struct rumpvm_zone *zone, *other;

static void nothing(void)
{
    unsigned char *block = (unsigned char *)rumpvm_malloc(BYTES);
    void *item = rumpvm_zone_alloc(zone);

    memset(block, 1, BYTES);
    block = (unsigned char *)rumpvm_realloc(block, 2 * BYTES);
    memset(block, 1, rumpvm_malloc_usable_size(block));
    rumpvm_free(block);
    rumpvm_zone_free(zone, item);
    check();
}

static void free_twice(void)
{
    void *block = rumpvm_malloc(BYTES);

    rumpvm_free(block);
    rumpvm_free(block);
}

static void write_beyond_the_end(void)
{
    unsigned char *block = (unsigned char *)rumpvm_malloc(BYTES);

    block[BYTES] = 1;
    rumpvm_free(block);
}

static void write_after_free(void)
{
    unsigned char *block = (unsigned char *)rumpvm_malloc(BYTES);
    unsigned i;

    rumpvm_free(block);
    block[7] = 1;
    for (i = 0; i < 1000; i++)
        rumpvm_malloc(BYTES);
}

static void free_item_twice(void)
{
    void *item = rumpvm_zone_alloc(zone);

    rumpvm_zone_free(zone, item);
    rumpvm_zone_free(zone, item);
}

static void free_to_another_zone(void)
{
    rumpvm_zone_free(other, rumpvm_zone_alloc(zone));
}

/* What is done, and what is told of it, in two pieces: whose item, and what. */
static const struct {
    void (*misuse)(void);
    const char *whose, *what;
} misuses[] = {
    {free_twice, "zone heap-", "it is freed twice: allocated at platform/foreign/src/kmem.rs:"},
    {write_beyond_the_end, "zone heap-", "byte 40 was written, of 40: allocated at platform/foreign/src/kmem.rs:"},
    {write_after_free, "zone heap-", "byte 7 was written after it was freed: allocated at platform/foreign/src/kmem.rs:"},
    {free_item_twice, "zone conns, item 0x", "it is freed twice: allocated at platform/foreign/src/kmem.rs:"},
    {free_to_another_zone, "zone pipes: 0x", "is none of its items"},
};

#define MISUSES (sizeof misuses / sizeof *misuses)

/* Runs `what` in a process of its own; its exit status, and in `story` what it said last. */
static int run(void (*what)(void), char *story, size_t room)
{
    int pipes[2], status;
    ssize_t length;
    pid_t child;

    EXPECT(pipe(pipes) == 0);
    child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        told = pipes[1];
        what();
        _exit(0);
    }
    close(pipes[1]);
    length = read(pipes[0], story, room - 1);
    EXPECT(length >= 0);
    story[length] = '\0';
    close(pipes[0]);
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void)
{
    struct rumpvm_hypercalls calls = pretend_unmapped();
    char story[512] = "";
    uint64_t frames;
    unsigned i;

    calls.panic = tell;
    EXPECT(rumpvm_init(RUMPVM_VERSION, &calls) == 0);
    EXPECT(rumpvm_add_memory(RAM_START, RAM_START + RAM_BYTES) == 0);
    EXPECT(rumpvm_cpu_attach() == 0);
    frames = statistics().frames_free;
    EXPECT(rumpvm_zone_create("conns", 200, 8, 0, NULL, NULL, &zone) == 0);
    EXPECT(rumpvm_zone_create("pipes", 200, 8, 0, NULL, NULL, &other) == 0);
    rumpvm_free(rumpvm_malloc(BYTES));
    EXPECT(statistics().frames_free < frames);

    EXPECT(run(nothing, story, sizeof story) == 0 && story[0] == '\0');
    for (i = 0; i < MISUSES; i++) {
        int status = run(misuses[i].misuse, story, sizeof story);

        if (status != 2 || strstr(story, misuses[i].whose) == NULL || strstr(story, misuses[i].what) == NULL) {
            fprintf(stderr, "misuse %u ended with %d and told: %s\n", i, status, story);
            return 1;
        }
        printf("misuse: %s\n", story);
    }
    return 0;
}
