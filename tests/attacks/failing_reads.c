/* Loaded before the C library (LD_PRELOAD): reads of the spool's files fail, FAILS_PER_MILLE of them, by SEED. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static __thread unsigned state = 0;

static int fails(int file) {
  const char *per_mille = getenv("FAILS_PER_MILLE"), *seed = getenv("SEED");
  char link[64], path[512];
  if (!state) state = atoi(seed ? seed : "1") * 7919 + 13;
  if (!per_mille || (int)(rand_r(&state) % 1000) >= atoi(per_mille)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, "spool.sqlite3") != NULL;
}

#define READ(name, parameters, arguments)                  \
  ssize_t name parameters {                                \
    static ssize_t(*original) parameters;                  \
    if (!original) original = dlsym(RTLD_NEXT, #name);     \
    if (fails(file)) return errno = EIO, -1;               \
    return original arguments;                             \
  }

READ(read, (int file, void *to, size_t size), (file, to, size))
READ(pread, (int file, void *to, size_t size, off_t at), (file, to, size, at))
READ(pread64, (int file, void *to, size_t size, off64_t at), (file, to, size, at))
