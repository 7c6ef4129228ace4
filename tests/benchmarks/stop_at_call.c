/* Numbers the calls of this process that change something below one folder, and kills it at one of them.
 *
 * Loaded with LD_PRELOAD and silent until `arm`. It sees what goes through a library's symbols: Python, C++
 * streams, Rust's std. What libc calls inside itself (stdio's own writes) or a mapping changes, it does not see.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BEFORE, HALF, AFTER };
enum { MAX_CALLS = 1 << 16 };

static char folder[PATH_MAX];
static size_t folder_length; /* 0: disarmed */
static long stop_at;
static int how;
static atomic_long num_calls;
static char kinds[MAX_CALLS + 1];

void arm(const char *path, long call, int manner) {
    memset(kinds, 0, sizeof kinds);
    num_calls = 0;
    stop_at = call;
    how = manner;
    strncpy(folder, path, sizeof folder - 1);
    folder_length = strlen(folder);
}

void disarm(void) { folder_length = 0; }

/* One letter for each call since `arm`. */
const char *trace(void) { return kinds; }

static int named(const char *path) {
    int under = !strncmp(path, folder, folder_length);
    return under && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int of_descriptor(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!folder_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return named(path);
}

static int at(int descriptor, const char *path) {
    char whole[2 * PATH_MAX];
    if (!folder_length) return 0;
    if (*path == '/') return named(path);
    if (descriptor != AT_FDCWD) return of_descriptor(descriptor);
    if (!getcwd(whole, PATH_MAX)) return 0;
    strcat(strcat(whole, "/"), path);
    return named(whole);
}

static void die(void) {
    for (;;) kill(getpid(), SIGKILL);
}

/* Count a call; whether it is the last one of this process. */
static int enter(char kind) {
    long call = atomic_fetch_add(&num_calls, 1);
    if (call < MAX_CALLS) kinds[call] = kind;
    if (call == stop_at && how == BEFORE) die();
    return call == stop_at;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(kind, concerned, result_type, call) \
    if (!(concerned)) return call;               \
    int last = enter(kind);                      \
    result_type result = call;                   \
    if (last) die();                             \
    return result;

#define CHANGES (O_CREAT | O_TRUNC | O_WRONLY)
#define MODE(flags)                                        \
    va_list rest;                                          \
    va_start(rest, flags);                                 \
    mode_t mode = (flags) & O_CREAT ? va_arg(rest, int) : 0; \
    va_end(rest);

#define OPEN(name)                                                                         \
    int name(const char *path, int flags, ...) {                                           \
        MODE(flags)                                                                        \
        WRAP('o', (flags & CHANGES) && at(AT_FDCWD, path), int, NEXT(name)(path, flags, mode)) \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                            \
    int name(int descriptor, const char *path, int flags, ...) {                                \
        MODE(flags)                                                                             \
        WRAP('o', (flags & CHANGES) && at(descriptor, path), int, NEXT(name)(descriptor, path, flags, mode)) \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                              \
    FILE *name(const char *path, const char *mode) {                                             \
        WRAP('o', strpbrk(mode, "wa") && at(AT_FDCWD, path), FILE *, NEXT(name)(path, mode)) \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int descriptor, const void *data, size_t length) {
    if (!of_descriptor(descriptor)) return NEXT(write)(descriptor, data, length);
    int last = enter('w');
    ssize_t result = NEXT(write)(descriptor, data, last && how == HALF ? length / 2 : length);
    if (last) die();
    return result;
}

ssize_t writev(int descriptor, const struct iovec *parts, int num_parts) {
    if (!of_descriptor(descriptor)) return NEXT(writev)(descriptor, parts, num_parts);
    int last = enter('w');
    ssize_t result = NEXT(writev)(descriptor, parts, last && how == HALF ? num_parts / 2 : num_parts);
    if (last) die();
    return result;
}

#define PWRITE(name, offset_type)                                                                        \
    ssize_t name(int descriptor, const void *data, size_t length, offset_type offset) {                  \
        if (!of_descriptor(descriptor)) return NEXT(name)(descriptor, data, length, offset);             \
        int last = enter('w');                                                                           \
        ssize_t result = NEXT(name)(descriptor, data, last && how == HALF ? length / 2 : length, offset); \
        if (last) die();                                                                                 \
        return result;                                                                                   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define DESCRIPTOR(kind, name) \
    int name(int descriptor) { WRAP(kind, of_descriptor(descriptor), int, NEXT(name)(descriptor)) }
DESCRIPTOR('s', fsync)
DESCRIPTOR('s', fdatasync)

int ftruncate(int descriptor, off_t length) {
    WRAP('t', of_descriptor(descriptor), int, NEXT(ftruncate)(descriptor, length))
}
int ftruncate64(int descriptor, off64_t length) {
    WRAP('t', of_descriptor(descriptor), int, NEXT(ftruncate64)(descriptor, length))
}
int mkdir(const char *path, mode_t mode) { WRAP('m', at(AT_FDCWD, path), int, NEXT(mkdir)(path, mode)) }
int mkdirat(int descriptor, const char *path, mode_t mode) {
    WRAP('m', at(descriptor, path), int, NEXT(mkdirat)(descriptor, path, mode))
}
int rmdir(const char *path) { WRAP('d', at(AT_FDCWD, path), int, NEXT(rmdir)(path)) }
int unlink(const char *path) { WRAP('u', at(AT_FDCWD, path), int, NEXT(unlink)(path)) }
int unlinkat(int descriptor, const char *path, int flags) {
    WRAP(flags & AT_REMOVEDIR ? 'd' : 'u', at(descriptor, path), int, NEXT(unlinkat)(descriptor, path, flags))
}

#define TWO(kind, name)                                                                                 \
    int name(const char *from, const char *to) {                                                        \
        WRAP(kind, at(AT_FDCWD, from) || at(AT_FDCWD, to), int, NEXT(name)(from, to))                   \
    }
TWO('r', rename)
TWO('l', link)
TWO('l', symlink)

int renameat(int from, const char *old, int to, const char *new) {
    WRAP('r', at(from, old) || at(to, new), int, NEXT(renameat)(from, old, to, new))
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    WRAP('r', at(from, old) || at(to, new), int, NEXT(renameat2)(from, old, to, new, flags))
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    WRAP('l', at(from, old) || at(to, new), int, NEXT(linkat)(from, old, to, new, flags))
}
int symlinkat(const char *content, int to, const char *new) {
    WRAP('l', at(to, new), int, NEXT(symlinkat)(content, to, new))
}
