/* Preloaded into an interpreter: the n-th change of a file below one folder fails, as a full or broken disk would.

   fail_at(n, error, lasting, folder)  the n-th write, sync or truncation from now fails with `error`, and every one after it if `lasting`;
                                       a write that fails for lack of room has written half of its bytes before
   changes()                           how many there were since then                                                             */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long nth, count;
static int error_of, is_lasting;
static __thread int is_inside;

void fail_at(long n, int error, int lasting, const char *below) {
    snprintf(folder, sizeof folder, "%s", below);
    nth = n, count = 0, error_of = error, is_lasting = lasting;
}

long changes(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

static int fails(int fd) {
    char link[64], path[4096];
    if (is_inside || !folder[0]) return 0;
    is_inside = 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    is_inside = 0;
    if (size < 0) return 0;
    path[size] = 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    return nth && (is_lasting ? number >= nth : number == nth);
}

typedef ssize_t (*Write)(int, const void *, size_t);
typedef ssize_t (*Pwrite)(int, const void *, size_t, off_t);
typedef int (*Sync)(int);
typedef int (*Truncate)(int, off_t);
static Write write_real;
static Pwrite pwrite_real, pwrite64_real;
static Sync fsync_real, fdatasync_real;
static Truncate ftruncate_real, ftruncate64_real;

__attribute__((constructor)) static void find(void) {
    write_real = (Write)dlsym(RTLD_NEXT, "write");
    pwrite_real = (Pwrite)dlsym(RTLD_NEXT, "pwrite");
    pwrite64_real = (Pwrite)dlsym(RTLD_NEXT, "pwrite64");
    fsync_real = (Sync)dlsym(RTLD_NEXT, "fsync");
    fdatasync_real = (Sync)dlsym(RTLD_NEXT, "fdatasync");
    ftruncate_real = (Truncate)dlsym(RTLD_NEXT, "ftruncate");
    ftruncate64_real = (Truncate)dlsym(RTLD_NEXT, "ftruncate64");
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!fails(fd)) return write_real(fd, data, size);
    if (error_of == ENOSPC && size > 1 && write_real(fd, data, size / 2) < 0) return -1;
    return errno = error_of, -1;
}

static ssize_t placed(Pwrite real, int fd, const void *data, size_t size, off_t at) {
    if (!fails(fd)) return real(fd, data, size, at);
    if (error_of == ENOSPC && size > 1 && real(fd, data, size / 2, at) < 0) return -1;
    return errno = error_of, -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return placed(pwrite_real, fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return placed(pwrite64_real, fd, data, size, at); }
int fsync(int fd) { return fails(fd) ? (errno = error_of, -1) : fsync_real(fd); }
int fdatasync(int fd) { return fails(fd) ? (errno = error_of, -1) : fdatasync_real(fd); }
int ftruncate(int fd, off_t size) { return fails(fd) ? (errno = error_of, -1) : ftruncate_real(fd, size); }
int ftruncate64(int fd, off_t size) { return fails(fd) ? (errno = error_of, -1) : ftruncate64_real(fd, size); }
