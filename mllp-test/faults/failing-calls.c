/*
 * A disk that fails, from inside the process: loaded with LD_PRELOAD before the engine, it lets chosen calls on files
 * below one folder fail, write less than asked, be interrupted, or take long. All other calls must go through untouched,
 * and a call that is made to fail must not reach the disk.
 *
 *   FAULT_UNDER  the folder
 *   FAULT_PLAN   a file with one line, `CALL FROM TO HOW NUMBER`; it may come, change and go at any time, and calls are
 *                counted anew each time. Without it all goes well.
 *                CALL  pwrite, fdatasync, fsync, ftruncate, rename, unlink, open (those that create) or any
 *                FROM, TO  the first and the last call, counted from 1, that meets the fault
 *                HOW   errno        fails with NUMBER
 *                      short        writes half of what it was given
 *                      interrupted  fails with EINTR
 *                      torn         writes half, then fails with NUMBER
 *                      delay        takes NUMBER milliseconds longer
 *   FAULT_TOLD   a file to which one byte is appended for each fault, before it happens, so that the checker knows of it
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))next(#name))

enum how { NONE, ERRNO, SHORT, INTERRUPTED, TORN, DELAY };

struct fault {
    enum how how;
    int number;
};

struct plan {
    char call[16];
    long from, to;
    struct fault fault;
};

/* The plan as last read, which file that was, and how many calls it has counted. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct plan plan;
static struct stat read_from;
static long calls;

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        abort();
    }
    return found;
}

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int is_under(const char *path) {
    const char *folder = setting("FAULT_UNDER");
    size_t length = strlen(folder);
    return length > 0 && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int is_open_under(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = 0;
    return is_under(path);
}

static void tell(void) {
    const char *path = setting("FAULT_TOLD");
    int fd = *path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        syscall(SYS_write, fd, ".", 1);
        syscall(SYS_close, fd);
    }
}

static enum how how_of(const char *name) {
    static const char *const known[] = {"", "errno", "short", "interrupted", "torn", "delay"};
    for (enum how how = ERRNO; how <= DELAY; how++) {
        if (strcmp(name, known[how]) == 0) {
            return how;
        }
    }
    return NONE;
}

static struct plan parsed(const char *text) {
    struct plan plan = {.from = 1};
    char how[16] = "";
    if (sscanf(text, "%15s %ld %ld %15s %d", plan.call, &plan.from, &plan.to, how, &plan.fault.number) < 4) {
        return (struct plan){.from = 1};
    }
    plan.fault.how = how_of(how);
    return plan;
}

/* Reads the plan where its file is another one than last time. Under the lock. */
static int has_plan(void) {
    struct stat file;
    const char *path = setting("FAULT_PLAN");
    if (!*path || stat(path, &file) != 0) {
        read_from.st_ino = 0;
        return 0;
    }
    if (file.st_ino == read_from.st_ino && memcmp(&file.st_mtim, &read_from.st_mtim, sizeof file.st_mtim) == 0) {
        return 1;
    }
    char text[128] = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_read, fd, text, sizeof text - 1) < 0) {
        return 0;
    }
    syscall(SYS_close, fd);
    plan = parsed(text);
    read_from = file;
    calls = 0;
    return 1;
}

/* What happens to this call, which is on a file below the folder. */
static struct fault meets(const char *call) {
    struct fault fault = {NONE, 0};
    pthread_mutex_lock(&lock);
    if (has_plan() && (strcmp(plan.call, call) == 0 || strcmp(plan.call, "any") == 0)) {
        calls++;
        if (calls >= plan.from && calls <= plan.to) {
            fault = plan.fault;
        }
    }
    pthread_mutex_unlock(&lock);
    if (fault.how != NONE) {
        tell();
    }
    if (fault.how == DELAY) {
        struct timespec time = {fault.number / 1000, fault.number % 1000 * 1000000L};
        nanosleep(&time, NULL);
    }
    return fault;
}

/* Calls that either are done or not: 0 where they are to be done. */
static int fails(const char *call) {
    struct fault fault = meets(call);
    switch (fault.how) {
    case ERRNO:
    case TORN:
        errno = fault.number;
        return 1;
    case INTERRUPTED:
        errno = EINTR;
        return 1;
    default:
        return 0;
    }
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off64_t at) {
    if (!is_open_under(fd)) {
        return NEXT(pwrite64)(fd, bytes, length, at);
    }
    struct fault fault = meets("pwrite");
    switch (fault.how) {
    case ERRNO:
        errno = fault.number;
        return -1;
    case INTERRUPTED:
        errno = EINTR;
        return -1;
    case SHORT:
        return NEXT(pwrite64)(fd, bytes, length > 1 ? length / 2 : length, at);
    case TORN:
        NEXT(pwrite64)(fd, bytes, length / 2, at);
        errno = fault.number;
        return -1;
    default:
        return NEXT(pwrite64)(fd, bytes, length, at);
    }
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return write_at(fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return write_at(fd, bytes, length, at);
}

int fdatasync(int fd) {
    return is_open_under(fd) && fails("fdatasync") ? -1 : NEXT(fdatasync)(fd);
}

int fsync(int fd) {
    return is_open_under(fd) && fails("fsync") ? -1 : NEXT(fsync)(fd);
}

int ftruncate64(int fd, off64_t length) {
    return is_open_under(fd) && fails("ftruncate") ? -1 : NEXT(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
    return is_under(to) && fails("rename") ? -1 : NEXT(rename)(from, to);
}

int unlink(const char *path) {
    return is_under(path) && fails("unlink") ? -1 : NEXT(unlink)(path);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return flags & O_CREAT && is_under(path) && fails("open") ? -1 : NEXT(open64)(path, flags, mode);
}
