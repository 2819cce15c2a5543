/* Disks as programs use them: /dev/vda and /dev/vdb, of a MiB each, the first with N % 251 at byte N, the second with zeros.
 * What this leaves on them is looked at from outside. */
#define _GNU_SOURCE
#include "expect.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { SIZE = 1 << 20, LONG = 100000 };

static unsigned char bytes[SIZE], expected[SIZE];

static void is_a_disk(int disk, unsigned number) {
    struct stat stat;
    unsigned long long all = 0;
    unsigned long sectors = 0;
    int sector = 0;
    EXPECT(fstat(disk, &stat) == 0 && S_ISBLK(stat.st_mode) && stat.st_size == 0);
    EXPECT(major(stat.st_rdev) == 254 && minor(stat.st_rdev) == number);
    EXPECT(ioctl(disk, BLKGETSIZE64, &all) == 0 && all == SIZE);
    EXPECT(ioctl(disk, BLKGETSIZE, &sectors) == 0 && sectors == SIZE / 512);
    EXPECT(ioctl(disk, BLKSSZGET, &sector) == 0 && sector == 512);
    EXPECT(ioctl(disk, TIOCGWINSZ, bytes) == -1 && errno == ENOTTY);
}

static void is_read_and_written_in_any_piece(int disk) {
    EXPECT(pread(disk, bytes, 3000, 1000) == 3000 && memcmp(bytes, expected + 1000, 3000) == 0);
    EXPECT(pwrite(disk, "across two sectors", 18, 505) == 18);
    memcpy(expected + 505, "across two sectors", 18);
    memset(bytes, 0xaa, LONG);
    EXPECT(pwrite(disk, bytes, LONG, 70001) == LONG);
    memset(expected + 70001, 0xaa, LONG);
    EXPECT(lseek(disk, 0, SEEK_SET) == 0 && read(disk, bytes, SIZE) == SIZE);
    EXPECT(memcmp(bytes, expected, SIZE) == 0);
}

static void ends_where_it_ends(int disk) {
    EXPECT(lseek(disk, 0, SEEK_END) == SIZE && read(disk, bytes, 1) == 0);
    EXPECT(write(disk, "x", 1) == -1 && errno == ENOSPC);
    EXPECT(write(disk, "x", 0) == 0);
    EXPECT(pread(disk, bytes, 4096, SIZE - 100) == 100);
    EXPECT(pwrite(disk, "abcdef", 6, SIZE - 3) == 3);
    memcpy(expected + SIZE - 3, "abc", 3);
    EXPECT(lseek(disk, SIZE + 1, SEEK_SET) == -1 && errno == EINVAL);
    EXPECT(ftruncate(disk, 0) == -1 && errno == EINVAL);
}

static void survives_bad_memory(int disk) {
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(pages != MAP_FAILED && munmap(pages + 4096, 4096) == 0);
    EXPECT(pwrite(disk, pages + 4096, 10, 0) == -1 && errno == EFAULT);
    EXPECT(pread(disk, pages + 4096, 10, 0) == -1 && errno == EFAULT);
    EXPECT(pread(disk, pages + 4096 - 100, 1000, 0) == 100);
    EXPECT(memcmp(pages + 4096 - 100, expected, 100) == 0);
    memset(pages + 4096 - 700, 0x55, 700);
    EXPECT(pwrite(disk, pages + 4096 - 700, 1000, 300000) == 700);
    memset(expected + 300000, 0x55, 700);
}

int main(void) {
    int first = open("/dev/vda", O_RDWR), second = open("/dev/vdb", O_RDWR);
    EXPECT(first >= 0 && second >= 0);
    EXPECT(open("/dev/vdc", O_RDONLY) == -1 && errno == ENOENT);
    EXPECT(mknod("/tmp/other", S_IFBLK | 0600, makedev(254, 32)) == 0);
    EXPECT(open("/tmp/other", O_RDONLY) == -1 && errno == ENXIO);
    for (int at = 0; at < SIZE; at++)
        expected[at] = (unsigned char)(at % 251);
    is_a_disk(first, 0);
    is_a_disk(second, 16);
    is_read_and_written_in_any_piece(first);
    ends_where_it_ends(first);
    survives_bad_memory(first);
    EXPECT(pread(first, bytes, SIZE, 0) == SIZE && memcmp(bytes, expected, SIZE) == 0);
    EXPECT(pwrite(second, expected, SIZE, 0) == SIZE);
    EXPECT(fsync(first) == 0 && fdatasync(second) == 0);
    printf("disk: done\n");
    return 0;
}
