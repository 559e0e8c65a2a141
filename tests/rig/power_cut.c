/* Stands between a real process and its file system: writes down what it does below one folder, or fails its n-th call.
 *
 * Loaded by LD_PRELOAD, so that SQLite's own calls pass here too, and driven from Python through the pc_ functions.
 * What was written down is replayed by power_cut.py, which forgets, tears and reorders what was not fsynced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum op { OP_OPEN = 1, OP_WRITE, OP_TRUNCATE, OP_FSYNC, OP_CLOSE, OP_RENAME, OP_UNLINK, OP_MKDIR, OP_MARK };
enum mode { FAIL_ONCE, FAIL_FROM_THEN_ON, SHORT_THEN_FULL };

struct record { uint32_t op; int32_t fd; uint64_t number; uint32_t first_bytes; uint32_t second_bytes; };

#define FILES 1024
static char root[PATH_MAX];
static int log_fd = -1;
static unsigned char watched[FILES];
static int is_watching;
static int calls, fail_at, fail_errno, fail_mode;

static void put(const void *bytes, size_t count) {
    const char *at = bytes;
    while (count) {
        long done = syscall(SYS_write, log_fd, at, count);
        if (done < 0) abort();
        at += done;
        count -= (size_t)done;
    }
}

static void note(enum op op, int fd, uint64_t number, const void *first, size_t first_bytes, const void *second,
                 size_t second_bytes) {
    if (log_fd < 0) return;
    struct record record = {op, fd, number, (uint32_t)first_bytes, (uint32_t)second_bytes};
    put(&record, sizeof record);
    put(first, first_bytes);
    put(second, second_bytes);
}

/* Whether this call must fail: 0 no, else the errno; -1: write only half. */
static int fault(int is_write) {
    calls++;
    if (!fail_at || calls < fail_at) return 0;
    if (fail_mode == FAIL_ONCE) return calls == fail_at ? fail_errno : 0;
    if (fail_mode == SHORT_THEN_FULL) return is_write ? (calls == fail_at ? -1 : fail_errno) : 0;
    return is_write ? fail_errno : 0;
}

static int is_below(const char *path) {
    size_t length = strlen(root);
    return is_watching && path && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}
static int is_watched(int fd) { return is_watching && fd >= 0 && fd < FILES && watched[fd]; }

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(is_write) do { int found = fault(is_write); if (found > 0) { errno = found; return -1; } } while (0)

void pc_start(const char *folder, const char *log_path) {
    strncpy(root, folder, sizeof root - 1);
    memset(watched, 0, sizeof watched);
    log_fd = log_path ? (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    calls = fail_at = 0;
    is_watching = 1;
}
void pc_stop(void) {
    is_watching = 0;
    if (log_fd >= 0) syscall(SYS_close, log_fd);
    log_fd = -1;
}
void pc_mark(const char *text) { note(OP_MARK, -1, 0, text, strlen(text), 0, 0); }
void pc_fail(int at, int number, int mode) { calls = 0; fail_at = at; fail_errno = number; fail_mode = mode; }
int pc_calls(void) { return calls; }

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < FILES && is_below(path)) {
        watched[fd] = 1;
        note(OP_OPEN, fd, (uint64_t)flags, path, strlen(path), 0, 0);
    }
    return fd;
}
#define OPEN_BODY(call)                                                        \
    mode_t mode = 0;                                                           \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
    if (is_below(path) && (flags & O_CREAT)) FAIL_IF(1);                       \
    return opened(call, path, flags)
int open(const char *path, int flags, ...) { REAL(open); OPEN_BODY(real(path, flags, mode)); }
int open64(const char *path, int flags, ...) { REAL(open64); OPEN_BODY(real(path, flags, mode)); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); OPEN_BODY(real(at, path, flags, mode)); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); OPEN_BODY(real(at, path, flags, mode)); }

int close(int fd) {
    REAL(close);
    if (is_watched(fd)) { watched[fd] = 0; note(OP_CLOSE, fd, 0, 0, 0, 0, 0); }
    return real(fd);
}

static ssize_t wrote(int fd, const void *bytes, size_t *count, uint64_t offset) {
    if (is_watched(fd)) {
        int found = fault(1);
        if (found > 0) { errno = found; return -1; }
        if (found < 0) *count = (*count + 1) / 2;
        note(OP_WRITE, fd, offset, bytes, *count, 0, 0);
    }
    return 0;
}
ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    uint64_t offset = is_watched(fd) ? (uint64_t)lseek(fd, 0, SEEK_CUR) : 0;
    return wrote(fd, bytes, &count, offset) ? -1 : real(fd, bytes, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite);
    return wrote(fd, bytes, &count, (uint64_t)offset) ? -1 : real(fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    return wrote(fd, bytes, &count, (uint64_t)offset) ? -1 : real(fd, bytes, count, offset);
}
#define SYNC_BODY(call)                                                        \
    if (is_watched(fd)) { FAIL_IF(0); note(OP_FSYNC, fd, 0, 0, 0, 0, 0); }     \
    return call
int fsync(int fd) { REAL(fsync); SYNC_BODY(real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); SYNC_BODY(real(fd)); }
#define TRUNCATE_BODY(call)                                                    \
    if (is_watched(fd)) { FAIL_IF(1); note(OP_TRUNCATE, fd, (uint64_t)size, 0, 0, 0, 0); } \
    return call
int ftruncate(int fd, off_t size) { REAL(ftruncate); TRUNCATE_BODY(real(fd, size)); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); TRUNCATE_BODY(real(fd, size)); }

/* Names: written down only once they were really changed. */
#define NAMED(call, op, first, second)                                         \
    if (!is_below(first)) return call;                                         \
    FAIL_IF(op == OP_MKDIR || op == OP_RENAME);                                \
    int done = call;                                                           \
    const char *other = second;                                                \
    if (done == 0) note(op, -1, 0, first, strlen(first), other, other ? strlen(other) : 0); \
    return done
int rename(const char *from, const char *to) { REAL(rename); NAMED(real(from, to), OP_RENAME, from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); NAMED(real(a, from, b, to), OP_RENAME, from, to); }
int unlink(const char *path) { REAL(unlink); NAMED(real(path), OP_UNLINK, path, NULL); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); NAMED(real(at, path, flags), OP_UNLINK, path, NULL); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); NAMED(real(path, mode), OP_MKDIR, path, NULL); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); NAMED(real(at, path, mode), OP_MKDIR, path, NULL); }
