/* Threads: a mutex that all want, a condition that all wait for, memory from malloc, storage of their own. */
#include "expect.h"
#include <pthread.h>

enum { THREADS = 16, ROUNDS = 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER;
static int go;
static long shared;
static __thread long own;

static void *work(void *argument) {
    pthread_mutex_lock(&lock);
    while (!go)
        pthread_cond_wait(&begun, &lock);
    pthread_mutex_unlock(&lock);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&lock);
        shared++;
        pthread_mutex_unlock(&lock);
        own++;
        if (round % 50 == 0) {
            char *memory = malloc(10000 + (size_t)round * 50);
            EXPECT(memory != 0);
            memory[5000] = 1;
            free(memory);
        }
    }
    *(long *)argument = own;
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    long counts[THREADS], sum = 0;
    for (int thread = 0; thread < THREADS; thread++)
        EXPECT(pthread_create(&threads[thread], 0, work, &counts[thread]) == 0);
    pthread_mutex_lock(&lock);
    go = 1;
    pthread_cond_broadcast(&begun);
    pthread_mutex_unlock(&lock);
    for (int thread = 0; thread < THREADS; thread++) {
        void *result;
        EXPECT(pthread_join(threads[thread], &result) == 0 && result == &counts[thread]);
        sum += counts[thread];
    }
    EXPECT(sum == (long)THREADS * ROUNDS && shared == sum);
    puts("threads: done");
    return 0;
}
