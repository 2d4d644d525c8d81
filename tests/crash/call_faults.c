/* Count the calls of the C library on files below a directory, and at the n-th one kill the process or fail the call.

   A process that was started with this library in LD_PRELOAD calls `faults_arm`. The record is a file that another
   process can read after this one was killed; `call_faults.py` has its layout too. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, FAIL, FAIL_ON, SHORT, INTERRUPT };
enum { CHANGE = 1, WRITE = 2, SYNC = 4, CLOSE = 8, READ = 16 };

struct record {
  atomic_long count, struck;
  char call[32], path[2104];
};

static struct record *record;
static char directory[1024];
static size_t length;
static long nth;
static int mode, number, classes;

int faults_arm(const char *below, const char *record_path, long at, int how, int error, int which) {
  int file = syscall(SYS_openat, AT_FDCWD, record_path, O_RDWR, 0);
  struct record *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  syscall(SYS_close, file);
  if (shared == MAP_FAILED) return -1;
  length = strlen(strncpy(directory, below, sizeof directory - 1));
  nth = at, mode = how, number = error, classes = which;
  record = shared;
  return 0;
}

static int is_below(const char *path) {
  return !strncmp(path, directory, length) && (path[length] == '/' || !path[length]);
}

/* The path of an open file, or of a name in an open directory. */
static int located(int file, const char *name, char *path, size_t size) {
  char link[64], cwd[1024];
  ssize_t got;
  if (name && *name == '/') {
    snprintf(path, size, "%s", name);
    return 1;
  }
  if (file == AT_FDCWD)
    snprintf(link, sizeof link, "/proc/self/cwd");
  else
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  got = syscall(SYS_readlinkat, AT_FDCWD, link, cwd, sizeof cwd - 1);
  if (got < 0) return 0;
  cwd[got] = 0;
  if (name && *name)
    snprintf(path, size, "%s/%s", cwd, name);
  else
    snprintf(path, size, "%s", cwd);
  return 1;
}

/* Returns whether this call must fail; does not return from the call that kills. */
static int strikes(int class, const char *call, int file, const char *name) {
  char path[2104];
  int before = errno;
  long count;
  if (!record || !(class & classes) || !located(file, name, path, sizeof path) || !is_below(path)) {
    errno = before;
    return 0;
  }
  errno = before;
  count = atomic_fetch_add(&record->count, 1) + 1;
  if (mode == COUNT || !(mode == FAIL_ON ? count >= nth : count == nth)) return 0;
  if (!atomic_exchange(&record->struck, count)) {
    snprintf(record->call, sizeof record->call, "%s", call);
    snprintf(record->path, sizeof record->path, "%s", path);
  }
  if (mode == KILL)
    for (;;) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  if (mode == INTERRUPT) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGINT);
    return 0;
  }
  errno = number;
  return 1;
}

/* Flushing takes long and protects against power cuts only. */
static int flushed(const char *call, int kind, int file) {
  if (strikes(SYNC, call, file, NULL)) return -1;
  return record ? 0 : syscall(kind, file);
}

static int opened(const char *call, int at, const char *name, int flags, int permissions) {
  int changes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
  if (strikes(changes ? CHANGE : READ, call, at, name)) return -1;
  return syscall(SYS_openat, at, name, flags, permissions);
}

static int permissions_of(int flags, va_list arguments) {
  return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, int) : 0;
}

#define OPEN(function)                                     \
  int function(const char *name, int flags, ...) {         \
    va_list arguments;                                     \
    va_start(arguments, flags);                            \
    int permissions = permissions_of(flags, arguments);    \
    va_end(arguments);                                     \
    return opened("open", AT_FDCWD, name, flags, permissions); \
  }
#define OPENAT(function)                                   \
  int function(int at, const char *name, int flags, ...) { \
    va_list arguments;                                     \
    va_start(arguments, flags);                            \
    int permissions = permissions_of(flags, arguments);    \
    va_end(arguments);                                     \
    return opened("open", at, name, flags, permissions);   \
  }
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)
OPENAT(openat)
OPENAT(openat64)
OPENAT(__openat_2)
OPENAT(__openat64_2)

