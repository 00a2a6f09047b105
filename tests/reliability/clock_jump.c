/* Moves the time of day for the processes that it is loaded into, while they run.

   Loaded before the C library (LD_PRELOAD). CLOCK_OFFSET is a file of one 64-bit number that all
   processes share: the seconds that are added to the time of day. Clocks that do not jump are left
   alone. Files get that time, too, when they are made, renamed, or touched without a time given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static const long *offset;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CLOCK_OFFSET");
    int handle = name ? REAL(open)(name, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0) return;
    const void *at = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, handle, 0);
    close(handle);
    if (at != MAP_FAILED) offset = at;
}

static long moved(void) { return offset ? __atomic_load_n(offset, __ATOMIC_SEQ_CST) : 0; }

int clock_gettime(clockid_t clock, struct timespec *to) {
    static typeof(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int found = real(clock, to);
    if (!found && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) to->tv_sec += moved();
    return found;
}

int gettimeofday(struct timeval *to, void *zone) {
    static typeof(&gettimeofday) real;
    if (!real) real = REAL(gettimeofday);
    int found = real(to, zone);
    if (!found) to->tv_sec += moved();
    return found;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

static void touch(int folder, const char *path) {
    static typeof(&utimensat) real;
    int before = errno;
    struct timespec now[2];
    if (!real) real = REAL(utimensat);
    clock_gettime(CLOCK_REALTIME, &now[0]);
    now[1] = now[0];
    if (moved()) real(folder, path, now, 0);
    errno = before;
}

int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    static typeof(&utimensat) real;
    struct timespec now[2];
    if (!real) real = REAL(utimensat);
    if (!times) {
        clock_gettime(CLOCK_REALTIME, &now[0]);
        now[1] = now[0];
        times = now;
    }
    return real(folder, path, times, flags);
}

int utimes(const char *path, const struct timeval times[2]) {
    if (!times) return utimensat(AT_FDCWD, path, NULL, 0);
    struct timespec given[2];
    for (int i = 0; i < 2; i++) {
        given[i].tv_sec = times[i].tv_sec;
        given[i].tv_nsec = times[i].tv_usec * 1000;
    }
    return utimensat(AT_FDCWD, path, given, 0);
}

int rename(const char *from, const char *to) {
    static typeof(&rename) real;
    if (!real) real = REAL(rename);
    touch(AT_FDCWD, from);
    return real(from, to);
}

#define OPENING(name)                                               \
    int name(const char *path, int flags, ...) {                    \
        static typeof(&name) real;                                  \
        if (!real) real = REAL(name);                               \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = va_arg(rest, mode_t);                         \
        va_end(rest);                                               \
        int before = errno;                                         \
        int makes = (flags & O_CREAT) && access(path, F_OK);        \
        errno = before;                                             \
        int handle = real(path, flags, mode);                       \
        if (makes && handle >= 0) touch(AT_FDCWD, path);            \
        return handle;                                              \
    }

OPENING(open)
OPENING(open64)
