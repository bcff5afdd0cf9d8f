// Preloaded into a process: counts the calls that change files under a folder, and fails the n-th of a kind.
//
// The file that the environment variable FAILING_WRITES names holds `struct control`. It is shared with the test
// that writes it and with all processes that are started from this one.
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE, WRITE, RENAME, SYNC, REMOVE, KINDS };
enum effect { NONE, FAIL_ONE, FAIL_FROM_THERE_ON, KILL };

struct control {
    int kind, number, effect;  // number: of the call, from 1
    int count[KINDS];          // calls so far
    char folder[PATH_MAX];
};

static struct control *control;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("FAILING_WRITES");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) control = memory;
}

// Whether this call, which changes `path` (absolute), is to fail.
static int fails(enum kind kind, const char *path) {
    if (!control || !control->folder[0]) return 0;
    size_t length = strlen(control->folder);
    if (strncmp(path, control->folder, length) || path[length] != '/') return 0;
    int number = __atomic_add_fetch(&control->count[kind], 1, __ATOMIC_SEQ_CST);
    int effect = control->effect;
    if (kind != (enum kind)control->kind || effect == NONE) return 0;
    if (effect == KILL && number == control->number) kill(getpid(), SIGKILL);
    int due = effect == FAIL_ONE ? number == control->number : effect == FAIL_FROM_THERE_ON && number >= control->number;
    if (due) errno = kind == CREATE || kind == WRITE ? ENOSPC : EIO;
    return due;
}

static int fails_fd(enum kind kind, int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(kind, path);
}

static int fails_at(enum kind kind, int folder, const char *name) {
    char link[64], path[2 * PATH_MAX];
    if (name[0] == '/') return fails(kind, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(folder == AT_FDCWD ? "/proc/self/cwd" : link, path, PATH_MAX);
    if (length < 0) return 0;
    snprintf(path + length, sizeof path - length, "/%s", name);
    return fails(kind, path);
}

// A function of this name that calls the next library's, unless the condition holds.
#define WRAP(type, name, failed, condition, parameters, arguments) \
    type name parameters {                                         \
        static type(*next) parameters;                             \
        if (!next) next = dlsym(RTLD_NEXT, #name);                 \
        if (condition) return failed;                              \
        return next arguments;                                     \
    }
#define BY_FILE(kind, type, name, parameters, arguments) WRAP(type, name, -1, fails_fd(kind, file), parameters, arguments)
#define BY_NAME(kind, name, parameters, arguments) WRAP(int, name, -1, fails_at(kind, AT_FDCWD, path), parameters, arguments)

BY_FILE(WRITE, ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
BY_FILE(WRITE, ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
BY_FILE(WRITE, ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
BY_FILE(WRITE, ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
BY_FILE(WRITE, ssize_t, sendfile, (int file, int from, off_t *at, size_t size), (file, from, at, size))
BY_FILE(WRITE, ssize_t, sendfile64, (int file, int from, off64_t *at, size_t size), (file, from, at, size))
BY_FILE(WRITE, int, ftruncate, (int file, off_t size), (file, size))
BY_FILE(WRITE, int, ftruncate64, (int file, off64_t size), (file, size))
BY_FILE(SYNC, int, fsync, (int file), (file))
BY_FILE(SYNC, int, fdatasync, (int file), (file))
WRAP(size_t, fwrite, 0, fails_fd(WRITE, fileno(file)), (const void *data, size_t size, size_t count, FILE *file),
     (data, size, count, file))

BY_NAME(RENAME, rename, (const char *path, const char *to), (path, to))
WRAP(int, renameat, -1, fails_at(RENAME, folder, path), (int folder, const char *path, int other, const char *to),
     (folder, path, other, to))
BY_NAME(REMOVE, unlink, (const char *path), (path))
BY_NAME(REMOVE, rmdir, (const char *path), (path))
WRAP(int, unlinkat, -1, fails_at(REMOVE, folder, path), (int folder, const char *path, int flags), (folder, path, flags))
BY_NAME(CREATE, mkdir, (const char *path, mode_t mode), (path, mode))
BY_NAME(CREATE, symlink, (const char *target, const char *path), (target, path))

#define OPEN(name, folder, parameters, arguments)                                   \
    int name parameters {                                                           \
        static int(*next) parameters;                                               \
        if (!next) next = dlsym(RTLD_NEXT, #name);                                  \
        mode_t mode = 0;                                                            \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                  \
            va_list rest;                                                           \
            va_start(rest, flags);                                                  \
            mode = va_arg(rest, mode_t);                                            \
            va_end(rest);                                                           \
        }                                                                           \
        if (flags & O_CREAT && fails_at(CREATE, folder, path)) return -1;           \
        return next arguments;                                                      \
    }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, folder, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
WRAP(FILE *, fopen, NULL, strpbrk(how, "wa") && fails_at(CREATE, AT_FDCWD, path), (const char *path, const char *how),
     (path, how))
WRAP(FILE *, fopen64, NULL, strpbrk(how, "wa") && fails_at(CREATE, AT_FDCWD, path), (const char *path, const char *how),
     (path, how))