DIR *opendir(const char *name) {
  static DIR *(*real)(const char *);
  if (!real) real = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
  return strikes(READ, "opendir", AT_FDCWD, name) ? NULL : real(name);
}

/* A short write is no error: the caller must write the rest. */
static ssize_t written(const char *call, int kind, int file, const void *data, size_t size, off_t at) {
  if (strikes(WRITE, call, file, NULL)) {
    if (mode != SHORT || size < 2) return mode == SHORT ? syscall(kind, file, data, size, at) : -1;
    size /= 2;
  }
  return syscall(kind, file, data, size, at);
}

ssize_t write(int file, const void *data, size_t size) { return written("write", SYS_write, file, data, size, 0); }
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
  return written("pwrite", SYS_pwrite64, file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t at) {
  return written("pwrite", SYS_pwrite64, file, data, size, at);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
  if (mode != SHORT && strikes(WRITE, "writev", file, NULL)) return -1;
  return syscall(SYS_writev, file, parts, count);
}

#define READING(function, call, kind, parameters, ...)                                            \
  ssize_t function parameters { return strikes(READ, call, file, NULL) ? -1 : syscall(kind, __VA_ARGS__); }
READING(read, "read", SYS_read, (int file, void *data, size_t size), file, data, size)
READING(pread, "pread", SYS_pread64, (int file, void *data, size_t size, off_t at), file, data, size, at)
READING(pread64, "pread", SYS_pread64, (int file, void *data, size_t size, off_t at), file, data, size, at)

int fsync(int file) { return flushed("fsync", SYS_fsync, file); }
int fdatasync(int file) { return flushed("fdatasync", SYS_fdatasync, file); }
int syncfs(int file) { return flushed("syncfs", SYS_syncfs, file); }

int close(int file) {
  int fails = strikes(CLOSE, "close", file, NULL), error = errno;
  int result = syscall(SYS_close, file);
  if (!fails) return result;
  errno = error;
  return -1;
}

static int is_directory(const char *name) {
  struct stat status;
  return !lstat(name, &status) && S_ISDIR(status.st_mode);
}

#define CHANGING(function, call, at, name, parameters, ...) \
  int function parameters { return strikes(CHANGE, call, at, name) ? -1 : syscall(__VA_ARGS__); }
CHANGING(ftruncate, "ftruncate", file, NULL, (int file, off_t size), SYS_ftruncate, file, size)
CHANGING(ftruncate64, "ftruncate", file, NULL, (int file, off_t size), SYS_ftruncate, file, size)
CHANGING(fchmod, "fchmod", file, NULL, (int file, mode_t bits), SYS_fchmod, file, bits)
CHANGING(chmod, "chmod", AT_FDCWD, name, (const char *name, mode_t bits), SYS_fchmodat, AT_FDCWD, name, bits)
CHANGING(mkdir, "mkdir", AT_FDCWD, name, (const char *name, mode_t bits), SYS_mkdirat, AT_FDCWD, name, bits)
CHANGING(mkdirat, "mkdir", at, name, (int at, const char *name, mode_t bits), SYS_mkdirat, at, name, bits)
CHANGING(rmdir, "rmdir", AT_FDCWD, name, (const char *name), SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR)
CHANGING(unlink, "unlink", AT_FDCWD, name, (const char *name), SYS_unlinkat, AT_FDCWD, name, 0)
CHANGING(unlinkat, "unlink", at, name, (int at, const char *name, int flags), SYS_unlinkat, at, name, flags)
CHANGING(remove, "remove", AT_FDCWD, name, (const char *name), SYS_unlinkat, AT_FDCWD, name,
         is_directory(name) ? AT_REMOVEDIR : 0)
CHANGING(link, "link", AT_FDCWD, to, (const char *from, const char *to), SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)
CHANGING(linkat, "link", at, to, (int in, const char *from, int at, const char *to, int flags), SYS_linkat, in, from,
         at, to, flags)
CHANGING(rename, "rename", AT_FDCWD, to, (const char *from, const char *to), SYS_renameat2, AT_FDCWD, from, AT_FDCWD,
         to, 0)
CHANGING(renameat, "rename", at, to, (int in, const char *from, int at, const char *to), SYS_renameat2, in, from, at,
         to, 0)
