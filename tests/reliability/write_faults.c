/* Lets the Nth change below a directory fail, as a disk would.

   What changes a disk is a write, sync, rename, truncation, link or removal, and a file or folder
   that is made. Loaded before the C library (LD_PRELOAD). FAULTS_BELOW is the directory;
   FAULTS_STATE a file of four 64-bit numbers that all processes share: how many calls there were,
   the first and the last that fail (counted from 1), and the error that they fail with; 0: the
   process is killed instead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long *state;
static const char *below;

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULTS_STATE");
    below = getenv("FAULTS_BELOW");
    int handle = name ? REAL(open)(name, O_RDWR | O_CLOEXEC) : -1;
    if (handle < 0) return;
    void *at = mmap(NULL, 4 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (at != MAP_FAILED) state = at;
}

static int fails(const char *path) {
    if (!state || !below || strncmp(path, below, strlen(below))) return 0;
    long number = __atomic_add_fetch(&state[0], 1, __ATOMIC_SEQ_CST);
    if (number < state[1] || number > state[2]) return 0;
    if (!state[3]) kill(getpid(), SIGKILL);
    errno = (int)state[3];
    return 1;
}

static int fails_at(int handle) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0) return 0;
    path[size] = 0;
    return fails(path);
}

static int fails_to_make(const char *path, int flags) {
    int before = errno;
    int makes = (flags & O_CREAT) && access(path, F_OK);
    errno = before;
    return makes && fails(path);
}

#define CALL(type, name, declared, given, failing)                  \
    type name declared {                                            \
        static typeof(&name) real;                                  \
        if (!real) real = REAL(name);                               \
        return failing ? -1 : real given;                           \
    }

CALL(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), fails_at(f))
CALL(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), fails_at(f))
CALL(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), fails_at(f))
CALL(int, fsync, (int f), (f), fails_at(f))
CALL(int, fdatasync, (int f), (f), fails_at(f))
CALL(int, ftruncate, (int f, off_t n), (f, n), fails_at(f))
CALL(int, ftruncate64, (int f, off64_t n), (f, n), fails_at(f))
CALL(int, rename, (const char *a, const char *b), (a, b), fails(b))
CALL(int, link, (const char *a, const char *b), (a, b), fails(b))
CALL(int, unlink, (const char *a), (a), fails(a))
CALL(int, rmdir, (const char *a), (a), fails(a))
CALL(int, mkdir, (const char *a, mode_t m), (a, m), fails(a))

#define OPENING(name)                                               \
    int name(const char *path, int flags, ...) {                    \
        static typeof(&name) real;                                  \
        if (!real) real = REAL(name);                               \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = va_arg(rest, mode_t);                         \
        va_end(rest);                                               \
        return fails_to_make(path, flags) ? -1 : real(path, flags, mode); \
    }

OPENING(open)
OPENING(open64)
