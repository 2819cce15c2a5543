/* More memory than there may be: maps so many MiB in pieces of one (or, with a second word, in one piece), numbers their
 * pages, and looks whether the numbers have stayed.
 *
 * Usage: hog MIB [whole]. Status 2 says that memory was refused. */
#define _GNU_SOURCE
#include "expect.h"
#include <sys/mman.h>

enum { MIB = 1 << 20, PAGE = 4096, MOST = 4096 };

static char *pieces[MOST];

static char *map(size_t bytes) {
    char *at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        printf("hog: refused\n");
        exit(2);
    }
    return at;
}

int main(int count, char **words) {
    EXPECT(count > 1);
    int mib = atoi(words[1]);
    EXPECT(mib > 0 && mib <= MOST);
    char *whole = count > 2 ? map((size_t)mib * MIB) : 0;
    for (int piece = 0; piece < mib; piece++) {
        pieces[piece] = whole ? whole + (size_t)piece * MIB : map(MIB);
        for (int at = 0; at < MIB; at += PAGE)
            *(int *)(pieces[piece] + at) = piece * MIB + at + 1;
    }
    for (int piece = 0; piece < mib; piece++)
        for (int at = 0; at < MIB; at += PAGE)
            EXPECT(*(int *)(pieces[piece] + at) == piece * MIB + at + 1);
    printf("hog: %d MiB held\n", mib);
    return 0;
}
